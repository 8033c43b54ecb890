import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.fft import dctn

from bonexray.images import Pixels, read_square
from components.duplicates import (
    copies_elsewhere,
    copies_of_own,
    near_pairs,
    partners,
    perceptual_hashes,
)
from components.faults import near_copy
from components.simulate import render_files
from components.simulator.plan import plan_patients


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [png for png, _ in render_files(plan_patients(0.002, 5)[:24], 5, 0.5)]


def packed(files: list[bytes]) -> Pixels:
    return np.stack([read_square(data, 96) for data in files])


def brighter(png: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).point(lambda grey: grey * 1.05 + 3).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("copied", [bytes, brighter, near_copy])
def test_a_copy_under_another_patient_is_found_however_it_was_saved(
    files: list[bytes], copied: Callable[[bytes], bytes]
) -> None:
    images = packed([*files, *(copied(data) for data in files)])
    pairs = near_pairs(images, np.arange(len(images)))
    assert pairs.tolist() == [[k, k + len(files)] for k in range(len(files))]


def test_views_of_other_limbs_are_no_copies_and_own_copies_are_not_sought(
    files: list[bytes],
) -> None:
    images = packed(files)
    assert near_pairs(images, np.arange(len(images))).shape == (0, 2)
    assert len(near_pairs(np.concatenate([images, images]), np.zeros(2 * len(images), int))) == 0


def test_the_hash_is_the_sign_of_scipys_cosine_transform(files: list[bytes]) -> None:
    image = packed(files)[0]
    small = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BOX))
    low = dctn(small.astype(float), type=2)[:8, :8].ravel()
    expected = "".join("1" if value > np.median(low) else "0" for value in low)
    found = f"{int(perceptual_hashes(image[None])[0]):064b}"
    # Frequencies beside the median may fall to either side.
    assert sum(a != b for a, b in zip(found, expected, strict=True)) <= 6


def test_equal_bytes_are_told_apart_by_whose_they_are() -> None:
    digests = pd.Series(["a", "a", "b", "b", None, None])
    patients = pd.Series(["p", "q", "r", "r", "s", "t"])
    assert copies_elsewhere(digests, patients).tolist() == [True, True, False, False, False, False]
    assert copies_of_own(digests, patients).tolist() == [False, False, False, True, False, False]


def test_each_of_a_pair_names_the_other() -> None:
    assert partners(np.array([[0, 2]]), ["a", "b", "c"]) == {0: "c", 2: "a"}


def test_no_images_have_no_pairs(tmp_path: Path) -> None:
    assert len(near_pairs(np.empty((0, 96, 96), np.uint8), np.empty(0, int))) == 0
