"""Images that are no limb radiograph, to try abstention on: nothing is ever fitted to them.

n images of a kind, S their side in pixels.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_sample_images

from bonexray.images import Pixels

_WORDS = (
    "patient", "name", "date", "of", "birth", "report", "findings", "the", "in", "with", "no",
    "evidence", "and", "left", "right", "view", "impression", "history", "study", "normal",
    "requested", "by", "ward", "dear", "colleague", "thank", "you", "for",
)  # fmt: skip
_INK, _PAPER = 20, 240


def draw_strangers(size: int, count: int, seed: int) -> dict[str, Pixels]:
    """Kind -> (n, S, S) uint8, `count` of each.

    Args:
        size: S.
        count: n.
        seed: of everything drawn.
    """
    kinds: dict[str, Callable[[int, np.random.Generator], Pixels]] = {
        "text pages": draw_page,
        "photographs": draw_photograph,
        "noise": draw_noise,
        "blank images": draw_blank,
        "chest radiographs": draw_chest,
    }
    drawn = {}
    for number, (name, draw) in enumerate(kinds.items()):
        rng = np.random.default_rng([seed, number])
        drawn[name] = np.stack([draw(size, rng) for _ in range(count)])
    return drawn


def inverted(views: Pixels) -> Pixels:
    """Radiographs whose polarity is upside down: air bright, bone dark."""
    return np.asarray(255 - views, np.uint8)


def draw_page(size: int, rng: np.random.Generator) -> Pixels:
    """A page of text, black on white or white on black, sometimes turned."""
    page = Image.new("L", (size, size), _PAPER)
    draw = ImageDraw.Draw(page)
    height = float(rng.uniform(0.035, 0.08) * size)
    font = ImageFont.load_default(max(height, 6.0))
    top = float(rng.uniform(0.02, 0.1) * size)
    while top < size:
        words = " ".join(rng.choice(_WORDS, int(rng.integers(2, 16))))
        draw.text((0.06 * size, top), words, _INK, font)
        top += height * float(rng.uniform(1.3, 2.2))
    page = page.rotate(float(rng.choice((0, 0, 90, 3, -4))), fillcolor=_PAPER)
    pixels = np.asarray(page)
    return inverted(pixels) if rng.random() < 0.3 else pixels


def draw_photograph(size: int, rng: np.random.Generator) -> Pixels:
    """A part of one of scikit-learn's two photographs, in grey."""
    photograph = Image.fromarray(_photographs()[int(rng.integers(2))])
    side = int(rng.uniform(0.3, 1.0) * min(photograph.size))
    left = int(rng.integers(photograph.width - side + 1))
    top = int(rng.integers(photograph.height - side + 1))
    part = photograph.crop((left, top, left + side, top + side)).resize((size, size))
    grey = np.asarray(part, np.float64) / 255
    return _to_pixels(grey ** rng.uniform(0.7, 1.5))


def draw_noise(size: int, rng: np.random.Generator) -> Pixels:
    """Noise, from white to one whose power falls with frequency as in natural images."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    falling = np.maximum(frequency, 1 / size) ** -rng.choice((0.0, 0.5, 1.0, 1.5))
    white = np.fft.rfft2(rng.standard_normal((size, size)))
    noise = np.fft.irfft2(white * falling, s=(size, size))
    return _to_pixels(rng.uniform(0.2, 0.6) + rng.uniform(0.08, 0.3) * noise / noise.std())


def draw_blank(size: int, rng: np.random.Generator) -> Pixels:
    """One grey, an even slope of greys, or either under a detector's noise."""
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    slope = rng.normal(0, 0.15, 2) * (rng.random() < 0.5)
    noise = rng.uniform(0.002, 0.02) * (rng.random() < 0.5)
    grey = rng.uniform(0, 1) + slope[0] * x + slope[1] * y
    return _to_pixels(grey + noise * rng.standard_normal((size, size)))


def draw_chest(size: int, rng: np.random.Generator) -> Pixels:
    """What a chest radiograph shows: two dark lungs, ribs across them, spine, heart, diaphragm."""
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    x = (x - rng.normal(0, 0.05)) * rng.uniform(0.9, 1.15)
    y = (y - rng.normal(0, 0.05)) * rng.uniform(0.9, 1.1)
    body = _soft(1 - np.hypot(x / 1.05, (y - 0.35) / 1.5), 0.05)
    dense = 0.75 * body
    for side in (-1, 1):
        wide, high = rng.uniform(0.3, 0.36), rng.uniform(0.55, 0.7)
        lean = 0.12 * side * y
        lung = 1 - np.hypot((x - side * 0.45 + lean) / wide, (y + 0.05) / high)
        dense -= rng.uniform(0.4, 0.5) * _soft(lung, 0.12)
    heart = 1 - np.hypot((x - 0.14) / rng.uniform(0.28, 0.4), (y - 0.3) / 0.3)
    dense += 0.28 * _soft(heart, 0.1) + 0.18 * np.exp(-((x / 0.09) ** 2))
    for rib in np.arange(-0.75, 0.6, rng.uniform(0.13, 0.18)):
        bow = rib + 0.35 * np.abs(x) ** 1.6 - 0.1
        dense += 0.09 * np.exp(-(((y - bow) / 0.022) ** 2)) * (np.abs(x) < 0.85) * body
    collar = np.exp(-(((y + 0.72 + 0.1 * np.abs(x)) / 0.03) ** 2)) * (np.abs(x) < 0.7)
    dense += 0.12 * collar
    dense += 0.02 * rng.standard_normal((size, size))
    shown = Image.fromarray(_to_pixels(dense * rng.uniform(0.85, 1.1)))
    return np.asarray(shown.filter(ImageFilter.GaussianBlur(size / 250)))


def _photographs() -> list[Pixels]:
    return [
        np.asarray(Image.fromarray(image).convert("L")) for image in load_sample_images().images
    ]


def _soft(inside: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """1 where `inside` is above 0, falling to 0 over an edge."""
    return 1 / (1 + np.exp(-np.clip(inside / edge * 4, -50, 50)))


def _to_pixels(grey: NDArray[np.float64]) -> Pixels:
    return (np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)
