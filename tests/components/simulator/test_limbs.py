import numpy as np
import pytest

from components.simulator.anatomy import draw_build
from components.simulator.lesions import (
    DEGENERATION,
    FRACTURE,
    HARDWARE,
    LESION,
    draw_findings,
    with_findings,
)
from components.simulator.limbs import PARTS, build_anatomy
from components.simulator.radiograph import Camera, project
from components.simulator.shapes import turn

FINDINGS = (FRACTURE, HARDWARE, DEGENERATION, LESION)


def limb(part, seed=0):
    return build_anatomy(part, draw_build(np.random.default_rng(seed)))


def seen(anatomy, turn_degrees=0.0):
    width, height = anatomy.extent_mm
    view = Camera(
        rotation=turn(np.array([0.0, 1.0, 0.0]), np.radians(turn_degrees)),
        centre=anatomy.centre,
        px_per_mm=128 / max(width, height),
        height_px=round(height * 128 / max(width, height)),
        width_px=round(width * 128 / max(width, height)),
    )
    return project(anatomy.structures, view)


@pytest.mark.parametrize("part", PARTS)
def test_the_same_patient_is_built_twice_alike_and_another_differs(part):
    assert np.array_equal(seen(limb(part, 1)), seen(limb(part, 1)))
    one, other = limb(part, 1), limb(part, 2)
    assert not np.array_equal(one.structures[0].shaft.start, other.structures[0].shaft.start)


@pytest.mark.parametrize("part", PARTS)
def test_a_limb_turned_between_two_views_is_the_same_body_seen_otherwise(part):
    anatomy = limb(part)
    front, oblique = seen(anatomy), seen(anatomy, 40)
    assert np.abs(front - oblique).max() > 0.1
    # Turned about its length, a body keeps its mass at each height, but for what leaves the image.
    rows = [view.sum(axis=1) for view in (front, oblique)]
    assert np.corrcoef(*rows)[0, 1] > 0.7


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_shows_from_the_front_and_from_the_side(part, finding):
    for seed in range(3):
        healthy = limb(part, seed)
        ill = with_findings(healthy, (finding,), np.random.default_rng(seed), 1.0)
        for degrees in (0, 40):
            change = np.abs(seen(ill, degrees) - seen(healthy, degrees))
            assert (change > 0.05).mean() > 0.0005, (seed, degrees)


def test_findings_come_in_the_shares_that_the_published_sample_of_mura_had():
    rng = np.random.default_rng(0)
    drawn = [draw_findings(rng) for _ in range(4000)]
    shares = [np.mean([finding in findings for findings in drawn]) for finding in FINDINGS]
    assert shares == pytest.approx([0.53, 0.48, 0.35, 0.29], abs=0.04)


def test_bending_the_elbow_leaves_the_upper_arm_where_it_is():
    straight = limb("XR_ELBOW")
    bent = straight.bent(90)
    assert np.array_equal(bent.bone("humerus").shaft.end, straight.bone("humerus").shaft.end)
    hand_end = bent.bone("radius").shaft.end
    assert abs(hand_end[1]) < 20
    assert abs(hand_end[2]) > 200


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_is_the_fainter_the_more_difficult(finding):
    healthy = limb("XR_FOREARM")

    def change(plain):
        ill = with_findings(healthy, (finding,), np.random.default_rng(1), plain)
        return np.abs(seen(ill) - seen(healthy)).sum()

    hard, usual, easy = change(0.2), change(1.0), change(2.0)
    assert hard < 0.5 * usual
    assert usual <= easy
