"""Images that are no limb radiograph, to try abstention on: nothing is ever fitted to them.

Each is drawn as the file a user might send, of any aspect ratio, and fitted to the square as
`bonexray.images.read_square` does. A stranger that filled the square would be told by its frame.

n images of a kind, S their side in pixels, h x w a picture before it is letterboxed.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

from bonexray.images import Pixels, letterbox
from components.simulator.film import develop, draw_exposure

Floats = NDArray[np.floating]
Draw = Callable[[int, int, np.random.Generator], Pixels]

_ASPECTS = (0.5, 2.0)  # height over width: nine in ten radiographs lie between
_WORDS = (
    "patient", "name", "date", "of", "birth", "report", "findings", "the", "in", "with", "no",
    "evidence", "and", "left", "right", "view", "impression", "history", "study", "normal",
    "requested", "by", "ward", "dear", "colleague", "thank", "you", "for", "12.03.", "4711",
)  # fmt: skip
_TISSUE, _LUNG, _BONE = 1.0, -0.75, 0.35  # attenuation through the whole depth, of the simulator's


def draw_strangers(good: Pixels, size: int, count: int, seed: int) -> dict[str, Pixels]:
    """Kind -> (n, S, S) uint8, `count` of each.

    Args:
        good: (m, S, S) limb radiographs, letterboxed, to turn upside down.
        size: S.
        count: n.
        seed: of everything drawn.
    """
    kinds: dict[str, Draw] = {
        "text pages": draw_page,
        "photographs": draw_photograph,
        "noise": draw_noise,
        "blank images": draw_blank,
        "chest radiographs": draw_chest,
    }
    drawn = {
        name: _draw_kind(draw, size, count, np.random.default_rng([seed, number]))
        for number, (name, draw) in enumerate(kinds.items())
    }
    chosen = np.random.default_rng([seed, len(kinds)]).integers(len(good), size=count)
    return {**drawn, "inverted radiographs": np.stack([inverted(view) for view in good[chosen]])}


def other_parts(parts: NDArray[np.integer], count: int, seed: int) -> NDArray[np.integer]:
    """A body part other than its own (n,), below `count`, that each view is claimed to show."""
    steps = np.random.default_rng(seed).integers(1, count, len(parts))
    return np.asarray((parts + steps) % count)


def inverted(view: Pixels) -> Pixels:
    """The radiograph (S, S) with air bright and bone dark; the letterbox about it stays black.

    Polarity is upside down in a file, before it is letterboxed.
    """
    top, left = _margin(view), _margin(view.T)
    turned = np.zeros_like(view)
    inside = np.s_[top : len(view) - top, left : len(view) - left]
    turned[inside] = 255 - view[inside]
    return turned


def draw_page(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """A page of text in paragraphs, dark on light or light on dark, sometimes turned."""
    paper = int(rng.integers(190, 256))
    page = Image.new("L", (width, height), paper)
    draw = ImageDraw.Draw(page)
    line_px = float(rng.uniform(0.03, 0.08)) * max(height, width)
    font, ink = _font(max(6, round(line_px))), int(rng.integers(0, 70))
    margin, top = float(rng.uniform(0.03, 0.12)) * width, float(rng.uniform(0.02, 0.12)) * height
    right = width - margin
    while top < height - margin:
        left = margin
        end = right if rng.random() < 0.75 else float(rng.uniform(margin, right))
        while True:
            word = str(rng.choice(_WORDS))
            length = draw.textlength(word + " ", font)
            if left + length > max(end, margin + length):
                break
            draw.text((left, top), word, ink, font)
            left += length
        top += line_px * (1.3 if rng.random() < 0.8 else float(rng.uniform(1.8, 3.0)))
    turned = page.rotate(float(rng.choice((0, 0, 0, 180, 2, -3))), fillcolor=paper)
    pixels = np.asarray(turned)
    return np.asarray(255 - pixels, np.uint8) if rng.random() < 0.3 else pixels


def draw_photograph(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """A part of one of scikit-learn's two photographs in grey, sometimes mirrored."""
    photograph = _photographs()[int(rng.integers(2))]
    zoom = float(rng.uniform(0.35, 1.0)) * min(photograph.width / width, photograph.height / height)
    wide, high = int(zoom * width), int(zoom * height)
    left = int(rng.integers(photograph.width - wide + 1))
    top = int(rng.integers(photograph.height - high + 1))
    box = (left, top, left + wide, top + high)
    part = photograph.resize((width, height), Image.Resampling.BILINEAR, box)
    grey = (np.asarray(part, np.float64) / 255) ** rng.uniform(0.6, 1.7)
    return _to_pixels(grey[:, ::-1] if rng.random() < 0.5 else grey)


def draw_noise(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Noise: white, smooth as in natural images, salt and pepper, or waves of grey."""
    kind = rng.integers(4)
    if kind == 0:
        noise: Floats = rng.standard_normal((height, width))
    elif kind == 1:
        noise = _falling_noise(height, width, float(rng.uniform(0.5, 2.0)), rng)
    elif kind == 2:
        share = rng.uniform(0.02, 0.5)
        spots = rng.random((height, width))
        noise = 0.05 * rng.standard_normal((height, width))
        noise += (spots < share / 2) * 1.0 - (spots > 1 - share / 2)
    else:
        x, y = _grid(height, width)
        angle, waves = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 6)
        noise = np.sin(waves * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(0, 6))
        noise += rng.uniform(0, 0.3) * rng.standard_normal((height, width))
    noise -= noise.mean()
    spread = rng.uniform(0.08, 0.3)
    return _to_pixels(rng.uniform(0.2, 0.6) + spread * noise / max(float(noise.std()), 1e-6))


def draw_blank(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Black, white or one grey, sometimes with a detector's noise and the slope of its beam."""
    grey = float(rng.choice((0.0, 1.0, *rng.uniform(0, 1, 6))))
    field = np.full((height, width), grey)
    if rng.random() < 0.5:
        x, y = _grid(height, width)
        field += rng.normal(0, 0.05) * x + rng.normal(0, 0.05) * y
        field += rng.uniform(0.004, 0.03) * rng.standard_normal((height, width))
    return _to_pixels(field)


def draw_chest(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """A chest radiograph, taken and shown as the simulator's limbs are.

    Exposure, grain, window and marker are the limbs' own; only the anatomy tells it.
    """
    x, y = _grid(height, width)
    scale = np.float32(rng.uniform(0.85, 1.05))
    x, y = (x - rng.normal(0, 0.04)) * scale, (y * height / width - rng.normal(0, 0.05)) * scale
    tilt = rng.normal(0, 0.03)
    x, y = (x + tilt * y).astype(np.float32), (y - tilt * x).astype(np.float32)
    signal = np.maximum(_flesh(x, y, rng) + _bones(x, y, rng), 0)
    side = str(rng.choice(("L", "R")))
    return develop(signal, draw_exposure(rng), side, False, rng)


def _flesh(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """Attenuation (h, w) of body, lungs with their vessels, heart and diaphragm."""
    trunk = _soft((rng.uniform(0.80, 0.90) - 0.08 * y - np.abs(x)) / 0.05)
    # The shoulders slope from the neck; the arms hang down beside the trunk.
    slope = -0.92 + 0.55 * np.maximum(np.abs(x) - 0.2, 0) ** 1.3
    below = _soft((y - slope) / 0.05)
    arms = _soft((0.16 - np.abs(np.abs(x) - 1.06)) / 0.04)
    flesh = _TISSUE * np.maximum(trunk * below, 0.6 * arms * below)
    flesh = np.maximum(flesh, _TISSUE * 0.7 * _within(x, y, (0, -1.1), (0.26, 0.5), 0.05))
    lungs = np.zeros_like(x)
    for side in (-1, 1):
        centre = side * rng.uniform(0.40, 0.45), rng.uniform(-0.14, -0.06)
        lean = x + side * 0.16 * (y + 0.1)  # the apices lie nearer to the spine than the bases
        lung = _within(lean, y, centre, (rng.uniform(0.29, 0.34), rng.uniform(0.60, 0.70)), 0.06)
        # A dome of the diaphragm cuts the lung off below; the right one stands higher.
        dome = rng.uniform(0.30, 0.42) - (side < 0) * 0.06 + 0.9 * (x - centre[0]) ** 2
        lungs = np.maximum(lungs, lung * _soft((dome - y) / 0.04))
    grain = _falling_noise(len(x), x.shape[1], 1.2, rng)
    root = np.exp(-(((np.abs(x) - 0.2) / 0.16) ** 2) - ((y + 0.02) / 0.25) ** 2)
    airy = _LUNG * rng.uniform(0.85, 1.1) * lungs * (1 - 0.35 * root) * (1 + 0.06 * grain)
    semi = rng.uniform(0.24, 0.36), rng.uniform(0.28, 0.36)
    heart = _within(x + 0.25 * (y - 0.2), y, (rng.uniform(0.1, 0.16), 0.2), semi, 0.05)
    middle = np.maximum(heart, _band(x, 0.17))
    return np.asarray(flesh + airy + 0.55 * middle * np.maximum(lungs, 0.25 * trunk * below))


def _bones(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """Attenuation (h, w) of spine, ribs, collar bones, shoulder blades and upper arms."""
    out = np.abs(x)
    vertebrae = 0.75 + 0.25 * np.sign(np.sin(2 * np.pi * y / 0.11))
    dense = _BONE * _band(x, 0.085) * vertebrae
    spacing, slope = rng.uniform(0.125, 0.155), rng.uniform(0.3, 0.5)
    for crest in -0.72 + spacing * np.arange(10):
        reach = 0.40 + 0.38 * np.sqrt(max(0.0, 1 - ((crest - 0.1) / 0.95) ** 2))
        own = _BONE * _soft((reach - out) / 0.03)
        dense += 0.45 * own * _band(y - crest + 0.10 * out - slope * x * x, 0.026)
        before = y - crest - 0.12 - slope * (reach - out)
        dense += 0.22 * own * _band(before, 0.024) * (out > 0.28)
    collar = y + 0.74 + 0.16 * out - 0.12 * np.sin(4 * out)
    dense += 0.6 * _BONE * _band(collar, 0.028) * _soft((0.78 - out) / 0.02)
    dense += 0.3 * _BONE * _within(out + 0.15 * y, y, (0.68, -0.42), (0.14, 0.36), 0.03)
    arm = _soft((0.07 - np.abs(out - 1.04)) / 0.02) * _soft((y + 0.66) / 0.03)
    head = _within(out, y, (0.96, -0.62), (0.13, 0.13), 0.02)
    return np.asarray(dense + 0.9 * _BONE * np.maximum(arm, head))


def _draw_kind(draw: Draw, size: int, count: int, rng: np.random.Generator) -> Pixels:
    squares = np.empty((count, size, size), np.uint8)
    for square in squares:
        aspect = float(np.exp(rng.uniform(*np.log(_ASPECTS))))
        if draw is draw_chest:
            aspect = float(rng.uniform(0.8, 1.3))
        height, width = round(size * min(1, aspect)), round(size * min(1, 1 / aspect))
        square[:] = letterbox(draw(height, width, rng), size)
    return squares


def _margin(view: Pixels) -> int:
    """How many rows at either end hold nothing; a letterbox leaves as many at both.

    A picture with a black edge of its own is thought smaller than it is, mostly by a pixel.
    """
    filled = np.flatnonzero(view.max(axis=1))
    return int(min(filled[0], len(view) - 1 - filled[-1])) if len(filled) else 0


def _grid(height: int, width: int) -> tuple[Floats, Floats]:
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    return x, y


def _falling_noise(height: int, width: int, power: float, rng: np.random.Generator) -> Floats:
    """Noise (h, w) of unit variance whose amplitude falls with frequency to that power."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    white = np.fft.rfft2(rng.standard_normal((height, width)))
    falling = np.maximum(frequency, 1 / max(height, width)) ** -power
    noise = np.fft.irfft2(white * falling, s=(height, width))
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-9))


@lru_cache(maxsize=32)
def _font(height_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height_px)


@lru_cache(maxsize=1)
def _photographs() -> list[Image.Image]:
    return [Image.fromarray(image).convert("L") for image in load_sample_images().images]


def _within(
    x: Floats, y: Floats, centre: tuple[float, float], semi: tuple[float, float], edge: float
) -> Floats:
    """1 inside an ellipse, falling to 0 over an edge."""
    radius = np.sqrt(((x - centre[0]) / semi[0]) ** 2 + ((y - centre[1]) / semi[1]) ** 2)
    return _soft((1 - radius) * min(semi) / edge)


def _band(distance: Floats, half: float) -> Floats:
    """1 where the distance is small, falling to 0 about `half`."""
    squared = (distance / half) ** 2
    return np.asarray(np.exp(-np.minimum(squared * squared, 50)))


def _soft(inside: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-4 * np.clip(inside, -10, 10))))


def _to_pixels(grey: Floats) -> Pixels:
    return (np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)
