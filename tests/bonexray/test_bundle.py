import json
from pathlib import Path

import pytest

from bonexray.bundle import (
    INFO_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    PROFILE_FILE,
    BundleInfo,
    Provenance,
    open_bundle,
    seal_bundle,
)
from bonexray.errors import BundleError
from bonexray.images import ImageSpec
from bonexray.studies import BODY_PARTS, LABELS
from bonexray.verdicts import OperatingPoints

INFO = BundleInfo(
    image=ImageSpec(size=64, mean=0.3, std=0.2),
    labels=LABELS,
    body_parts=BODY_PARTS,
    temperature=1.5,
    operating_points=OperatingPoints(high_sensitivity=0.3, high_specificity=0.7),
    provenance=Provenance(
        arch="resnet18",
        dataset_sha256="a" * 64,
        manifest_sha256="b" * 64,
        start_weights="random",
        weights_sha256="c" * 64,
        train_params_sha256="d" * 64,
        code_commit="unknown",
    ),
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(b"a graph")
    (folder / INFO_FILE).write_text(INFO.model_dump_json())
    (folder / PROFILE_FILE).write_text("{}")
    seal_bundle(folder)
    return folder


def test_a_sealed_bundle_opens_as_it_was_written(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.info == INFO
    assert opened.model == b"a graph"
    assert len(opened.digest) == 64


def test_the_digest_names_every_byte(bundle: Path) -> None:
    before = open_bundle(bundle).digest
    (bundle / MODEL_FILE).write_bytes(b"another graph")
    assert seal_bundle(bundle) != before


@pytest.mark.parametrize("file", [MODEL_FILE, INFO_FILE])
def test_an_altered_file_is_refused_with_both_digests(bundle: Path, file: str) -> None:
    (bundle / file).write_bytes(b"altered")
    with pytest.raises(BundleError, match=rf"{file}: SHA-256 is [0-9a-f]{{64}}, expected"):
        open_bundle(bundle)


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / MODEL_FILE).unlink()
    with pytest.raises(
        BundleError, match=r"its manifest names \['bundle.json', 'model.onnx', 'profile.json'\]"
    ):
        open_bundle(bundle)


def test_an_extra_file_is_refused(bundle: Path) -> None:
    (bundle / "model.pkl").write_bytes(b"")
    with pytest.raises(BundleError, match=r"holds \[.*'model.pkl'"):
        open_bundle(bundle)


@pytest.mark.parametrize("text", ["", "[]", '{"sha256": 3}', '{"sha256": {}}', "\xff"])
def test_a_broken_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / MANIFEST_FILE).write_text(text)
    with pytest.raises(BundleError, match="bundle"):
        open_bundle(bundle)


def test_a_field_of_another_kind_is_refused_by_its_name(bundle: Path) -> None:
    info = json.loads(INFO.model_dump_json())
    info["temperature"] = -1
    (bundle / INFO_FILE).write_text(json.dumps(info))
    seal_bundle(bundle)
    with pytest.raises(BundleError, match="temperature: Input should be greater than 0"):
        open_bundle(bundle)
