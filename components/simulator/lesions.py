"""What makes a limb abnormal, in three dimensions, so that every view of a study shows it.

Shares follow the 100 abnormal MURA studies that were read again: 53 with a fracture, 48 with
hardware, 35 degenerated, 29 with another finding; many with two. Knows no camera and no image.
"""

from dataclasses import replace

import numpy as np

from components.simulator.anatomy import CORTICAL, Anatomy, Joint, Site
from components.simulator.implants import IMPLANTS, Place, radius_at, remade
from components.simulator.shapes import Ball, Cut, Shaft, Structure, Vector, turn

_NO_TURN: Vector = np.eye(3)
_NO_SHIFT: Vector = np.zeros(3)
_SPUR: Vector = np.array([1.3, 0.8, 1.0])
_END_RADII = 1.5  # of the bone: how far the end of a slanting break reaches

FRACTURE, HARDWARE, DEGENERATION, LESION = "fracture", "hardware", "degeneration", "lesion"
_SHARES: dict[tuple[str, ...], float] = {
    (FRACTURE,): 0.08,
    (HARDWARE,): 0.11,
    (DEGENERATION,): 0.08,
    (LESION,): 0.08,
    (FRACTURE, HARDWARE): 0.27,
    (DEGENERATION, FRACTURE): 0.10,
    (LESION, FRACTURE): 0.08,
    (DEGENERATION, HARDWARE): 0.07,
    (LESION, HARDWARE): 0.03,
    (DEGENERATION, LESION): 0.10,
}


def draw_findings(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw one or two findings, in the order in which they are to be applied."""
    findings = list(_SHARES)
    return findings[int(rng.choice(len(findings), p=list(_SHARES.values())))]


def with_findings(
    anatomy: Anatomy, findings: tuple[str, ...], rng: np.random.Generator, plain: float
) -> Anatomy:
    """The same limb with these findings.

    A broken bone that is also fixed was set: its pieces stand closer, and the implant is there.

    Args:
        anatomy: a healthy limb.
        findings: what `draw_findings` gave.
        rng: for places and sizes.
        plain: how conspicuous all findings are; 1 is usual, 0 leaves nothing to see.
    """
    place = _draw_place(anatomy, rng)
    ill = anatomy
    if DEGENERATION in findings:
        ill = degenerate(ill, rng, plain)
    if LESION in findings:
        elsewhere = place if len(findings) == 1 else _draw_place(anatomy, rng)
        ill = grow_lesion(ill, elsewhere, rng, plain)
    if FRACTURE in findings:
        ill = fracture(ill, place, rng, plain * (0.5 if HARDWARE in findings else 1.0))
        second = _draw_place(anatomy, rng)
        if HARDWARE not in findings and second.bone != place.bone and rng.random() < 0.7:
            ill = fracture(ill, second, rng, plain)
    if HARDWARE in findings:
        implant = IMPLANTS[int(rng.integers(len(IMPLANTS)))]
        solids = implant(anatomy.bone(place.bone), place, rng)
        hinged = anatomy.bone(place.bone).hinged
        faint = tuple(remade(solid, plain) for solid in solids)
        metal = Structure(name="implant", solids=faint, hinged=hinged)
        metal = metal.marked(HARDWARE, place.bone, *(disc for rod in faint for disc in _discs(rod)))
        ill = replace(ill, structures=(*ill.structures, metal))
    return ill


def _draw_place(anatomy: Anatomy, rng: np.random.Generator) -> Place:
    site: Site = anatomy.sites[int(rng.integers(len(anatomy.sites)))]
    shaft = anatomy.bone(site.bone).shaft
    # Mostly in the plane of the first view, so that no view looks along the whole displacement.
    angle = rng.normal(0, 0.6) + (np.pi if rng.random() < 0.5 else 0)
    side = np.array([np.cos(angle), 0.0, np.sin(angle)])
    return Place(
        bone=site.bone, s=float(rng.uniform(site.low, site.high)), side=_across(shaft, side)
    )


def _across(shaft: Shaft, direction: Vector) -> Vector:
    axis = (shaft.end - shaft.start) / shaft.length_mm
    side = direction - (direction @ axis) * axis
    return side / np.linalg.norm(side)


def _discs(rod: Shaft) -> tuple[Ball, ...]:
    """Across a rod at its ends and its middle: what they span is what the rod covers."""
    axis, wide = (rod.end - rod.start) / rod.length_mm, _across(rod, rod.wide)
    flat = rod.radii[1] * np.array([np.linalg.norm(rod.wide), 1.0, 0.0])
    axes = np.array([wide, np.cross(axis, wide), axis])
    return tuple(replace(_sphere(rod.point(s), flat, 0.0), axes=axes) for s in (0.0, 0.5, 1.0))


def fracture(anatomy: Anatomy, place: Place, rng: np.random.Generator, severity: float) -> Anatomy:
    """Break a bone in two; each piece swings about its own joint, so the ends part."""
    bone = anatomy.bone(place.bone)
    shaft = bone.shaft
    axis = (shaft.end - shaft.start) / shaft.length_mm
    radius = radius_at(shaft, place.s)
    slant = turn(np.cross(axis, place.side), rng.uniform(-0.7, 0.7))
    cut = Cut(
        normal=slant @ axis, point=shaft.point(place.s), roughness_mm=float(rng.uniform(0, 1.0))
    )
    other = replace(cut, normal=-cut.normal)
    # Told apart at 96 px: what a whole arm's image shows must part more than a finger's.
    apart = radius * rng.uniform(1.4, 2.2) + max(anatomy.extent_mm) * rng.uniform(0.012, 0.024)
    apart *= severity
    hinge = np.cross(axis, place.side)
    near, far = place.s * shaft.length_mm, (1 - place.s) * shaft.length_mm
    share = far / (near + far)
    # The shorter piece swings more; both ends leave the axis, on opposite sides.
    first = turn(hinge, min(apart * (1 - share) / near, 0.5))
    last = turn(hinge, min(apart * share / far, 0.5))
    gap = axis * radius * rng.uniform(0.3, 1.1) * severity
    # Each piece carries a mark at its end, so that they part as the ends do.
    end = _sphere(shaft.point(place.s), np.full(3, _END_RADII * radius), 0.0)
    near_piece, far_piece = (
        bone.cut(side).marked(FRACTURE, place.bone, end) for side in (cut, other)
    )
    near_piece = near_piece.moved(first, shaft.start, -0.5 * gap)
    far_piece = far_piece.moved(last, shaft.end, 0.5 * gap)
    return replace(anatomy, structures=(*anatomy.without(place.bone), near_piece, far_piece))


def _sphere(centre: Vector, semi: Vector, attenuation: float) -> Ball:
    return Ball(centre=centre, semi=semi, shell=attenuation, core=attenuation, cortex_mm=0)


def _hardened(radius: float) -> float:
    """Attenuation per mm of hardened bone: a thick bone hardens less than all through."""
    return CORTICAL * min(float(np.power(6.0 / radius, 0.7)), 1.2)


def grow_lesion(anatomy: Anatomy, place: Place, rng: np.random.Generator, plain: float) -> Anatomy:
    """A hole with a dense rim, a bone blown up around a hole, or a dense region."""
    bone = anatomy.bone(place.bone)
    radius = radius_at(bone.shaft, place.s)
    centre = bone.shaft.point(place.s) + place.side * radius * rng.uniform(0, 0.4)
    rim_mm = 0.6 + 0.12 * radius
    kind = ("lytic", "expansile", "blastic")[int(rng.integers(3))]
    size = radius * rng.uniform(1.15, 1.5) + 0.009 * max(anatomy.extent_mm)
    size *= min(0.5 + 0.5 * plain, 1.5)
    dense = CORTICAL * min(plain, 2.0)
    semi = size * np.array([1.0, rng.uniform(1.2, 1.9), 1.0])
    if kind == "blastic":
        seen = _sphere(centre, semi * 0.95, 1.1 * min(plain, 2.0) * _hardened(radius))
        ill = replace(bone, inclusions=(*bone.inclusions, seen))
    elif kind == "lytic":
        hole = _sphere(centre, semi * 1.05, -0.85 * dense)
        seen = replace(_sphere(centre, semi * 1.15, dense), core=0.0, cortex_mm=rim_mm)
        ill = replace(bone, inclusions=(*bone.inclusions, hole, seen))
    else:
        seen = Ball(
            centre=centre,
            semi=semi * 1.5,
            shell=1.2 * dense,
            core=0.1 * dense,
            cortex_mm=rim_mm,
        )
        hole = _sphere(centre, semi * 1.3, -0.4 * dense)
        ill = replace(bone, solids=(*bone.solids, seen), inclusions=(*bone.inclusions, hole))
    ill = ill.marked(LESION, place.bone, seen)
    return replace(anatomy, structures=(*anatomy.without(place.bone), ill))


def degenerate(anatomy: Anatomy, rng: np.random.Generator, plain: float) -> Anatomy:
    """Wear joints: the bones close up, harden below the surface and grow spurs."""
    worn = max(1, round(len(anatomy.joints) * rng.uniform(0.4, 0.8)))
    for k in rng.permutation(len(anatomy.joints))[:worn]:
        anatomy = _wear(anatomy, anatomy.joints[int(k)], rng, plain)
    return anatomy


def _worn(centre: Vector, axis: Vector, semi: Vector, attenuation: float) -> Ball:
    """An ellipsoid whose half-axes run across the joint, along it and towards the viewer."""
    across = np.array([axis[1], -axis[0], 0.0])
    axes = np.array([across, axis, [0.0, 0.0, 1.0]])
    return replace(_sphere(centre, semi, attenuation), axes=axes)


def _wear(anatomy: Anatomy, joint: Joint, rng: np.random.Generator, plain: float) -> Anatomy:
    radius, axis = joint.radius_mm, joint.axis
    across = np.array([axis[1], -axis[0], 0.0])
    slip = across * rng.uniform(0.1, 0.3) * rng.choice((-1, 1)) * plain
    for side, name in ((-1, joint.proximal), (1, joint.distal)):
        bone = anatomy.bone(name)
        near = joint.centre + axis * side * 0.3 * radius
        dense = rng.uniform(0.35, 0.6) * plain * _hardened(radius)
        hard = _worn(near, axis, radius * np.array([1.15, 0.55, 0.9]), dense)
        spurs = [
            _worn(near + lean * radius * across, axis, radius * size * _SPUR, 0.7 * CORTICAL)
            for lean, size in zip((-1.15, 1.15), rng.uniform(0.4, 0.6, 2) * plain, strict=True)
        ]
        ill = replace(bone, solids=(*bone.solids, *spurs), inclusions=(*bone.inclusions, hard))
        ill = ill.marked(DEGENERATION, f"{joint.proximal} {joint.distal}", hard, *spurs)
        # Closer, and sideways: a worn joint slips.
        ill = ill.moved(_NO_TURN, _NO_SHIFT, radius * side * (slip - 0.08 * min(plain, 1.0) * axis))
        anatomy = replace(anatomy, structures=(*anatomy.without(name), ill))
    return anatomy
