"""A patient's limb as bones, joints and flesh, and what makes one patient differ from another.

Knows no particular limb (`limbs` builds those), no illness, no camera and no labels.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from components.simulator.shapes import Ball, Shaft, Structure, Vector, turn

CORTICAL, SPONGY, MARROW, FLESH = 0.085, 0.036, 0.012, 0.011  # attenuation per mm
_ORIGIN: Vector = np.zeros(3)
Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """Two bones that meet, for what wears there."""

    proximal: str
    distal: str
    centre: Vector
    radius_mm: float
    axis: Vector = field(default_factory=lambda: np.array([0.0, 1.0, 0.0]))
    """Unit vector, in the plane of the first view, from the proximal bone to the distal one."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a long bone breaks or is fixed: shares of its length."""

    bone: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Anatomy:
    """One patient's limb part."""

    structures: tuple[Structure, ...]
    joints: tuple[Joint, ...]
    sites: tuple[Site, ...]
    centre: Vector
    """What the beam is centred on."""
    extent_mm: tuple[float, float]
    """Width and height of what an image shows."""
    turns_degrees: tuple[float, ...]
    """The usual views: how far the limb is turned about its length."""
    bends_degrees: tuple[float, ...] = (0.0,)
    """How far the elbow is bent in each of these views."""
    upside_down: bool = False
    left: bool = False

    def bone(self, name: str) -> Structure:
        """The first structure of that name."""
        return next(structure for structure in self.structures if structure.name == name)

    def without(self, name: str) -> tuple[Structure, ...]:
        """All structures but those of that name."""
        return tuple(structure for structure in self.structures if structure.name != name)

    def bent(self, degrees: float) -> "Anatomy":
        """The same limb with its elbow bent."""
        rotation = turn(np.array([1.0, 0.0, 0.0]), np.radians(degrees))
        moved = tuple(
            structure.moved(rotation, _ORIGIN, _ORIGIN) if structure.hinged else structure
            for structure in self.structures
        )
        return replace(self, structures=moved)


@dataclass(frozen=True, kw_only=True, eq=False)
class Build:
    """What makes one patient's bones differ from another's."""

    size: float
    slender: float
    density: float
    cortex: float
    flesh: float
    left: bool
    rng: np.random.Generator = field(repr=False)

    def at(self, point: Point, spread_mm: float = 0.6) -> Vector:
        """Where this patient has `point`."""
        return np.asarray(point, dtype=float) + self.rng.normal(0, spread_mm, 3)

    def shaft(
        self,
        start: Point,
        end: Point,
        radii: Point,
        cortex_mm: float,
        *,
        flare: float = 0.3,
        wide: Point = (1.0, 0.0, 0.0),
        bend: Point = (0.0, 0.0, 0.0),
    ) -> Shaft:
        """A long bone, or a beam of a flat one; see Shaft."""
        first, middle, last = np.array(radii) * self.slender * self.rng.normal(1, 0.04, 3)
        return Shaft(
            start=self.at(start),
            end=self.at(end),
            radii=(first, middle, last),
            shell=CORTICAL * self.density,
            core=MARROW * self.density,
            spongy=SPONGY * self.density,
            cortex_mm=cortex_mm * self.cortex,
            flare=flare,
            wide=np.array(wide),
            bend=np.array(bend) * self.rng.normal(1, 0.3),
        )

    def ball(
        self,
        centre: Point,
        semi: Point,
        cortex_mm: float = 1.0,
        *,
        tilt: float = 0.0,
        core: float = SPONGY,
    ) -> Ball:
        """A short bone, or the end of a long one, turned by `tilt` radians to the thumb's side."""
        return Ball(
            centre=self.at(centre),
            semi=np.array(semi) * self.slender * self.rng.normal(1, 0.05, 3),
            shell=CORTICAL * self.density,
            core=core * self.density,
            cortex_mm=cortex_mm * self.cortex,
            axes=turn(np.array([0.0, 0.0, 1.0]), -tilt + self.rng.normal(0, 0.06)),
        )

    def soft(self, start: Point, end: Point, radii: Point, wide: float = 1.0) -> Shaft:
        """Flesh around a line."""
        thick = np.array(radii) * (0.5 * self.slender + 0.5 * self.flesh)
        return Shaft(
            start=np.array(start, dtype=float),
            end=np.array(end, dtype=float),
            radii=(thick[0], thick[1], thick[2]),
            shell=FLESH,
            core=FLESH,
            spongy=FLESH,
            cortex_mm=0,
            flare=0.6,
            wide=np.array([wide, 0.0, 0.0]),
        )

    def lump(self, centre: Point, semi: Point, attenuation: float = FLESH) -> Ball:
        """Flesh around a point."""
        return Ball(
            centre=np.array(centre, dtype=float),
            semi=np.array(semi) * self.flesh,
            shell=attenuation,
            core=attenuation,
            cortex_mm=0,
        )


def draw_build(rng: np.random.Generator) -> Build:
    """Draw one patient."""
    return Build(
        size=float(rng.uniform(0.9, 1.1)),
        slender=float(rng.uniform(0.88, 1.14)),
        density=float(rng.uniform(0.8, 1.2)),
        cortex=float(rng.uniform(0.75, 1.3)),
        flesh=float(rng.uniform(0.85, 1.3)),
        left=bool(rng.random() < 0.5),
        rng=rng,
    )
