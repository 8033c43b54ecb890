from dataclasses import replace

import numpy as np
import pytest

from components.simulator.anatomy import draw_build
from components.simulator.lesions import DEGENERATION, FRACTURE, HARDWARE, LESION, with_findings
from components.simulator.limbs import PARTS, build_anatomy
from components.simulator.radiograph import Camera, project
from components.simulator.shapes import Shaft, turn
from components.simulator.views import draw_camera, find_lesions

WHOLE = (0.0, 0.0, 1.0, 1.0)


def ill(part, findings, seed):
    """One body, healthy and with its findings, bent as in one of its views, and a camera."""
    healthy = build_anatomy(part, draw_build(np.random.default_rng(seed)))
    sick = with_findings(healthy, findings, np.random.default_rng(seed), 1.0)
    which = seed % len(healthy.turns_degrees)
    bend = healthy.bends_degrees[which % len(healthy.bends_degrees)]
    camera = draw_camera(healthy, healthy.turns_degrees[which], np.random.default_rng(seed))
    return healthy.bent(bend), sick.bent(bend), camera


def within(boxes, shape, margin=0.0):
    """(H, W): the pixels that lie in a box, each enlarged by a share of the image."""
    rows, columns = ((np.arange(side) + 0.5) / side for side in shape)
    inside = np.zeros(shape, bool)
    for left, top, right, bottom in boxes:
        down = (rows > top - margin) & (rows < bottom + margin)
        across = (columns > left - margin) & (columns < right + margin)
        inside |= down[:, None] & across
    return inside


@pytest.mark.parametrize(
    ("finding", "share", "area"),
    [(HARDWARE, 0.98, 0.06), (LESION, 0.98, 0.06), (FRACTURE, 0.4, 0.06), (DEGENERATION, 0.4, 0.1)],
)
def test_boxes_lie_where_a_finding_changes_the_image(finding, share, area):
    # A broken bone swings as a whole and a worn one slips, so much of the change lies elsewhere.
    shares, areas = [], []
    for seed in range(35):
        healthy, sick, camera = ill(list(PARTS)[seed % 7], (finding,), seed)
        change = np.abs(project(sick.structures, camera) - project(healthy.structures, camera))
        lesions = list(find_lesions(sick, camera, WHOLE))
        assert {lesion.finding for lesion in lesions} <= {finding}
        boxes = [lesion.box for lesion in lesions]
        shares.append(change[within(boxes, change.shape, 0.02)].sum() / change.sum())
        areas.append(within(boxes, change.shape).mean())
    assert np.median(shares) > share
    assert np.median(areas) < area


@pytest.mark.parametrize("part", PARTS)
def test_boxes_lie_within_the_image_and_outside_of_its_shadow(part):
    lit = (0.1, 0.05, 0.9, 0.95)
    for seed in range(8):
        _, sick, camera = ill(part, (DEGENERATION, LESION), seed)
        for lesion in find_lesions(sick, camera, lit):
            left, top, right, bottom = lesion.box
            assert 0.1 <= left < right <= 0.9
            assert 0.05 <= top < bottom <= 0.95


def test_what_lies_outside_of_the_image_has_no_box():
    _, sick, camera = ill("XR_HAND", (FRACTURE,), 0)
    assert list(find_lesions(sick, camera, WHOLE))
    away = replace(camera, centre=camera.centre + 500 * camera.rotation[0])
    assert not list(find_lesions(sick, away, WHOLE))


@pytest.mark.parametrize("finding", [FRACTURE, HARDWARE, DEGENERATION, LESION])
def test_a_mirrored_image_has_mirrored_boxes(finding):
    _, sick, camera = ill("XR_WRIST", (finding,), 3)
    mirrored = replace(camera, rotation=np.diag([-1.0, 1.0, 1.0]) @ camera.rotation)
    pairs = zip(find_lesions(sick, camera, WHOLE), find_lesions(sick, mirrored, WHOLE), strict=True)
    for one, other in pairs:
        left, top, right, bottom = one.box
        assert other.box == pytest.approx((1 - right, top, 1 - left, bottom))


def test_a_bent_elbow_takes_the_findings_of_the_forearm_along():
    hinged = 0
    for seed in range(12):
        straight = build_anatomy("XR_ELBOW", draw_build(np.random.default_rng(seed)))
        sick = with_findings(straight, (HARDWARE,), np.random.default_rng(seed), 1.0)
        camera = Camera(
            rotation=turn(np.array([0.0, 1.0, 0.0]), np.pi / 2),  # from the side
            centre=np.zeros(3), px_per_mm=1.0, height_px=500, width_px=500,
        )  # fmt: skip
        (before,), (after,) = (
            [lesion.box for lesion in find_lesions(body, camera, WHOLE)]
            for body in (sick, sick.bent(90))
        )
        middles = [
            np.array([box[0] + box[2], box[1] + box[3]]) / 2 - 0.5 for box in (before, after)
        ]
        if sick.structures[-1].hinged:
            # By a right angle about the elbow, which lies in the middle of the image.
            assert middles[0] @ middles[1] == pytest.approx(0, abs=1e-3)
            assert np.linalg.norm(middles[0]) == pytest.approx(np.linalg.norm(middles[1]), abs=0.01)
            hinged += 1
        else:
            assert after == before
    assert 0 < hinged < 12


def test_each_worn_joint_has_one_box():
    for seed in range(5):
        healthy, sick, camera = ill("XR_HAND", (DEGENERATION,), seed)
        far = replace(camera, px_per_mm=0.5 * camera.px_per_mm)  # the whole hand is in the image
        boxes = [lesion.box for lesion in find_lesions(sick, far, WHOLE)]
        assert len(set(boxes)) == len(boxes)
        assert 0.3 * len(healthy.joints) < len(boxes) <= 0.9 * len(healthy.joints)


def test_both_fractures_have_a_box_and_each_lies_at_the_displaced_ends():
    counts = set()
    for seed in range(12):
        _, sick, camera = ill("XR_FOREARM", (FRACTURE,), seed)
        far = replace(camera, px_per_mm=0.4 * camera.px_per_mm)
        boxes = [lesion.box for lesion in find_lesions(sick, far, WHOLE)]
        size = np.array([far.width_px, far.height_px])
        ends = [
            far.see(piece.shaft.cuts[0].point)[:2] * far.px_per_mm / size + 0.5
            for piece in sick.structures
            if not piece.soft and isinstance(piece.solids[0], Shaft) and piece.shaft.cuts
        ]
        assert len(ends) == 2 * len(boxes)
        for end in ends:
            assert any((end > box[:2]).all() and (end < box[2:]).all() for box in boxes)
        counts.add(len(boxes))
    assert counts == {1, 2}


def test_a_lesion_of_a_broken_bone_goes_with_the_piece_that_carries_it():
    tightness = []
    for seed in range(20):
        _, sick, camera = ill("XR_HUMERUS", (LESION, FRACTURE), seed)
        far = replace(camera, px_per_mm=0.5 * camera.px_per_mm)
        box = next(
            lesion.box for lesion in find_lesions(sick, far, WHOLE) if lesion.finding == LESION
        )
        # The pieces without what the lesion adds to them: healthy bones have no inclusions.
        bones = [structure for structure in sick.structures if not structure.soft]
        sound = [replace(bone, inclusions=()) for bone in bones]
        change = np.abs(project(bones, far) - project(sound, far)) > 1e-3
        inside = within([box], change.shape)
        assert (change & inside).sum() > 0.95 * change.sum()
        tightness.append(change.sum() / inside.sum())
    assert np.median(tightness) > 0.55  # of a box: an ellipse takes 0.79 of its own
