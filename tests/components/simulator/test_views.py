from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from components import mura
from components.simulator.anatomy import draw_build
from components.simulator.film import draw_exposure
from components.simulator.limbs import build_anatomy
from components.simulator.plan import Patient, Study
from components.simulator.radiograph import Camera, project
from components.simulator.views import beside_other_hand, draw_camera, plaster, render_patient


def patient(part, number=1, views=2, findings=()):
    study = Study(part=part, number=1, label=int(bool(findings)), views=views, findings=findings)
    return Patient(number=number, split="train", studies=(study,))


def front(anatomy, structures):
    width, height = anatomy.extent_mm
    camera = Camera(rotation=np.eye(3), centre=anatomy.centre, px_per_mm=0.8,
                    height_px=round(0.8 * height), width_px=round(0.8 * width))  # fmt: skip
    return project(structures, camera)


def test_cameras_stay_within_muras_sizes_and_reach_both_ends():
    rng = np.random.default_rng(0)
    cameras = []
    for part in mura.STUDIES["train"]:
        anatomy = build_anatomy(part, draw_build(rng))
        cameras += [draw_camera(anatomy, 0.0, rng) for _ in range(200)]
    for sides, (low, high) in (
        ([camera.width_px for camera in cameras], mura.WIDTH_PX),
        ([camera.height_px for camera in cameras], mura.HEIGHT_PX),
    ):
        assert low <= min(sides) <= 1.25 * low
        assert 0.95 * high <= max(sides) <= high


def test_some_views_cut_the_limb_off():
    rng = np.random.default_rng(0)
    anatomy = build_anatomy("XR_HAND", draw_build(rng))
    away = [np.linalg.norm((draw_camera(anatomy, 0.0, rng).centre - anatomy.centre)[:2])
            for _ in range(600)]  # fmt: skip
    share = np.mean(np.array(away) > 0.1 * min(anatomy.extent_mm))
    assert 0.02 < share < 0.07


def test_a_cast_lies_around_the_arm_and_adds_to_it():
    anatomy = build_anatomy("XR_FOREARM", draw_build(np.random.default_rng(0)))
    bare = front(anatomy, anatomy.structures)
    cast = front(anatomy, (*anatomy.structures, *plaster(anatomy)))
    assert (cast >= bare - 1e-4).all()
    assert (cast > bare + 0.05).mean() > 0.3


def test_two_hands_lie_side_by_side_and_only_one_is_ill():
    build = draw_build(np.random.default_rng(0))
    hand = build_anatomy("XR_HAND", build)
    both = beside_other_hand(hand, build)
    seen = front(both, both.structures)
    left, right = np.array_split(seen, 2, axis=1)
    assert left.sum() == pytest.approx(right.sum(), rel=0.15)
    assert both.extent_mm[0] > 2 * hand.extent_mm[0] * 0.9


def test_the_images_follow_from_seed_patient_and_difficulty_alone():
    one, again = (render_patient(patient("XR_WRIST"), 5, 0.5) for _ in range(2))
    pairs = zip(one[0], again[0], strict=True)
    assert all((a.pixels == b.pixels).all() for a, b in pairs)
    other = render_patient(patient("XR_WRIST", number=2), 5, 0.5)[0][0].pixels
    first = one[0][0].pixels
    assert other.shape != first.shape or (other != first).any()


def test_difficulty_changes_abnormal_studies_alone():
    def thumbnail(difficulty, findings):
        view = render_patient(patient("XR_WRIST", views=1, findings=findings), 5, difficulty)[0][0]
        return np.asarray(Image.fromarray(view.pixels).resize((64, 64))).astype(float)

    assert (thumbnail(0.0, ()) == thumbnail(1.0, ())).all()
    assert np.abs(thumbnail(0.0, ("hardware",)) - thumbnail(1.0, ("hardware",))).max() > 20


PIXELS = {
    ("XR_WRIST", ()): [(341, 258, 50.79), (368, 222, 90.19)],
    ("XR_ELBOW", ("degeneration", "fracture")): [(174, 159, 72.84), (273, 230, 73.29)],
    ("XR_FOREARM", ("lesion", "fracture")): [(402, 155, 87.43), (157, 89, 95.27)],
    ("XR_FINGER", ("fracture", "hardware")): [(484, 239, 54.62), (363, 169, 54.4)],
}
"""Height, width and mean grey of the two views, as they were before anything told of lesions."""


@pytest.mark.parametrize(("part", "findings"), PIXELS)
def test_that_the_images_are_told_of_does_not_change_them(part, findings):
    views = render_patient(patient(part, findings=findings), 5, 0.5)[0]
    told = [(*view.pixels.shape, view.pixels.mean()) for view in views]
    for view, expected in zip(told, PIXELS[part, findings], strict=True):
        assert view == pytest.approx(expected, abs=0.05)


def render_with(monkeypatch, **changes):
    """The views of an abnormal study, whose exposures differ in `changes`."""
    monkeypatch.setattr(
        "components.simulator.views.draw_exposure",
        lambda rng: replace(draw_exposure(rng), **changes),
    )
    return render_patient(patient("XR_HAND", views=12, findings=("degeneration",)), 5, 0.5)[0]


def test_a_marker_is_told_of_where_there_is_one(monkeypatch):
    views = render_patient(patient("XR_HAND", views=12, findings=("degeneration",)), 5, 0.5)[0]
    bare = render_with(monkeypatch, marker=None)
    assert not any(view.marker for view in bare)
    pairs = zip(views, bare, strict=True)
    differ = [bool((one.pixels != other.pixels).any()) for one, other in pairs]
    assert [view.marker for view in views] == differ
    assert 0 < sum(differ) < 12


def test_nothing_is_told_of_what_the_collimator_keeps_dark(monkeypatch):
    views = render_with(monkeypatch, shut=(0.3, 0.3, 0.3, 0.3))
    boxes = np.array([lesion.box for view in views for lesion in view.lesions])
    assert len(boxes)
    assert boxes.min() >= 0.3
    assert boxes.max() <= 0.7


def test_a_healthy_body_shows_no_lesion():
    views = render_patient(patient("XR_HAND"), 5, 0.3)[0]
    assert all(view.lesions == () for view in views)
