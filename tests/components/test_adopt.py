import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from components import adopt
from components.archive import open_archive, read_listing
from components.simulator.plan import plan_patients

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout with DVC and the demonstration's params.yaml; the working directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mura(root: str = "LIMBS-v1.1", patients: int = 8) -> dict[str, bytes]:
    """A few studies in MURA's layout under another name, by path inside the zip."""
    rng = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    for split, first in (("train", 1), ("valid", 100)):
        images, studies = [], []
        for number in range(first, first + patients):
            label = number % 2
            study = (
                f"{root}/{split}/XR_WRIST/patient{number:05d}/"
                f"study1_{'positive' if label else 'negative'}/"
            )
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 120, (140, 120), np.uint8)).save(buffer, "PNG")
            files[f"{study}image1.png"] = buffer.getvalue()
            images.append(f"{study}image1.png\n")
            studies.append(f"{study},{label}\n")
        files[f"{root}/{split}_image_paths.csv"] = "".join(images).encode()
        files[f"{root}/{split}_labeled_studies.csv"] = "".join(studies).encode()
    return files


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def run(source: Path | str, *flags: str) -> None:
    adopt.main(["--archive", str(source), *flags])


def test_one_command_tracks_the_zip_and_changes_two_lines_of_params(project: Path) -> None:
    before = Path("params.yaml").read_text().splitlines()
    source = zipped(project / "LIMBS-v1.1.zip", mura())
    run(source)
    after = Path("params.yaml").read_text().splitlines()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert [line.strip() for line in after if line not in before] == [
        "archive: data/LIMBS-v1.1.zip",
        f'archive_sha256: "{digest}"',
    ]
    assert len(before) == len(after)
    assert Path("data/LIMBS-v1.1.zip").read_bytes() == source.read_bytes()
    tracked = yaml.safe_load(Path("data/LIMBS-v1.1.zip.dvc").read_text())
    assert tracked["outs"][0]["path"] == "LIMBS-v1.1.zip"


def test_a_folder_becomes_one_zip_with_the_same_files(project: Path) -> None:
    folder = unpacked(project / "somewhere", mura())
    run(folder)
    with open_archive(folder) as old, open_archive(Path("data/LIMBS-v1.1.zip")) as new:
        assert old.names() == new.names()
        assert all(old.read(name) == new.read(name) for name in old.names())
        assert new.origin == "LIMBS-v1.1"


def test_running_again_changes_nothing(project: Path) -> None:
    folder = unpacked(project / "somewhere", mura())
    kept = ("params.yaml", "data/LIMBS-v1.1.zip", "data/LIMBS-v1.1.zip.dvc", "data/splits.csv")
    run(folder)
    first = [Path(name).read_bytes() for name in kept]
    run(folder)
    assert [Path(name).read_bytes() for name in kept] == first


def test_a_patient_keeps_its_split_in_a_later_version(project: Path) -> None:
    run(zipped(project / "LIMBS-v1.1.zip", mura()))
    first = pd.read_csv("data/splits.csv").set_index("patient")
    run(zipped(project / "LIMBS-v1.2.zip", mura("LIMBS-v1.2", patients=60)))
    second = pd.read_csv("data/splits.csv").set_index("patient")
    assert len(second) == 120
    pd.testing.assert_frame_equal(second.loc[first.index], first)
    assert yaml.safe_load(Path("params.yaml").read_text())["data"]["archive"].endswith("1.2.zip")


def test_terms_that_were_not_accepted_leave_everything_as_it_was(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = Path("params.yaml").read_bytes()
    with pytest.raises(SystemExit):
        run(zipped(project / "MURA-v1.1.zip", mura("MURA-v1.1")))
    error = capsys.readouterr().err
    assert "--accept-terms" in error
    assert "stanfordmlgroup.github.io" in error
    assert error.count("\n") == 1
    assert list(Path("data").iterdir()) == []
    assert Path("params.yaml").read_bytes() == params


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: at / "nowhere.zip", "no such archive"),
        (lambda at: zipped(at / "MURA.zip", mura("MURA-v1.0")), "withdrew"),
        (lambda at: unpacked(at / "old", mura("MURA-v1.0")), "withdrew"),
        (
            lambda at: zipped(at / "s.zip", mura() | {"simulation.json": b"{}"}),
            "was made by `simulate`",
        ),
        (lambda at: zipped(at / "slip.zip", mura() | {"../out.png": b""}), "zip slip"),
        (
            lambda at: zipped(at / "bomb.zip", mura() | {"LIMBS-v1.1/b": bytes(65 << 20)}),
            "decompression bomb",
        ),
        (
            lambda at: zipped(at / "few.zip", mura("MURA-v1.1")),
            "11,184 patients published, 8 listed",
        ),
        (lambda at: "s3://nowhere/LIMBS-v1.1.zip", 'endpoint URL: "http://127.0.0.1:9/nowhere'),
        (lambda at: "", "no archive was named: ARCHIVE="),
    ],
    ids=[
        "missing",
        "v1.0 zip",
        "v1.0 folder",
        "simulated",
        "zip slip",
        "bomb",
        "too few",
        "no S3",
        "none",
    ],
)
def test_what_must_not_be_used_is_refused_in_one_line_before_anything_is_written(
    project: Path,
    make: Callable[[Path], Path | str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    params = Path("params.yaml").read_bytes()
    with pytest.raises(SystemExit, match="1"):
        run(make(project), "--accept-terms")
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(Path("data").iterdir()) == []
    assert Path("params.yaml").read_bytes() == params


def test_the_listing_of_what_was_packed_is_the_listing_of_the_folder(project: Path) -> None:
    folder = unpacked(project / "somewhere", mura())
    run(folder)
    with open_archive(folder) as old, open_archive(Path("data/LIMBS-v1.1.zip")) as new:
        assert read_listing(old) == read_listing(new)


def test_an_archive_that_lists_what_was_published_is_adopted_as_mura(project: Path) -> None:
    """MURA's own numbers, each image a few bytes: only the lists are read."""
    patients = plan_patients(1.0, seed=0)
    files: dict[str, bytes] = {}
    for split in ("train", "valid"):
        own = [patient for patient in patients if patient.split == split]
        images = [f"MURA-v1.1/{path}" for patient in own for path in patient.paths()]
        studies = [
            f"MURA-v1.1/{patient.folder(study)}/,{study.label}\n"
            for patient in own
            for study in patient.studies
        ]
        files |= dict.fromkeys(images, b"png")
        files[f"MURA-v1.1/{split}_image_paths.csv"] = "".join(f"{i}\n" for i in images).encode()
        files[f"MURA-v1.1/{split}_labeled_studies.csv"] = "".join(studies).encode()
    run(zipped(project / "MURA-v1.1.zip", files), "--accept-terms")
    pins = pd.read_csv("data/splits.csv")
    assert len(pins) == 11_967
    assert set(pins["dataset"]) == {"MURA"}
    assert (pins["split"] == "test").sum() == 783


@pytest.mark.parametrize("name", ["limbs (1).zip", "my limbs.zip", "splits.csv"])
def test_a_name_that_commands_cannot_hold_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit, match="1"):
        run(zipped(project / name, mura()))
    assert "rename the archive" in capsys.readouterr().err
    assert list(Path("data").iterdir()) == []


def test_a_file_that_is_there_and_is_no_archive_of_dvcs_is_never_overwritten(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/LIMBS-v1.1.zip").write_bytes(b"kept")
    with pytest.raises(SystemExit, match="1"):
        run(zipped(project / "LIMBS-v1.1.zip", mura()))
    assert "is not under DVC" in capsys.readouterr().err
    assert Path("data/LIMBS-v1.1.zip").read_bytes() == b"kept"


def test_a_folder_that_holds_the_place_of_its_zip_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpacked(project, mura())
    with pytest.raises(SystemExit, match="1"):
        run(project)
    assert "where its zip would be written" in capsys.readouterr().err
