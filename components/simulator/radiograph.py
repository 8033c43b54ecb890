"""What reaches a detector through solid bodies: the attenuation along parallel rays.

Knows shapes, no anatomy, no labels and no picture: `components.simulator.film` develops that.

Frames: a body is in millimetres. A camera looks along its own z; its x runs right and its y runs
down the image. H, W: image rows and columns. h, w: those of a solid's own box.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.simulator.shapes import Ball, Cut, Shaft, Solid, Structure, Vector

Array = NDArray[np.float32]
Box = tuple[slice, slice]

_STEPS = 1024  # of a shaft's radius table
# A ray along a shaft's axis has no finite chord through the endless cylinder that stands for it.
_MIN_OBLIQUITY = 0.15
_SOFT_EDGE_MM = 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """Where the detector stands."""

    rotation: Vector
    """(3, 3): the camera's axes as rows, in the body's frame."""
    centre: Vector
    """The body's point in the middle of the image."""
    px_per_mm: float
    height_px: int
    width_px: int

    def see(self, point: Vector) -> Vector:
        """A body's point in the camera's frame, in mm."""
        return self.rotation @ (point - self.centre)

    def box(self, points: Sequence[Vector], margin_mm: float) -> Box | None:
        """The pixels around `points`, seen; None when they are outside of the image."""
        seen = np.array(points)[:, :2]
        middle = np.array([self.width_px - 1, self.height_px - 1]) / 2
        low = np.floor((seen.min(axis=0) - margin_mm) * self.px_per_mm + middle).astype(int)
        high = np.ceil((seen.max(axis=0) + margin_mm) * self.px_per_mm + middle).astype(int) + 1
        low = np.maximum(low, 0)
        high = np.minimum(high, [self.width_px, self.height_px])
        if (low >= high).any():
            return None
        return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))

    def grid(self, box: Box) -> tuple[Array, Array]:
        """The box' pixels in mm: x (1, w) and y (h, 1)."""
        rows, columns = (np.arange(side.start, side.stop, dtype=np.float32) for side in box)
        x = (columns - (self.width_px - 1) / 2) / self.px_per_mm
        y = (rows - (self.height_px - 1) / 2) / self.px_per_mm
        return x[None, :].astype(np.float32), y[:, None].astype(np.float32)


def project(structures: Iterable[Structure], camera: Camera) -> Array:
    """The (H, W) line integrals of attenuation through all structures."""
    film = np.zeros((camera.height_px, camera.width_px), dtype=np.float32)
    flesh = np.zeros_like(film)
    for structure in structures:
        own = flesh if structure.soft else np.zeros_like(film)
        for box, line in _seen(structure.solids, camera):
            np.maximum(own[box], line, out=own[box])
        for box, line in _seen(structure.inclusions, camera):
            own[box] = np.maximum(own[box] + line, 0)
        if own is not flesh:
            film += own
    return film + _softened(flesh, 1 + round(_SOFT_EDGE_MM * camera.px_per_mm))


def _seen(solids: Iterable[Solid], camera: Camera) -> Iterator[tuple[Box, Array]]:
    return filter(None, (attenuation(solid, camera) for solid in solids))


def _softened(flesh: Array, width_px: int) -> Array:
    """The mean over `width_px`, twice along each axis."""
    for _ in range(2):
        for axis in (0, 1):
            pad = [(0, 0), (0, 0)]
            pad[axis] = (width_px // 2 + 1, (width_px - 1) // 2)
            total = np.cumsum(np.pad(flesh, pad, mode="edge"), axis=axis)
            size = flesh.shape[axis]
            late = np.take(total, np.arange(width_px, width_px + size), axis=axis)
            early = np.take(total, np.arange(size), axis=axis)
            flesh = (late - early) / np.float32(width_px)
    return flesh


def attenuation(solid: Solid, camera: Camera) -> tuple[Box, Array] | None:
    """The line integral of a solid's attenuation.

    Returns:
        The box it covers and its (h, w) integrals; None when it is outside of the image.
    """
    if isinstance(solid, Shaft):
        return _shaft_attenuation(solid, camera)
    return _ball_attenuation(solid, camera)


def _ball_attenuation(ball: Ball, camera: Camera) -> tuple[Box, Array] | None:
    centre = camera.see(ball.centre)
    box = camera.box([centre], float(ball.semi.max()))
    if box is None:
        return None
    x, y = camera.grid(box)
    axes = ball.axes @ camera.rotation.T
    line = np.float32(ball.shell) * _ball_chord(ball, ball.semi, axes, centre, camera, x, y)
    if ball.core != ball.shell:
        semi = np.maximum(ball.semi - ball.cortex_mm, 0.1)
        inner = _ball_chord(ball, semi, axes, centre, camera, x, y)
        line -= np.float32(ball.shell - ball.core) * inner
    return box, line


def _ball_chord(
    ball: Ball, semi: Vector, axes: Vector, centre: Vector, camera: Camera, x: Array, y: Array
) -> Array:
    # A ray is (x, y, t). Inside: a t^2 + 2 b t + c <= 0, with the ellipsoid's quadratic form.
    form = ((axes / semi[:, None] ** 2).T @ axes).astype(np.float32)
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    b = form[2, 0] * x + form[2, 1] * y  # (h, w)
    c = form[0, 0] * x * x + 2 * form[0, 1] * x * y + form[1, 1] * y * y - 1
    half: Array = np.sqrt(np.maximum(b * b - form[2, 2] * c, 0)) / form[2, 2]
    if not ball.cuts:
        return 2 * half
    middle = centre[2].astype(np.float32) - b / form[2, 2]
    return _cut_chord(middle, half, ball.cuts, camera, x + centre[0], y + centre[1])


def _shaft_attenuation(shaft: Shaft, camera: Camera) -> tuple[Box, Array] | None:
    start, end = camera.see(shaft.start), camera.see(shaft.end)
    bend, wide = camera.rotation @ shaft.bend, camera.rotation @ shaft.wide
    stretch = max(float(np.linalg.norm(wide)), 1.0)
    margin = max(shaft.radii) * stretch + float(np.linalg.norm(bend))
    box = camera.box([start, end], margin)
    if box is None:
        return None
    axis = end - start
    seen_length = max(float(np.hypot(axis[0], axis[1])), 1e-3)
    x, y = camera.grid(box)
    along, across = axis[:2] / seen_length, np.array([-axis[1], axis[0]]) / seen_length
    s = _project(x - start[0], y - start[1], along / seen_length)  # (h, w) share of the length
    bow = 4 * s * (1 - s)
    offset = _project(x - start[0], y - start[1], across)
    offset -= np.float32(bend[:2] @ across) * bow
    depth = np.float32(start[2]) + np.float32(axis[2]) * s + np.float32(bend[2]) * bow
    outer, inner, density = _radius_tables(shaft)
    step = np.clip(s * (_STEPS - 1) + 0.5, 0, _STEPS - 1).astype(np.int32)
    step = np.where((s < 0) | (s > 1), 0, step)
    form = _cross_section(axis, wide, across)

    def chord(radius: Array) -> Array:
        half, middle = _tube_chord(radius, offset, form)
        if not shaft.cuts:
            return 2 * half
        return _cut_chord(middle + depth, half, shaft.cuts, camera, x, y)

    line = shaft.shell * chord(outer[step])
    if shaft.core != shaft.shell:
        line -= density[step] * chord(inner[step])
    return box, line


def _project(x: Array, y: Array, direction: Vector) -> Array:
    return x.astype(np.float32) * np.float32(direction[0]) + y.astype(np.float32) * np.float32(
        direction[1]
    )


def _radius_tables(shaft: Shaft) -> tuple[Array, Array, Array]:
    """Over the length: outer radius, marrow's radius, how much less dense the marrow is."""
    s = np.linspace(0, 1, _STEPS)
    first, middle, last = shaft.radii
    to_first = np.maximum(1 - s / shaft.flare, 0) ** 2
    to_last = np.maximum(1 - (1 - s) / shaft.flare, 0) ** 2
    outer = middle + (first - middle) * to_first + (last - middle) * to_last
    caps = 0.6 * np.array([first, last]) / shaft.length_mm
    beyond = np.maximum(np.maximum(1 - s / caps[0], 1 - (1 - s) / caps[1]), 0)
    outer = outer * np.sqrt(np.maximum(1 - beyond**2, 0))
    near_end = np.maximum(to_first, to_last)
    inner = np.maximum(outer - shaft.cortex_mm * (1 - 0.7 * near_end), 0)
    density = shaft.shell - shaft.core - (shaft.spongy - shaft.core) * near_end
    return outer.astype(np.float32), inner.astype(np.float32), density.astype(np.float32)


def _cross_section(axis: Vector, wide: Vector, across: Vector) -> tuple[float, float, float]:
    """The quadratic form of the endless unit tube, on the ray and on the image's `across`."""
    axis = axis / np.linalg.norm(axis)
    stretch = float(np.linalg.norm(wide))
    wide = wide - (wide @ axis) * axis
    wide = wide / max(float(np.linalg.norm(wide)), 1e-6)
    thin = np.cross(axis, wide)
    form = np.outer(wide, wide) / stretch**2 + np.outer(thin, thin)
    sideways = np.array([across[0], across[1], 0.0])
    along_ray = max(float(form[2, 2]), _MIN_OBLIQUITY)
    return along_ray, float(form[2] @ sideways), float(sideways @ form @ sideways)


def _tube_chord(
    radius: Array, offset: Array, form: tuple[float, float, float]
) -> tuple[Array, Array]:
    a, b, c = (np.float32(value) for value in form)
    inside = a * radius * radius - (a * c - b * b) * offset * offset
    half = (np.sqrt(np.maximum(inside, 0)) / a).astype(np.float32)
    return half, -b / a * offset


def _cut_chord(
    middle: Array, half: Array, cuts: tuple[Cut, ...], camera: Camera, x: Array, y: Array
) -> Array:
    near, far = middle - half, middle + half
    for cut in cuts:
        normal = camera.rotation @ cut.normal
        room = normal @ camera.see(cut.point) - normal[0] * x - normal[1] * y
        room = room + cut.roughness_mm * np.sin(1.7 * (normal[0] * y - normal[1] * x))
        room = room.astype(np.float32)
        if abs(normal[2]) < 1e-3:
            far = np.where(room >= 0, far, near)
        elif normal[2] > 0:
            far = np.minimum(far, room / np.float32(normal[2]))
        else:
            near = np.maximum(near, room / np.float32(normal[2]))
    return np.maximum(far - near, 0)
