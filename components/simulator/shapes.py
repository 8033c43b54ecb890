"""Solid bodies: tubes and ellipsoids in millimetres, how they move and where they are cut.

Knows geometry and attenuation per millimetre, no anatomy, no rays and no labels.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

NO_BEND: Vector = np.zeros(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A half-space: keeps the points x for which normal . (x - point) <= 0."""

    normal: Vector
    point: Vector
    roughness_mm: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Shaft:
    """A bent tube of changing radius. Its ends are rounded; its cortex thins towards them."""

    start: Vector
    end: Vector
    radii: tuple[float, float, float]
    """At the start, along the middle and at the end."""
    shell: float
    """Attenuation of the cortex per mm."""
    core: float
    """Attenuation of the marrow per mm; towards the ends it grows to `spongy`."""
    spongy: float
    cortex_mm: float
    flare: float = 0.3
    """Share of the length over which an end's radius passes into the middle's."""
    wide: Vector = field(default_factory=lambda: np.array([1.0, 0.0, 0.0]))
    """Direction in which the cross-section is stretched, and by its length how far."""
    bend: Vector = field(default_factory=lambda: NO_BEND)
    """Where the axis' middle lies beside the straight line."""
    cuts: tuple[Cut, ...] = ()

    def point(self, s: float) -> Vector:
        """The axis at share `s` of the length."""
        return self.start + s * (self.end - self.start) + 4 * s * (1 - s) * self.bend

    @property
    def length_mm(self) -> float:
        """From start to end, straight."""
        return float(np.linalg.norm(self.end - self.start))

    def moved(self, rotation: Vector, about: Vector, shift: Vector) -> "Shaft":
        """The same tube turned about a point, then shifted."""
        move = _Move(rotation, about, shift)
        return replace(
            self,
            start=move.point(self.start),
            end=move.point(self.end),
            wide=rotation @ self.wide,
            bend=rotation @ self.bend,
            cuts=move.cuts(self.cuts),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Ball:
    """An ellipsoid with a shell."""

    centre: Vector
    semi: Vector
    """Half-axes in mm."""
    shell: float
    core: float
    cortex_mm: float
    axes: Vector = field(default_factory=lambda: np.eye(3))
    """(3, 3): one unit vector a row, for each half-axis."""
    cuts: tuple[Cut, ...] = ()

    def moved(self, rotation: Vector, about: Vector, shift: Vector) -> "Ball":
        """The same ellipsoid turned about a point, then shifted."""
        move = _Move(rotation, about, shift)
        return replace(
            self,
            centre=move.point(self.centre),
            axes=self.axes @ rotation.T,
            cuts=move.cuts(self.cuts),
        )

    def reach(self, direction: Vector) -> float:
        """How far it extends from its centre along a unit vector, in mm. Ignores cuts."""
        return float(np.linalg.norm(self.semi * (self.axes @ direction)))


Solid = Shaft | Ball


@dataclass(frozen=True, kw_only=True, eq=False)
class Mark:
    """What a finding covers: attenuates nothing, and moves with the structure that shows it."""

    finding: str
    place: str
    """Marks of one finding at one place are one, whichever structures carry them."""
    balls: tuple[Ball, ...]

    def moved(self, rotation: Vector, about: Vector, shift: Vector) -> "Mark":
        """The same mark turned about a point, then shifted."""
        return replace(self, balls=tuple(ball.moved(rotation, about, shift) for ball in self.balls))

    def cut(self, cut: Cut) -> "Mark":
        """Those of its balls that reach into what the cut keeps, whole."""
        return replace(
            self,
            balls=tuple(
                ball
                for ball in self.balls
                if cut.normal @ (ball.centre - cut.point) <= ball.reach(cut.normal)
            ),
        )


@dataclass(frozen=True)
class _Move:
    rotation: Vector
    about: Vector
    shift: Vector

    def point(self, point: Vector) -> Vector:
        return self.about + self.rotation @ (point - self.about) + self.shift

    def cuts(self, cuts: tuple[Cut, ...]) -> tuple[Cut, ...]:
        return tuple(
            replace(cut, normal=self.rotation @ cut.normal, point=self.point(cut.point))
            for cut in cuts
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """One bone, one implant or the soft tissue: where its solids overlap, the densest counts."""

    name: str
    solids: tuple[Solid, ...]
    inclusions: tuple[Solid, ...] = ()
    """Added to the solids; a negative attenuation takes away, never below nothing."""
    soft: bool = False
    """Is one body with all other soft tissue, and has no sharp edge."""
    hinged: bool = False
    """Moves with the limb beyond the joint that the anatomy can bend."""
    marks: tuple[Mark, ...] = ()

    @property
    def shaft(self) -> Shaft:
        """The tube that gives a long bone its axis."""
        first = self.solids[0]
        assert isinstance(first, Shaft), f"{self.name} is no long bone"
        return first

    def moved(self, rotation: Vector, about: Vector, shift: Vector) -> "Structure":
        """The same structure turned about a point, then shifted."""
        return replace(
            self,
            solids=tuple(solid.moved(rotation, about, shift) for solid in self.solids),
            inclusions=tuple(solid.moved(rotation, about, shift) for solid in self.inclusions),
            marks=tuple(mark.moved(rotation, about, shift) for mark in self.marks),
        )

    def marked(self, finding: str, place: str, *balls: Ball) -> "Structure":
        """The same structure, known to show a finding."""
        mark = Mark(finding=finding, place=place, balls=balls)
        return replace(self, marks=(*self.marks, mark))

    def cut(self, cut: Cut) -> "Structure":
        """What the cut keeps of it."""

        def halved(solids: tuple[Solid, ...]) -> tuple[Solid, ...]:
            return tuple(replace(solid, cuts=(*solid.cuts, cut)) for solid in solids)

        return replace(
            self,
            solids=halved(self.solids),
            inclusions=halved(self.inclusions),
            marks=tuple(mark.cut(cut) for mark in self.marks),
        )


def turn(axis: Vector, radians: float) -> Vector:
    """The (3, 3) rotation about `axis`, by Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: Vector = np.eye(3) + np.sin(radians) * skew + (1 - np.cos(radians)) * skew @ skew
    return rotation
