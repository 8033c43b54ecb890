"""Metal in a bone: plates, nails and wires, and the spot where they are put.

Knows no camera and no image.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from components.simulator.shapes import Shaft, Structure, Vector

METAL = 0.5  # attenuation per mm


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """The spot on one long bone where it breaks, is fixed or is eaten away."""

    bone: str
    s: float
    """Share of the bone's length."""
    side: Vector
    """Unit vector across the bone."""


def radius_at(shaft: Shaft, s: float) -> float:
    """Radius of a bone at share `s` of its length, in mm."""
    first, middle, last = shaft.radii
    near_first, near_last = max(1 - s / shaft.flare, 0) ** 2, max(1 - (1 - s) / shaft.flare, 0) ** 2
    return middle + (first - middle) * near_first + (last - middle) * near_last


def _metal_rod(start: Vector, end: Vector, radius: float, wide: Vector | None = None) -> Shaft:
    return Shaft(
        start=start,
        end=end,
        radii=(radius, radius, radius),
        shell=METAL,
        core=METAL,
        spongy=METAL,
        cortex_mm=0,
        wide=np.array([1.0, 0.0, 0.0]) if wide is None else wide,
    )


def remade(rod: Shaft, plain: float) -> Shaft:
    """The same rod, thicker when plain, of a lighter material (as carbon is) when faint."""
    attenuation = METAL * min(plain, 1.0) ** 2
    thicker = float(np.clip(plain, 1.0, 1.5))
    radii = (rod.radii[0] * thicker, rod.radii[1] * thicker, rod.radii[2] * thicker)
    return replace(rod, shell=attenuation, core=attenuation, radii=radii)


def plate(bone: Structure, place: Place, rng: np.random.Generator) -> tuple[Shaft, ...]:
    """A plate along the bone, held by screws through it."""
    shaft = bone.shaft
    radius = radius_at(shaft, place.s)
    half = min(rng.uniform(4.0, 6.5) * radius / shaft.length_mm, 0.36)
    low, high = max(place.s - half, 0.04), min(place.s + half, 0.96)
    side = place.side
    tangent = np.cross((shaft.end - shaft.start) / shaft.length_mm, side)
    lift = side * (radius + 1.0)
    thick = 0.2 * radius + 0.6
    strip = _metal_rod(shaft.point(low) + lift, shaft.point(high) + lift, thick, tangent * 2.4)
    screws = [
        _metal_rod(
            shaft.point(s) + lift,
            shaft.point(s) - side * (radius_at(shaft, s) + rng.uniform(0.5, 3)),
            thick * 0.75,
        )
        for s in np.linspace(low, high, int(rng.integers(4, 8)) + 2)[1:-1]
    ]
    return (strip, *screws)


def nail(bone: Structure, place: Place, rng: np.random.Generator) -> tuple[Shaft, ...]:
    """A nail inside the marrow, locked by screws at its ends."""
    shaft = bone.shaft
    radius = shaft.radii[1]
    low, high = rng.uniform(0.04, 0.12), rng.uniform(0.85, 0.95)
    rod = replace(
        _metal_rod(shaft.point(low), shaft.point(high), radius * 0.5),
        bend=shaft.bend * (high - low) ** 2,
    )
    locks = [
        _metal_rod(
            shaft.point(s) - place.side * radius_at(shaft, s) * 1.2,
            shaft.point(s) + place.side * radius_at(shaft, s) * 1.2,
            0.16 * radius + 0.4,
        )
        for s in (low + 0.05, high - 0.05, high - 0.12)
    ]
    return (rod, *locks)


def wires(bone: Structure, place: Place, rng: np.random.Generator) -> tuple[Shaft, ...]:
    """Pins that cross in the bone."""
    shaft = bone.shaft
    radius = radius_at(shaft, place.s)
    solids = []
    for sign in (-1, 1, rng.uniform(-0.3, 0.3)):
        reach = rng.uniform(3.0, 4.5) * radius / shaft.length_mm
        low, high = max(place.s - reach, -0.02), min(place.s + reach, 1.02)
        lean = sign * place.side * radius * rng.uniform(0.7, 1.2)
        solids.append(
            _metal_rod(shaft.point(low) - lean, shaft.point(high) + lean, 0.10 * radius + 0.5)
        )
    return tuple(solids)


IMPLANTS: tuple[Callable[[Structure, Place, np.random.Generator], tuple[Shaft, ...]], ...] = (
    plate,
    plate,
    nail,
    wires,
)
