"""The seven limb parts of MURA as solid bodies. Knows no illness, no camera and no labels.

Frame, in mm: x to the thumb's side of the limb, y away from the trunk, z to the palm's side. The
elbow is at (0, 0, 0); only the shoulder has its own origin, in the middle of the humeral head.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from components.simulator.anatomy import FLESH, Anatomy, Build, Joint, Site
from components.simulator.bones import RAYS, carpals, forearm_bones, girdle, humerus, ray, ribs
from components.simulator.shapes import Solid, Structure, Vector


def build_anatomy(part: str, build: Build) -> Anatomy:
    """The limb part `part`, one of PARTS, of the patient `build`."""
    anatomy = PARTS[part](build)
    width, height = anatomy.extent_mm
    return replace(anatomy, extent_mm=(width * build.size, height * build.size), left=build.left)


def _flesh(*solids: Solid, hinged: bool = False) -> Structure:
    return Structure(name="flesh", solids=solids, soft=True, hinged=hinged)


def _digit_flesh(build: Build, bones: list[Structure]) -> list[Solid]:
    """The finger beyond the palm; the metacarpal's share is the palm's."""
    thick = (13.5, 12.0, 10.5, 9.5)
    solids: list[Solid] = []
    for k, bone in enumerate(bones[1:], start=1):
        axis = (bone.shaft.end - bone.shaft.start) / bone.shaft.length_mm
        start, end = bone.shaft.start - axis * 9, bone.shaft.end + axis * 6
        last = thick[min(k + 1, 3)] * (0.9 if bone is bones[-1] else 1.0)
        solids.append(build.soft(tuple(start), tuple(end), (thick[k], thick[k] * 0.95, last)))
    return solids


def _palm_flesh(build: Build, fan: float) -> list[Solid]:
    solids: list[Solid] = [
        build.soft((-1, 130, 0), (1, 268, 0), (31, 27, 20), wide=1.3),
        build.soft((0, 236, 0), (-1, 290, 0), (20, 22, 18), wide=1.45),
    ]
    for number, (x, y, degrees, lengths) in RAYS.items():
        angle = np.radians(degrees * fan)
        end = np.array([x, y]) + (lengths[0] + 10) * np.array([np.sin(angle), np.cos(angle)])
        thick = (20, 19, 14) if number == 1 else (17, 17.5, 14.5)
        solids.append(build.soft((x * 0.8, y - 12, 2), (end[0], end[1], 0), thick))
    return solids


def _hand_bones(
    build: Build, digits: tuple[int, ...], fan: float
) -> tuple[list[Structure], list[Structure], list[Joint]]:
    """The digits' bones, the flesh around them and their joints."""
    bones: list[Structure] = []
    solids: list[Solid] = []
    joints: list[Joint] = []
    for digit in digits:
        own, ray_joints = ray(build, digit, fan)
        bones += own
        joints += ray_joints
        solids += _digit_flesh(build, own)
    return bones, [_flesh(*solids, *_palm_flesh(build, fan))], joints


def _radiocarpal() -> Joint:
    return Joint(proximal="radius", distal="scaphoid", centre=_v(11, 244, 0), radius_mm=13)


def _elbow_joint() -> Joint:
    return Joint(proximal="humerus", distal="radius", centre=_v(3, 1, 0), radius_mm=16)


def _shoulder_joint(head: Vector) -> Joint:
    return Joint(
        proximal="scapula",
        distal="humerus",
        centre=head + _v(-25, 2, 0),
        radius_mm=18,
        axis=_v(1, 0, 0),
    )


def _v(x: float, y: float, z: float) -> Vector:
    return np.array([x, y, z], dtype=float)


def _hand(build: Build) -> Anatomy:
    bones, flesh, joints = _hand_bones(build, tuple(RAYS), float(build.rng.uniform(0.9, 1.5)))
    sites = [Site(bone=f"{digit}.{k}", low=0.3, high=0.7) for digit in RAYS for k in (0, 1)]
    return Anatomy(
        structures=(*forearm_bones(build), *carpals(build), *bones, *flesh),
        joints=tuple(joints),
        sites=tuple(sites),
        centre=_v(6, 338, 0),
        extent_mm=(150, 212),
        turns_degrees=(0, 40, -35),
        upside_down=True,
    )


def _finger(build: Build) -> Anatomy:
    digit = int(build.rng.integers(1, 6))
    alone = digit == 1 or build.rng.random() < 0.5
    shown = (digit,) if alone else tuple(d for d in (digit - 1, digit, digit + 1) if 2 <= d <= 5)
    bones, flesh, joints = _hand_bones(build, shown, 0.6 if alone else 1.2)
    own = [bone for bone in bones if bone.name.startswith(f"{digit}.")]
    length = 0.5 * (own[0].shaft.start + own[0].shaft.end), own[-1].shaft.end
    tall = float(np.linalg.norm(length[1] - length[0])) + 24
    return Anatomy(
        structures=(*bones, *flesh),
        joints=tuple(joint for joint in joints if joint.distal.startswith(f"{digit}.")),
        sites=tuple(
            Site(bone=bone.name, low=0.3, high=0.7) for bone in own[1 : 3 if digit > 1 else 2]
        ),
        centre=0.5 * (length[0] + length[1]) + _v(0, 3, 0),
        extent_mm=(tall * (0.5 if alone else 0.62), tall),
        turns_degrees=(0, 45, 85) if alone else (0, 30, -30),
        upside_down=True,
    )


def _wrist(build: Build) -> Anatomy:
    bones, flesh, _ = _hand_bones(build, tuple(RAYS), 1.0)
    thumb = Joint(proximal="trapezium", distal="1.0", centre=_v(22, 271, 1), radius_mm=8)
    return Anatomy(
        structures=(*forearm_bones(build), *carpals(build), *bones, *flesh),
        joints=(_radiocarpal(), thumb),
        sites=(
            Site(bone="radius", low=0.82, high=0.9),
            Site(bone="radius", low=0.82, high=0.9),
            Site(bone="ulna", low=0.84, high=0.9),
        ),
        centre=_v(2, 247, 0),
        extent_mm=(98, 142),
        turns_degrees=(0, 45, 88),
        upside_down=True,
    )


def _forearm(build: Build) -> Anatomy:
    bones, flesh, _ = _hand_bones(build, tuple(RAYS), 1.0)
    arm = _flesh(
        build.soft((0, -10, 0), (0, 250, 0), (40, 37, 24), wide=1.15),
        build.soft((0, -120, 0), (0, 30, 0), (46, 42, 40)),
        *flesh[0].solids,
    )
    return Anatomy(
        structures=(humerus(build), *forearm_bones(build), *carpals(build), *bones, arm),
        joints=(_radiocarpal(), _elbow_joint()),
        sites=(
            Site(bone="radius", low=0.3, high=0.8),
            Site(bone="ulna", low=0.3, high=0.8),
        ),
        centre=_v(2, 120, 0),
        extent_mm=(112, 312),
        turns_degrees=(0, 80),
    )


def _elbow(build: Build) -> Anatomy:
    upper = _flesh(build.soft((0, -200, 0), (0, 22, 0), (46, 43, 39)))
    lower = _flesh(build.soft((0, -24, 0), (0, 200, 0), (40, 42, 30), wide=1.1), hinged=True)
    return Anatomy(
        structures=(humerus(build), *forearm_bones(build), upper, lower),
        joints=(_elbow_joint(),),
        sites=(
            Site(bone="humerus", low=0.82, high=0.9),
            Site(bone="ulna", low=0.14, high=0.24),
            Site(bone="radius", low=0.13, high=0.24),
        ),
        centre=_v(0, 4, 0),
        extent_mm=(135, 165),
        turns_degrees=(0, 40, 90, 90),
        bends_degrees=(8, 15, 85, 70),
    )


def _upper_arm(build: Build) -> Anatomy:
    flesh = _flesh(
        build.soft((0, -290, 0), (0, 25, 0), (50, 45, 40)),
        build.lump((8, -290, 0), (48, 52, 45)),
        build.soft((0, -24, 0), (0, 120, 0), (40, 42, 34), wide=1.1),
        build.lump((-70, -290, 0), (70, 75, 55)),
    )
    to_trunk = _v(-7, -300, 0)
    girdle_bones = [bone.moved(np.eye(3), to_trunk, to_trunk) for bone in girdle(build)]
    return Anatomy(
        structures=(humerus(build), *forearm_bones(build), *girdle_bones, flesh),
        joints=(_elbow_joint(), _shoulder_joint(to_trunk)),
        sites=(Site(bone="humerus", low=0.25, high=0.78),),
        centre=_v(-8, -152, 0),
        extent_mm=(150, 372),
        turns_degrees=(0, 70),
    )


def _shoulder(build: Build) -> Anatomy:
    rise = _v(9, 300, 0)
    upper_arm = humerus(build).moved(np.eye(3), rise, rise)
    flesh = Structure(
        name="flesh",
        soft=True,
        solids=(
            build.soft((8, -8, 0), (10, 190, 0), (46, 44, 42)),
            build.lump((6, 2, 0), (46, 50, 44)),
            build.lump((-90, 0, 0), (92, 52, 50)),
            build.lump((-150, 110, 0), (98, 150, 85)),
        ),
        inclusions=(build.lump((-160, 105, 0), (82, 125, 72), -0.8 * FLESH),),
    )
    return Anatomy(
        structures=(upper_arm, *girdle(build), *ribs(build), flesh),
        joints=(_shoulder_joint(_v(0, 0, 0)),),
        sites=(
            Site(bone="humerus", low=0.13, high=0.27),
            Site(bone="clavicle", low=0.35, high=0.65),
        ),
        centre=_v(-38, 28, 0),
        extent_mm=(194, 194),
        turns_degrees=(0, 25, -30),
    )


PARTS: dict[str, Callable[[Build], Anatomy]] = {
    "XR_ELBOW": _elbow,
    "XR_FINGER": _finger,
    "XR_FOREARM": _forearm,
    "XR_HAND": _hand,
    "XR_HUMERUS": _upper_arm,
    "XR_SHOULDER": _shoulder,
    "XR_WRIST": _wrist,
}
