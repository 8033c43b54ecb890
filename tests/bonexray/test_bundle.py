import json
from pathlib import Path

import numpy as np
import pytest

from bonexray.bundle import (
    INFO_FILE,
    INT8_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    TYPICAL_FILE,
    open_bundle,
)
from bonexray.errors import BundleError
from bonexray.novelty import Typical, write_typical
from bonexray.sealed import MANIFEST_FILE, seal
from bonexray.verdicts import Calibration
from tests.small_bundle import bundle_info

CALIBRATION = Calibration(view=1.5, study=0.8, parts={"XR_HAND": 1.2}, val_studies=80)
INFO = bundle_info(64).model_copy(update={"calibration": CALIBRATION})
TYPICAL = Typical(means=np.zeros((7, 3), np.float32), whitening=np.eye(3, 2, dtype=np.float32))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(b"a graph")
    (folder / INFO_FILE).write_text(INFO.model_dump_json())
    (folder / PROFILE_FILE).write_text("{}")
    write_typical(folder / TYPICAL_FILE, TYPICAL)
    seal(folder)
    return folder


def test_a_sealed_bundle_opens_as_it_was_written(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.info == INFO
    assert opened.model == b"a graph"
    assert opened.model_int8 is None
    assert len(opened.digest) == 64


def test_a_bundle_may_hold_its_network_in_int8_which_its_digest_names(bundle: Path) -> None:
    before = open_bundle(bundle).digest
    (bundle / INT8_FILE).write_bytes(b"a smaller graph")
    with pytest.raises(BundleError, match=rf"holds \['{INT8_FILE}'\] beside its manifest"):
        open_bundle(bundle)
    seal(bundle)
    assert open_bundle(bundle).model_int8 == b"a smaller graph"
    assert open_bundle(bundle).digest != before
    (bundle / INT8_FILE).write_bytes(b"another graph")
    with pytest.raises(BundleError, match=f"{INT8_FILE}: SHA-256 is"):
        open_bundle(bundle)


def test_the_digest_names_every_byte(bundle: Path) -> None:
    before = open_bundle(bundle).digest
    (bundle / MODEL_FILE).write_bytes(b"another graph")
    assert seal(bundle) != before


@pytest.mark.parametrize("file", [MODEL_FILE, INFO_FILE])
def test_an_altered_file_is_refused_with_both_digests(bundle: Path, file: str) -> None:
    (bundle / file).write_bytes(b"altered")
    with pytest.raises(BundleError, match=rf"{file}: SHA-256 is [0-9a-f]{{64}}, expected"):
        open_bundle(bundle)


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / MODEL_FILE).unlink()
    with pytest.raises(BundleError, match=r"lacks \['model.onnx'\] of it"):
        open_bundle(bundle)


def test_an_extra_file_is_refused(bundle: Path) -> None:
    (bundle / "model.pkl").write_bytes(b"")
    with pytest.raises(BundleError, match=r"holds \[.*'model.pkl'"):
        open_bundle(bundle)


@pytest.mark.parametrize("text", ["", "[]", '{"sha256": 3}', '{"sha256": {}}', "\xff"])
def test_a_broken_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / MANIFEST_FILE).write_text(text)
    with pytest.raises(BundleError, match="manifest"):
        open_bundle(bundle)


def test_a_field_of_another_kind_is_refused_by_its_name(bundle: Path) -> None:
    info = json.loads(INFO.model_dump_json())
    info["calibration"]["view"] = -1
    (bundle / INFO_FILE).write_text(json.dumps(info))
    seal(bundle)
    with pytest.raises(BundleError, match="calibration.view: Input should be greater than 0"):
        open_bundle(bundle)


def test_a_temperature_of_a_part_that_is_not_above_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"parts\.XR_HAND = 0\.0, expected a temperature above 0"):
        Calibration(view=1, study=1, parts={"XR_HAND": 0}, val_studies=80)


def test_statistics_that_do_not_fit_the_body_parts_are_refused(bundle: Path) -> None:
    few = Typical(means=np.zeros((3, 3), np.float32), whitening=TYPICAL.whitening)
    write_typical(bundle / TYPICAL_FILE, few)
    seal(bundle)
    with pytest.raises(BundleError, match="3 means, expected one for each of 7 body parts"):
        open_bundle(bundle)


def test_statistics_that_are_torn_are_refused(bundle: Path) -> None:
    whole = (bundle / TYPICAL_FILE).read_bytes()
    (bundle / TYPICAL_FILE).write_bytes(whole[: len(whole) // 2])
    seal(bundle)
    with pytest.raises(BundleError, match="typical.npz: not readable"):
        open_bundle(bundle)
