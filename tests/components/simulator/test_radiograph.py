import numpy as np
import pytest

from components.simulator.radiograph import Camera, attenuation, project
from components.simulator.shapes import Ball, Cut, Shaft, Structure, turn

SIDE_PX = 61
ROTATION = turn(np.array([0.3, 1.0, -0.2]), 0.9)


def camera(rotation=ROTATION):
    return Camera(
        rotation=rotation,
        centre=np.array([1.0, -2.0, 3.0]),
        px_per_mm=1.0,
        height_px=SIDE_PX,
        width_px=SIDE_PX,
    )


def ball(**fields):
    given = {"shell": 1.0, "core": 1.0, "cortex_mm": 0.0}
    return Ball(
        centre=np.array([2.0, 1.0, -1.0]),
        semi=np.array([9.0, 16.0, 6.0]),
        axes=turn(np.array([1.0, 1.0, 0.0]), 0.4),
        **(given | fields),
    )


def tube(end, wide=(1.0, 0.0, 0.0), radii=(8.0, 8.0, 8.0)):
    end = np.array(end, dtype=float)
    return Shaft(
        start=-end,
        end=end,
        radii=radii,
        shell=1.0,
        core=1.0,
        spongy=1.0,
        cortex_mm=0.0,
        wide=np.array(wide),
    )


def full_image(solid, view):
    image = np.zeros((SIDE_PX, SIDE_PX), dtype=np.float32)
    box, line = attenuation(solid, view)
    image[box] = line
    return image


def marched(inside, view, step_mm=0.05):
    """Count the steps along each ray whose point is inside: the integral, by brute force."""
    x, y = view.grid((slice(0, SIDE_PX), slice(0, SIDE_PX)))
    length = np.zeros((SIDE_PX, SIDE_PX))
    for t in np.arange(-40, 40, step_mm):
        seen = np.stack(np.broadcast_arrays(x, y, t), axis=-1)  # (H, W, 3)
        length += inside(seen @ view.rotation + view.centre) * step_mm
    return length


def test_chords_through_an_ellipsoid_match_brute_force_integration():
    solid, view = ball(), camera()

    def inside(points):
        return ((((points - solid.centre) @ solid.axes.T) / solid.semi) ** 2).sum(-1) <= 1

    assert np.abs(full_image(solid, view) - marched(inside, view)).max() < 0.15


def test_the_longest_chord_through_a_sphere_is_its_diameter():
    solid = Ball(centre=np.zeros(3), semi=np.full(3, 12.0), shell=1.0, core=1.0, cortex_mm=0.0)
    view = Camera(rotation=ROTATION, centre=np.zeros(3), px_per_mm=1.0, height_px=41, width_px=41)
    assert attenuation(solid, view)[1].max() == pytest.approx(24.0, rel=1e-5)


def test_chords_through_a_cut_ellipsoid_match_brute_force_integration():
    cut = Cut(normal=np.array([0.6, 0.0, 0.8]), point=np.array([2.0, 1.0, 0.5]))
    solid, view = ball(cuts=(cut,)), camera()

    def inside(points):
        whole = ((((points - solid.centre) @ solid.axes.T) / solid.semi) ** 2).sum(-1) <= 1
        return whole & ((points - cut.point) @ cut.normal <= 0)

    assert np.abs(full_image(solid, view) - marched(inside, view)).max() < 0.15


@pytest.mark.parametrize("wide", [(1.0, 0.0, 0.0), (1.6, 0.0, 0.0)])
def test_chords_through_an_oblique_tube_match_brute_force_integration(wide):
    solid, view = tube((10.0, 60.0, 20.0), wide), camera(np.eye(3))
    axis = solid.end / np.linalg.norm(solid.end)
    broad = np.array([1.0, 0.0, 0.0]) - axis[0] * axis
    broad /= np.linalg.norm(broad)

    def inside(points):
        across = (points @ broad) / wide[0], points @ np.cross(axis, broad)
        return across[0] ** 2 + across[1] ** 2 <= 8.0**2

    # The tube's rounded ends lie outside of the image.
    assert np.abs(full_image(solid, view) - marched(inside, view)).max() < 0.2


def test_the_chord_through_a_tubes_axis_is_its_diameter_over_the_sine_of_the_angle():
    solid = tube((0.0, 60.0, 60.0))
    view = Camera(rotation=np.eye(3), centre=np.zeros(3), px_per_mm=1.0, height_px=41, width_px=41)
    centre_px = full_image_of(solid, view)[20, 20]
    assert centre_px == pytest.approx(16.0 / np.sin(np.pi / 4), rel=1e-4)


def full_image_of(solid, view):
    image = np.zeros((view.height_px, view.width_px), dtype=np.float32)
    box, line = attenuation(solid, view)
    image[box] = line
    return image


def test_chords_through_a_tapered_bone_match_brute_force_integration_within_a_millimetre():
    solid, view = tube((0.0, 60.0, 0.0), radii=(14.0, 6.0, 10.0)), camera(np.eye(3))

    def inside(points):
        s = (points[..., 1] + 60) / 120
        first = np.maximum(1 - s / solid.flare, 0) ** 2
        last = np.maximum(1 - (1 - s) / solid.flare, 0) ** 2
        return np.hypot(points[..., 0], points[..., 2]) <= 6 + 8 * first + 4 * last

    assert np.abs(full_image(solid, view) - marched(inside, view)).max() < 1.0


def test_the_two_pieces_of_a_broken_bone_add_up_to_the_whole():
    bone = Structure(name="bone", solids=(tube((5.0, 60.0, 10.0)), ball(shell=0.5)))
    normal = np.array([0.2, 0.9, 0.4])
    cut = Cut(normal=normal, point=np.array([1.0, -3.0, 2.0]), roughness_mm=0.8)
    other = Cut(normal=-normal, point=cut.point, roughness_mm=0.8)
    view = camera()
    for solid in bone.solids:
        alone = Structure(name="bone", solids=(solid,))
        halves = project([alone.cut(cut), alone.cut(other)], view)
        assert np.abs(halves - project([alone], view)).max() < 1e-2


def test_turning_the_body_equals_turning_the_camera():
    bone = Structure(name="bone", solids=(tube((5.0, 25.0, 10.0)), ball(shell=0.5)))
    turned = bone.moved(ROTATION, np.array([1.0, -2.0, 3.0]), np.zeros(3))
    difference = project([turned], camera(np.eye(3))) - project([bone], camera(ROTATION))
    assert np.abs(difference).max() < 1e-2


def test_a_solid_outside_of_the_image_leaves_it_empty():
    away = Structure(name="away", solids=(ball(),)).moved(
        np.eye(3), np.zeros(3), ROTATION.T @ np.array([500.0, 0.0, 0.0])
    )
    assert not project([away], camera()).any()


def test_a_hole_never_takes_away_more_than_the_bone_holds():
    hole = Structure(
        name="bone", solids=(ball(shell=0.1),), inclusions=(ball(shell=-5.0, core=-5.0),)
    )
    assert project([hole], camera()).min() == 0
