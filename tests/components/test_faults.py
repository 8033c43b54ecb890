import io
import json
import zipfile
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from bonexray.config import Fault, SimulateConfig
from components.faults import DAMAGES, near_copy, plant
from components.simulate import simulate
from components.simulator.plan import plan_patients


def png():
    ramp = np.add.outer(np.arange(160), np.arange(120)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", get_args(Fault))
def test_a_fault_is_planted_at_its_rate_and_told(kind):
    plan = plan_patients(0.05, 3)
    _, planting = plant(plan, {kind: 0.05}, 3)
    assert {fault.kind for fault in planting.planted} == {kind}
    num_images = sum(len(patient.paths()) for patient in plan)
    if kind in DAMAGES:
        assert len(planting.planted) == round(0.05 * num_images)
    assert len({fault.path for fault in planting.planted}) == len(planting.planted)


def test_no_image_gets_two_faults_and_a_rate_of_nothing_plants_nothing():
    plan = plan_patients(0.05, 3)
    _, planting = plant(plan, dict.fromkeys(get_args(Fault), 0.01), 3)
    paths = [p for fault in planting.planted for p in (fault.path, fault.partner) if p]
    assert len(set(paths)) == len(paths)
    assert plant(plan, dict.fromkeys(get_args(Fault), 0.0), 3)[1].planted == []


def test_the_same_seed_plants_the_same_faults():
    plan = plan_patients(0.01, 3)
    rates = dict.fromkeys(get_args(Fault), 0.02)
    assert plant(plan, rates, 5)[1].truth() == plant(plan, rates, 5)[1].truth()
    assert plant(plan, rates, 5)[1].truth() != plant(plan, rates, 6)[1].truth()


def test_a_leaked_patient_is_in_both_splits_and_keeps_its_images():
    plan = plan_patients(0.01, 3)
    patients, planting = plant(plan, {"patient_in_both_splits": 0.2}, 3)
    train = {patient.number for patient in patients if patient.split == "train"}
    valid = {patient.number for patient in patients if patient.split == "valid"}
    leaked = {int(fault.path.split("patient")[1][:5]) for fault in planting.planted}
    assert train & valid == leaked
    assert [p.studies for p in patients] == [p.studies for p in plan]


def test_a_pixel_bomb_declares_more_than_it_holds():
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(DAMAGES["pixel_bomb"](png())))


def test_a_near_copy_is_another_file_of_the_same_picture():
    copy = Image.open(io.BytesIO(near_copy(png())))
    assert copy.size == (113, 150)
    original = Image.open(io.BytesIO(png())).resize(copy.size)
    assert np.corrcoef(np.asarray(copy).ravel(), np.asarray(original).ravel())[0, 1] > 0.97


def test_the_archive_tells_the_truth_of_its_faults(tmp_path):
    rates = {"stray": 0.05, "zero_byte": 0.05, "row_without_file": 0.05, "file_without_row": 0.05}
    config = SimulateConfig(seed=3, scale=0.0015, difficulty=0.5, faults=rates)
    simulate(tmp_path / "faulty.zip", config)
    with zipfile.ZipFile(tmp_path / "faulty.zip") as archive:
        names = {name.removeprefix("MURA-v1.1/") for name in archive.namelist()}
        listed = "".join(
            archive.read(f"MURA-v1.1/{split}_image_paths.csv").decode()
            for split in ("train", "valid")
        )
        for fault in json.loads(archive.read("simulation.json"))["faults"]:
            assert (fault["path"] in names) == (fault["kind"] != "row_without_file")
            told = f"MURA-v1.1/{fault['path']}\n" in listed
            assert told == (fault["kind"] in ("zero_byte", "row_without_file"))
            if fault["kind"] == "zero_byte":
                assert archive.read(f"MURA-v1.1/{fault['path']}") == b""


@pytest.mark.parametrize("kind", ["same_image_two_patients", "near_duplicate"])
def test_a_fault_that_wants_more_images_than_there_are_befalls_those_there_are(kind: str) -> None:
    patients = plan_patients(0.001, seed=0)
    total = sum(len(patient.paths()) for patient in patients)
    _, planting = plant(patients, {kind: 1.0}, 0)  # type: ignore[dict-item]
    assert total // 4 < len(planting.planted) <= total // 2
