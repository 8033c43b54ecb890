"""The bones of the arm as solid bodies, in a frame that all limb parts share. Knows no illness.

Frame, in mm: x to the thumb's side of the limb, y away from the trunk, z to the palm's side. The
elbow is at (0, 0, 0).
"""

import numpy as np

from components.simulator.anatomy import SPONGY, Build, Joint, Point
from components.simulator.shapes import Structure


def forearm_bones(build: Build) -> list[Structure]:
    """Radius and ulna, which move with the hand when the elbow bends."""
    radius = (
        build.shaft((13, 6, 0), (13, 238, 0), (8, 6.3, 10.0), 3.0, flare=0.22, bend=(6, 0, 2)),
        build.shaft((16, 180, 1), (13, 244, 0), (4, 6.0, 12.5), 1.6, flare=0.9, wide=(1.15, 0, 0)),
        build.ball((12, 237, 0), (15.5, 8.5, 9.5), 1.4),
        build.ball((22, 241, 0), (5.5, 8.5, 6), tilt=0.2),
        build.shaft((13, 0, 0), (13, 16, 0), (10.5, 8.5, 6.5), 1.4),
        build.ball((10, 34, 2), (4, 9, 4)),
    )
    ulna = (
        build.shaft((-8, -4, -3), (-15, 238, 0), (11, 6.0, 7.2), 3.0, flare=0.3, bend=(0, 0, -3)),
        build.ball((-6, -6, -7), (8.5, 14, 8)),
        build.ball((-6, 14, 4), (8, 8, 7)),
        build.ball((-15, 234, 0), (7.6, 7.0, 7.0)),
        build.ball((-19, 240, -2), (2.6, 6, 3)),
    )
    return [
        Structure(name="radius", solids=radius, hinged=True),
        Structure(name="ulna", solids=ulna, hinged=True),
    ]


def humerus(build: Build) -> Structure:
    """The bone of the upper arm, its head towards the trunk."""
    solids = (
        build.shaft((3, -300, 0), (0, -8, 0), (19, 10.5, 9.5), 4.2, flare=0.28, bend=(2, 0, 3)),
        build.ball((-8, -299, 0), (22, 22, 22), 1.2, core=0.5 * SPONGY),
        build.shaft((-7, -300, 0), (3, -222, 0), (23, 16, 10.5), 1.6, flare=0.6),
        build.ball((12, -297, 4), (13, 19, 14), core=0.5 * SPONGY),
        build.shaft((-2, -85, 0), (-22, -10, 0), (8, 7.0, 8.5), 2.4),
        build.shaft((2, -85, 0), (19, -8, 0), (8, 7.0, 9.0), 2.4),
        build.ball((-1, -30, 0), (16, 26, 3.5), 1.4),
        build.shaft((-33, -17, -3), (26, -11, 0), (6, 9.5, 7), 1.2, flare=0.4),
        build.shaft((-20, -4, 3), (4, -4, 3), (11.5, 8.5, 9), 1.2),
        build.ball((13, -4, 4), (10.5, 9.5, 10)),
    )
    return Structure(name="humerus", solids=solids)


_CARPALS: dict[str, tuple[Point, Point, float]] = {
    "scaphoid": ((14, 254, 1), (6.6, 11.5, 7), 0.65),
    "lunate": ((2, 251, 0), (7.4, 6.8, 8), -0.2),
    "triquetrum": ((-10, 254, -1), (6.6, 7.4, 6.5), -0.7),
    "pisiform": ((-12, 255, 9), (4.4, 5.2, 4.4), 0.0),
    "trapezium": ((22, 265, 3), (7, 7.2, 7), 0.6),
    "trapezoid": ((13, 268, 0), (5.8, 6.6, 6.5), 0.2),
    "capitate": ((2, 266, 0), (6.6, 12, 8), 0.05),
    "hamate": ((-10, 267, 0), (8, 8.6, 8), -0.5),
}
# Per ray from the thumb: base (x, y), degrees to the thumb's side, metacarpal and phalanges in mm.
RAYS: dict[int, tuple[float, float, float, tuple[float, ...]]] = {
    1: (24, 272, 38, (45, 32, 24)),
    2: (12, 277, 9, (67, 41, 25, 18)),
    3: (2, 279, 1, (65, 45, 29, 19)),
    4: (-7, 278, -7, (58, 42, 28, 19)),
    5: (-15, 276, -16, (53, 34, 20, 17)),
}
_RADII: tuple[Point, ...] = ((7.6, 4.4, 6.9), (7.4, 4.3, 5.6), (5.9, 3.6, 4.6), (4.9, 2.5, 3.4))
_RAY_CORTEX_MM = (1.8, 1.6, 1.2, 0.8)


def carpals(build: Build) -> list[Structure]:
    """The eight bones of the wrist."""
    return [
        Structure(name=name, solids=(build.ball(centre, semi, 1.0, tilt=tilt),))
        for name, (centre, semi, tilt) in _CARPALS.items()
    ]


def ray(build: Build, number: int, fan: float) -> tuple[list[Structure], list[Joint]]:
    """Metacarpal and phalanges of one digit; bone k of digit n is called `n.k`."""
    x, y, degrees, lengths = RAYS[number]
    angle = np.radians(degrees * fan + build.rng.normal(0, 1.5))
    flexion = np.radians(build.rng.uniform(0, 7))
    start = np.array([x, y, 0.0])
    bones: list[Structure] = []
    joints: list[Joint] = []
    for k, length in enumerate(lengths):
        slope = flexion * k
        axis = np.array([np.sin(angle), np.cos(angle) * np.cos(slope), np.sin(slope)])
        end = start + axis * length
        radii = _RADII[k + (1 if number == 1 and k > 0 and k == len(lengths) - 1 else 0)]
        thick = 1.12 if number == 1 else 0.92 if number == 5 else 1.0
        shaft = build.shaft(
            tuple(start), tuple(end), tuple(np.array(radii) * thick), _RAY_CORTEX_MM[k], flare=0.42
        )
        tip = (build.ball(tuple(end - axis), (5, 3.5, 3.0)),) if k == len(lengths) - 1 else ()
        bones.append(Structure(name=f"{number}.{k}", solids=(shaft, *tip)))
        if k:
            joints.append(
                Joint(
                    proximal=f"{number}.{k - 1}",
                    distal=f"{number}.{k}",
                    centre=start - axis,
                    radius_mm=radii[0] * thick,
                )
            )
        start = end + axis * 2.2
    return bones, joints


def girdle(build: Build) -> list[Structure]:
    """Scapula and clavicle about a humeral head at the origin; the trunk is on the -x side."""
    scapula = (
        build.ball((-33, 3, -2), (6, 19, 12), 1.6),
        build.shaft((-37, 5, -6), (-58, 12, -12), (13, 11, 6), 1.4, flare=0.8),
        build.shaft((-40, 18, -8), (-82, 122, -22), (6, 4.6, 5), 1.8, bend=(4, 0, 0)),
        build.shaft((-100, -18, -30), (-82, 122, -22), (3, 2.4, 4), 1.0),
        build.shaft((-102, -2, -32), (-24, -30, -22), (4, 4.5, 6), 1.6),
        build.shaft((-30, -31, -22), (15, -34, -4), (5, 5.5, 4.5), 1.4),
        build.shaft((-40, -14, 4), (-21, -17, 26), (7, 5, 5), 1.4),
        build.ball((-73, 42, -22), (26, 70, 2.2), 0.5, tilt=0.2),
    )
    clavicle = (
        build.shaft((-4, -40, -2), (-72, -48, 14), (7, 5.6, 5.6), 1.8, bend=(0, -3, -8)),
        build.shaft((-66, -48, 13), (-150, -26, 34), (5.6, 5.8, 9), 1.8, bend=(0, 4, 8)),
    )
    return [
        Structure(name="scapula", solids=scapula),
        Structure(name="clavicle", solids=clavicle),
    ]


def ribs(build: Build) -> list[Structure]:
    """Six ribs beside the shoulder, each from the back around the chest to the front."""
    pairs = []
    for k in range(6):
        y, out = -22 + 25 * k, -64 - 30 * np.exp(-k / 1.6)
        side = (out, y + 25, -9)
        back = build.shaft((-175, y - 8, -40), side, (5, 4.4, 4.4), 1.3, bend=(6, -8, 0))
        front = build.shaft(side, (-165, y + 72, 55), (4.4, 4.2, 5), 1.2, bend=(16, 8, 0))
        pairs.append(Structure(name=f"rib {k}", solids=(back, front)))
    return pairs
