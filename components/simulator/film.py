"""The picture that a reader sees of a detector's signal. Knows no body and no label.

H, W: image rows and columns.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]

_WINDOW_PERCENTILES = (4.0, 97.0)
_HIGHLIGHT_QUANTILES = (0.92, 0.96, 0.985, 0.995, 1.0)
_HIGHLIGHT_COURSE = (0.0, 0.3, 0.6, 0.85, 1.0)
_LEAD = 3.0  # attenuation of a side marker
_LETTERS = {
    "L": ("1000", "1000", "1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1001", "1110", "1100", "1010", "1001"),
}


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How one image is taken and shown; drawn apart from the body, so that it tells no label."""

    photons: float
    """Per pixel in air: fewer give more noise."""
    energy: float
    """Scale of attenuation: a harder beam sees less contrast."""
    scatter: float
    """Share of the beam that reaches every pixel alike."""
    heel: tuple[float, float]
    """How much the beam falls off along x and y."""
    vignette: float
    brightness: float
    """Mean of the greys in [0, 1]."""
    contrast: float
    """Standard deviation of the greys in [0, 1]."""
    gamma: float
    highlights: float
    """How far the brightest greys lie above the rest, in units of the window."""
    shut: tuple[float, float, float, float]
    """Share of the image in shadow at the left, top, right and bottom."""
    marker: tuple[float, float] | None
    """Where the side marker lies, as shares of width and height."""

    @property
    def lit(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what is not in shadow, as shares of the image."""
        left, top, right, bottom = self.shut
        return left, top, 1 - right, 1 - bottom


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw the settings of one image."""
    left, top, right, bottom = rng.uniform(0.01, 0.10, 4) * (rng.random(4) < 0.3)
    marked = rng.random() < 0.25
    corner = rng.uniform(0.04, 0.12, 2) + rng.integers(0, 2, 2) * 0.74
    return Exposure(
        photons=float(np.exp(rng.uniform(np.log(300), np.log(8000)))),
        energy=float(rng.uniform(0.85, 1.15)),
        scatter=float(rng.uniform(0.01, 0.04)),
        heel=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05))),
        vignette=float(rng.uniform(0, 0.12)),
        brightness=float(rng.uniform(0.19, 0.42)),
        contrast=float(rng.uniform(0.12, 0.25)),
        gamma=float(rng.uniform(0.9, 1.15)),
        highlights=float(rng.uniform(0.25, 0.5)),
        shut=(float(left), float(top), float(right), float(bottom)),
        marker=(float(corner[0]), float(corner[1])) if marked else None,
    )


def develop(
    signal: Array, exposure: Exposure, side: str, metal: bool, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Turn line integrals into the (H, W) grey image that a reader sees, bone bright.

    Beam, scatter and noise are applied to the transmitted intensity, the window to its logarithm.

    Args:
        signal: (H, W) line integrals of attenuation.
        exposure: the settings of this image.
        side: "L" or "R", what a marker says.
        metal: whether an implant is in the image; it burns out, whatever the exposure.
        rng: for texture and noise.
    """
    height, width = signal.shape
    signal = signal * _texture(signal.shape, rng)
    if exposure.marker is not None:
        _lay_marker(signal, exposure.marker, side)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    beam = 1 + exposure.heel[0] * x + exposure.heel[1] * y - exposure.vignette * (x * x + y * y)
    light = np.exp(-exposure.energy * _blurred(signal)) * np.maximum(beam, 0.2) + exposure.scatter
    light += rng.standard_normal(signal.shape, dtype=np.float32) * np.sqrt(light / exposure.photons)
    grey = -np.log(np.maximum(light, 1e-3))
    left, top, right, bottom = exposure.shut
    lit = (x > 2 * left - 1) & (x < 1 - 2 * right) & (y > 2 * top - 1) & (y < 1 - 2 * bottom)
    return _windowed(grey, lit, metal, exposure)


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Bone and flesh are not even: (H, W) factors about 1, with a fine and a coarse grain."""
    texture = np.ones(shape, dtype=np.float32)
    for grain_px, strength in ((3, 0.03), (24, 0.04)):
        coarse = rng.standard_normal(
            (shape[0] // grain_px + 2, shape[1] // grain_px + 2), dtype=np.float32
        )
        fine = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
        texture += strength * np.asarray(fine)
    return texture


def _lay_marker(signal: Array, place: tuple[float, float], side: str) -> None:
    height, width = signal.shape
    dot_px = max(1, round(max(height, width) / 130))
    letter = np.array([[dot == "1" for dot in row] for row in _LETTERS[side]])
    stamp = np.kron(letter, np.ones((dot_px, dot_px), dtype=bool))
    left, top = round(place[0] * width), round(place[1] * height)
    under = signal[top : top + stamp.shape[0], left : left + stamp.shape[1]]
    under[stamp[: under.shape[0], : under.shape[1]]] += _LEAD


def _blurred(signal: Array) -> Array:
    rows = np.pad(signal, ((1, 1), (0, 0)), mode="edge")
    signal = np.float32(0.25) * (rows[:-2] + 2 * signal + rows[2:])
    columns = np.pad(signal, ((0, 0), (1, 1)), mode="edge")
    return np.float32(0.25) * (columns[:, :-2] + 2 * signal + columns[:, 2:])


def _windowed(
    grey: Array, lit: NDArray[np.bool_], metal: bool, exposure: Exposure
) -> NDArray[np.uint8]:
    low, high = np.percentile(grey[lit][::7], _WINDOW_PERCENTILES)
    scale = max(float(high) - float(low), 0.1)
    above: Array = np.maximum(grey - np.float32(low), 0) / np.float32(scale)
    shown: Array = np.power(above, np.float32(exposure.gamma))
    if not metal:
        _level_highlights(shown, shown[lit][::7], exposure)
    gain, offset = _automatic_exposure(shown[lit][::7], exposure)
    shown = np.where(lit, shown * np.float32(gain) + np.float32(offset), np.float32(0))
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8)


def _level_highlights(shown: Array, sample: Array, exposure: Exposure) -> None:
    """Give the brightest greys the exposure's own course, as a film's shoulder does.

    Hardened bone is denser than the rest; without this the highest percentiles would tell the
    label before anything is seen.
    """
    measured = np.quantile(sample, _HIGHLIGHT_QUANTILES)
    measured += np.arange(len(measured)) * 1e-6  # np.interp wants them to rise
    wanted = measured[0] + exposure.highlights * np.array(_HIGHLIGHT_COURSE)
    bright = shown > measured[0]
    shown[bright] = np.interp(shown[bright], measured, wanted)


def _automatic_exposure(sample: Array, exposure: Exposure) -> tuple[float, float]:
    """The gain and offset that give the exposure's brightness and contrast after clipping.

    An implant is denser than any bone, so without this the mean or the spread of an image's greys
    would tell its label.
    """
    gain, offset = exposure.contrast / max(float(sample.std()), 0.05), 0.0
    for _ in range(5):
        shown = np.clip(sample * gain + offset, 0, 1)
        gain *= exposure.contrast / max(float(shown.std()), 0.05)
        offset += exposure.brightness - float(shown.mean())
    return gain, offset
