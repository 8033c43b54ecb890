"""One patient's studies as the images that a reader gets, and what is known of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from components import mura
from components.simulator.anatomy import Anatomy, Build, draw_build
from components.simulator.film import develop, draw_exposure
from components.simulator.lesions import HARDWARE, with_findings
from components.simulator.limbs import build_anatomy
from components.simulator.plan import Patient, Study
from components.simulator.radiograph import Camera, project
from components.simulator.shapes import Ball, Shaft, Structure, turn

_LONG_PX = (150, mura.HEIGHT_PX[1])
_CAST_SHARE = 0.04  # of studies, whatever their label: plaster must not tell it
_CAST_PARTS = {"XR_ELBOW", "XR_FOREARM", "XR_HUMERUS", "XR_WRIST"}
_PLASTER = 0.024  # attenuation per mm
_BOTH_HANDS_SHARE = 0.08  # of studies of the hand
_HAND_TO_HAND_MM = 205.0
_CUT_OFF_SHARE = 0.05  # of views
_MIRROR = np.diag([-1.0, 1.0, 1.0])

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of the image's width and height."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesion:
    """Where a finding is seen."""

    finding: str
    box: Box


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """One image, and what its maker knows of it."""

    pixels: Image
    """(H, W)."""
    marker: bool
    """Whether a side marker is on the film."""
    lesions: tuple[Lesion, ...]


def render_patient(patient: Patient, seed: int, difficulty: float) -> list[list[View]]:
    """Render all studies of one patient.

    The images follow from these arguments alone. All views of a study show one body.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, patient.number]))
    build = draw_build(rng)
    return [list(_render_study(study, build, rng, difficulty)) for study in patient.studies]


def _render_study(
    study: Study, build: Build, rng: np.random.Generator, difficulty: float
) -> Iterator[View]:
    anatomy = build_anatomy(study.part, build)
    if study.findings:
        anatomy = with_findings(anatomy, study.findings, rng, conspicuity(difficulty))
    if study.part in _CAST_PARTS and rng.random() < _CAST_SHARE:
        anatomy = replace(anatomy, structures=(*anatomy.structures, *plaster(anatomy)))
    both = study.part == "XR_HAND" and rng.random() < _BOTH_HANDS_SHARE
    usual = len(anatomy.turns_degrees)
    first = int(rng.integers(usual)) if rng.random() < 0.25 and not both else 0
    for k in range(study.views):
        which = (first + k) % usual
        bend = anatomy.bends_degrees[which % len(anatomy.bends_degrees)]
        posed = anatomy.bent(bend + rng.normal(0, 4))
        shown = beside_other_hand(posed, build) if both and which == 0 else posed
        camera = draw_camera(shown, anatomy.turns_degrees[which], rng)
        signal = project(shown.structures, camera)
        metal = HARDWARE in study.findings
        exposure = draw_exposure(rng)
        yield View(
            pixels=develop(signal, exposure, "L" if anatomy.left else "R", metal, rng),
            marker=exposure.marker is not None,
            lesions=tuple(find_lesions(shown, camera, exposure.lit)),
        )


def find_lesions(anatomy: Anatomy, camera: Camera, lit: Box) -> Iterator[Lesion]:
    """Where findings are seen: one box a place, clipped to what of the image is `lit`."""
    balls: dict[tuple[str, str], list[Ball]] = {}
    for structure in anatomy.structures:
        for mark in structure.marks:
            balls.setdefault((mark.finding, mark.place), []).extend(mark.balls)
    for (finding, _), own in balls.items():
        box = _box_around(own, camera, lit)
        if box is not None:
            yield Lesion(finding=finding, box=box)


def _box_around(balls: Sequence[Ball], camera: Camera, lit: Box) -> Box | None:
    """None when less than a pixel of it is lit."""
    size_px = np.array([camera.width_px, camera.height_px])
    right, down, _ = camera.rotation
    middles = np.array([camera.see(ball.centre)[:2] for ball in balls])
    halves = np.array([[ball.reach(right), ball.reach(down)] for ball in balls])
    shares = camera.px_per_mm / size_px  # of width and height, per mm
    low = np.maximum(0.5 + (middles - halves).min(axis=0) * shares, lit[:2])
    high = np.minimum(0.5 + (middles + halves).max(axis=0) * shares, lit[2:])
    if ((high - low) * size_px < 1).any():
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def conspicuity(difficulty: float) -> float:
    """How plain findings are, as a factor on their size and density; 1 at difficulty 0.5."""
    return float(np.interp(difficulty, (0.0, 0.5, 1.0), (4.0, 1.0, 0.2)))


def plaster(anatomy: Anatomy) -> Iterator[Structure]:
    """A cast around the arm: a shell about its thick tubes of flesh."""
    for flesh in anatomy.structures:
        tubes = [
            replace(
                solid,
                radii=(_over(solid.radii[0]), _over(solid.radii[1]), _over(solid.radii[2])),
                shell=_PLASTER,
                core=0.0,
                spongy=0.0,
                cortex_mm=5.0,
            )
            for solid in flesh.solids
            if flesh.soft and isinstance(solid, Shaft) and solid.radii[1] > 20
        ]
        if tubes:
            yield Structure(name="cast", solids=tuple(tubes), hinged=flesh.hinged)


def _over(flesh_mm: float) -> float:
    return 1.08 * flesh_mm + 3


def beside_other_hand(anatomy: Anatomy, build: Build) -> Anatomy:
    """The hand beside the patient's other, healthy one, both palms down."""
    other = build_anatomy("XR_HAND", build)
    away = np.array([_HAND_TO_HAND_MM * build.size, 0.0, 0.0])
    about = np.zeros(3)
    mirrored = tuple(bone.moved(_MIRROR, about, away) for bone in other.structures)
    width, height = anatomy.extent_mm
    return replace(
        anatomy,
        structures=(*anatomy.structures, *mirrored),
        centre=anatomy.centre * np.array([0.0, 1.0, 1.0]) + away / 2,
        extent_mm=(width + away[0], height),
    )


def draw_camera(anatomy: Anatomy, turn_degrees: float, rng: np.random.Generator) -> Camera:
    """Where the detector stands: about the usual place, and sometimes well beside it."""
    width_mm, height_mm = np.array(anatomy.extent_mm) * rng.uniform(0.92, 1.12, 2)
    px_per_mm = int(rng.integers(_LONG_PX[0], _LONG_PX[1] + 1)) / max(width_mm, height_mm)
    about_x, about_z = np.radians(rng.normal(0, 3, 2))
    rotation = turn(np.array([0.0, 0.0, 1.0]), about_z) @ turn(np.array([1.0, 0.0, 0.0]), about_x)
    rotation = rotation @ turn(
        np.array([0.0, 1.0, 0.0]), np.radians(turn_degrees + rng.normal(0, 5))
    )
    if anatomy.upside_down:
        rotation = np.diag([-1.0, -1.0, 1.0]) @ rotation
    if anatomy.left:
        rotation = _MIRROR @ rotation
    spread = 0.2 if rng.random() < _CUT_OFF_SHARE else 0.02
    return Camera(
        rotation=rotation,
        centre=anatomy.centre + rng.normal(0, spread, 3) * min(anatomy.extent_mm),
        px_per_mm=px_per_mm,
        height_px=max(round(height_mm * px_per_mm), mura.HEIGHT_PX[0]),
        width_px=max(round(width_mm * px_per_mm), mura.WIDTH_PX[0]),
    )
