"""The picture that is laid over a view."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from serving.heatmap import FULL_COLOUR, draw_heatmap


def picture_of(cam, shape=(64, 64)):
    return np.asarray(Image.open(BytesIO(draw_heatmap(np.array(cam, np.float32), shape, 64))))


def test_where_there_is_no_evidence_the_view_is_seen_as_it_is():
    assert not picture_of(np.full((4, 4), -3.0))[..., 3].any()
    assert not picture_of(np.zeros((4, 4)))[..., 3].any()


def test_the_strongest_evidence_is_where_the_map_has_it_and_is_red():
    cam = np.zeros((4, 4))
    cam[0, 3] = FULL_COLOUR
    picture = picture_of(cam)
    top, left = np.unravel_index(picture[..., 3].argmax(), (64, 64))
    assert top < 16
    assert left >= 48
    assert picture[top, left, 0] == 255
    assert picture[top, left, 1] < 30


def test_weak_evidence_is_drawn_faintly_and_strong_evidence_by_its_own_maximum():
    weak = picture_of(np.eye(4) * FULL_COLOUR / 8)[..., 3].max()
    full = picture_of(np.eye(4) * FULL_COLOUR)[..., 3].max()
    beyond = picture_of(np.eye(4) * FULL_COLOUR * 10)[..., 3].max()
    assert weak < full / 20
    assert beyond == pytest.approx(full, abs=1)


def test_a_picture_shows_the_view_without_the_rim_of_its_square():
    cam = np.zeros((4, 4))
    cam[:, 0] = FULL_COLOUR  # the view itself, 64 x 32, begins behind it
    assert picture_of(cam, shape=(64, 32)).shape == (64, 32, 4)
    assert picture_of(cam, shape=(64, 32))[..., 3].max() < picture_of(cam)[..., 3].max()
