import csv
import io
import json
import subprocess
import sys
import time
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from bonexray.config import SimulateConfig
from components import mura
from components.mura import ROOT
from components.simulate import main, render_files, simulate
from components.simulator.plan import plan_patients

PARTS = set(mura.STUDIES["train"])
TINY = SimulateConfig(seed=11, scale=0.0015, difficulty=0.5, faults={})
TINY_JSON = TINY.model_dump_json()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "MURA-sim.zip"
    simulate(path, TINY)
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Enough images that the bounds below are about the images, not about chance."""
    path = tmp_path_factory.mktemp("large") / "MURA-sim.zip"
    simulate(path, SimulateConfig(seed=7, scale=0.02, difficulty=0.5, faults={}))
    return path


def rows(archive, name):
    return list(csv.reader(io.StringIO(archive.read(f"{ROOT}/{name}").decode())))


def listed(archive, split):
    """One row an image: path, part, patient, label as its folder has it."""
    table = pd.DataFrame({"path": [row[0] for row in rows(archive, f"{split}_image_paths.csv")]})
    table[["root", "split", "part", "patient", "study", "file"]] = table["path"].str.split(
        "/", expand=True
    )
    table["label"] = table["study"].str.endswith("_positive").astype(int)
    return table


def test_the_csvs_are_headerless_with_one_and_two_columns_as_in_mura(tiny):
    with zipfile.ZipFile(tiny) as archive:
        for split in ("train", "valid"):
            folder = rf"{ROOT}/{split}/XR_[A-Z]+/patient\d{{5}}/study\d_(positive|negative)/"
            images = pd.Series([",".join(row) for row in rows(archive, f"{split}_image_paths.csv")])
            assert images.str.fullmatch(folder + r"image\d+\.png").all()
            studies = rows(archive, f"{split}_labeled_studies.csv")
            assert {len(row) for row in studies} == {2}
            assert pd.Series([row[0] for row in studies]).str.fullmatch(folder).all()
            assert {row[1] for row in studies} == {"0", "1"}


def test_a_study_folder_says_the_same_label_as_the_csv(tiny):
    with zipfile.ZipFile(tiny) as archive:
        for split in ("train", "valid"):
            for folder, label in rows(archive, f"{split}_labeled_studies.csv"):
                assert folder.endswith("_positive/" if label == "1" else "_negative/")


def test_the_archive_holds_the_listed_images_of_the_listed_studies_and_nothing_else(tiny):
    with zipfile.ZipFile(tiny) as archive:
        images = [path for split in ("train", "valid") for path in listed(archive, split)["path"]]
        tables = [
            f"{ROOT}/{split}_{content}.csv"
            for split in ("train", "valid")
            for content in ("image_paths", "labeled_studies")
        ]
        assert sorted(archive.namelist()) == sorted([*images, *tables, "simulation.json"])
        studies = {
            row[0]
            for split in ("train", "valid")
            for row in rows(archive, f"{split}_labeled_studies.csv")
        }
        assert {path.rsplit("/", 1)[0] + "/" for path in images} == studies


def test_no_patient_is_in_both_splits(tiny):
    with zipfile.ZipFile(tiny) as archive:
        train, valid = listed(archive, "train"), listed(archive, "valid")
    assert train["patient"].max() < valid["patient"].min()


def test_a_tiny_set_holds_all_parts_with_both_labels_in_each_split(tiny):
    with zipfile.ZipFile(tiny) as archive:
        for split in ("train", "valid"):
            num_labels = listed(archive, split).groupby("part")["label"].nunique()
            assert set(num_labels.index) == PARTS
            assert (num_labels == 2).all()


def test_simulation_json_says_how_the_archive_was_made(tiny):
    with zipfile.ZipFile(tiny) as archive:
        about = json.loads(archive.read("simulation.json"))
        labels = dict(
            row
            for split in ("train", "valid")
            for row in rows(archive, f"{split}_labeled_studies.csv")
        )
    assert {key: about[key] for key in ("seed", "scale", "difficulty", "faults")} == {
        "seed": 11, "scale": 0.0015, "difficulty": 0.5, "faults": []
    }  # fmt: skip
    abnormal = {folder.removeprefix(f"{ROOT}/") for folder, label in labels.items() if label == "1"}
    assert set(about["findings"]) == abnormal
    assert all(about["findings"].values())


def test_images_are_grey_and_of_muras_sizes(tiny):
    with zipfile.ZipFile(tiny) as archive:
        for path in listed(archive, "train")["path"]:
            image = Image.open(io.BytesIO(archive.read(path)))
            assert (image.format, image.mode) == ("PNG", "L")
            assert 89 <= image.width <= 512
            assert 132 <= image.height <= 512


def test_views_of_a_study_differ():
    files = [png for png, _ in render_files(plan_patients(0.0015, 11)[:8], 11, 0.5)]
    assert len(set(files)) == len(files)


def test_simulation_json_says_of_every_image_what_is_to_be_seen_in_it(tiny):
    with zipfile.ZipFile(tiny) as archive:
        views = json.loads(archive.read("simulation.json"))["views"]
        findings = json.loads(archive.read("simulation.json"))["findings"]
        images = {name.removeprefix(f"{ROOT}/") for name in archive.namelist() if "image" in name}
    assert set(views) == {name for name in images if name.endswith(".png")}
    for path, view in views.items():
        for left, top, right, bottom in (lesion["box"] for lesion in view["lesions"]):
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
        planted = set(findings.get(f"{path.rpartition('/')[0]}/", ()))
        assert {lesion["finding"] for lesion in view["lesions"]} <= planted
    shown = [view for path, view in views.items() if "positive" in path and view["lesions"]]
    assert len(shown) > 0.8 * sum("positive" in path for path in views)
    assert 0.1 < np.mean([view["marker"] for view in views.values()]) < 0.4


def test_renamed_and_copied_images_are_told_of_as_what_they_show(tmp_path):
    rates = {"patient_in_both_splits": 0.3, "same_image_two_patients": 0.3, "near_duplicate": 0.3}
    out = tmp_path / "faulty.zip"
    simulate(out, TINY.model_copy(update={"faults": rates, "scale": 0.0003}))
    with zipfile.ZipFile(out) as archive:
        about = json.loads(archive.read("simulation.json"))
        images = {name.removeprefix(f"{ROOT}/") for name in archive.namelist() if "image" in name}
    views = about["views"]
    assert set(views) == {name for name in images if name.endswith(".png")}
    assert {fault["kind"] for fault in about["faults"]} == set(rates)
    copies = [(fault["path"], fault["partner"]) for fault in about["faults"] if fault["partner"]]
    assert all(views[path] == views[partner] for path, partner in copies)
    assert any(views[path]["lesions"] for path, _ in copies)


def test_the_bytes_follow_from_the_seed_whatever_the_number_of_workers(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    simulate(tmp_path / "again.zip", TINY)
    assert (tmp_path / "again.zip").read_bytes() == tiny.read_bytes()


def test_another_seed_gives_other_images(tiny, tmp_path):
    simulate(tmp_path / "other.zip", TINY.model_copy(update={"seed": 12}))
    assert (tmp_path / "other.zip").read_bytes() != tiny.read_bytes()


def test_a_killed_step_leaves_no_archive_and_its_rerun_is_undisturbed(tiny, tmp_path):
    out = tmp_path / "MURA-sim.zip"
    command = [sys.executable, "-m", "components.simulate", "--params", TINY_JSON]
    with subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as step:
        deadline = time.monotonic() + 30
        partial = tmp_path / ".MURA-sim.zip.partial"
        while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size):
            time.sleep(0.01)
        step.kill()
        # Its workers hold the same pipe: this returns only when they have ended too.
        step.communicate(timeout=30)
    assert partial.exists(), "killed before it wrote, or after it was done"
    assert not out.exists()
    simulate(out, TINY)
    assert out.read_bytes() == tiny.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_step_ends_with_one_line_that_says_what_it_wrote(tmp_path, capsys):
    out = tmp_path / "MURA-sim.zip"
    params = '{"seed": 1.0, "scale": 0.0001, "difficulty": 0.5, "faults": {}}'
    main(["--params", params, "--out", str(out)])
    written = capsys.readouterr()
    assert written.out.startswith("simulate: 21 patients, 28 studies, ")
    assert written.out.endswith(f" images in {out}\n")
    assert written.out.count("\n") == 1
    assert written.err == ""


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"seed": None}, "simulate.seed"),
        ({"scale": 0}, "simulate.scale"),
        ({"scale": 1.5}, "simulate.scale"),
        ({"difficulty": 2}, "simulate.difficulty"),
        ({"patients": 3}, "simulate.patients"),
        ({"faults": {"scratched": 0.1}}, "simulate.faults.scratched"),
        ({"faults": {"rgb": -1}}, "simulate.faults.rgb"),
    ],
)
def test_a_bad_parameter_ends_the_step_with_one_line_naming_it(params, field, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(
            ["--params", json.dumps(TINY.model_dump() | params), "--out", str(tmp_path / "out.zip")]
        )
    assert exit_info.value.code == 1
    message = capsys.readouterr().err
    assert field in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out.zip").exists()


def surface(archive, split):
    """What can be known of an image without looking at it."""
    table = listed(archive, split)
    known = []
    for path in table["path"]:
        png = archive.read(path)
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        known.append([len(png), *pixels.shape, pixels.mean(), pixels.std()])
    return np.array(known, dtype=float), table["label"].to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [[0, 1, 2, 3], [3, 4]], ids=["size and mean", "mean and std"])
def test_file_size_image_size_and_greys_do_not_tell_the_label(large, columns):
    with zipfile.ZipFile(large) as archive:
        train, train_labels = surface(archive, "train")
        valid, valid_labels = surface(archive, "valid")
    for degree in (1, 2):
        reader = make_pipeline(
            StandardScaler(), PolynomialFeatures(degree), LogisticRegression(max_iter=1000)
        )
        reader.fit(train[:, columns], train_labels)
        told = reader.predict_proba(valid[:, columns])[:, 1]
        assert roc_auc_score(valid_labels, told) <= 0.60
