from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bonexray.bundle import open_bundle
from bonexray.config import EvaluateConfig, read_section
from bonexray.dataset import open_images
from bonexray.errors import DataError
from bonexray.images import Pixels
from bonexray.network import abnormal_logit
from bonexray.tables import read_manifest
from components.calibration import choose_operating_points
from components.candidates import Candidate, predict, read_candidates
from components.choice import choose, compare
from components.export import write_bundle
from components.judgement import Judgement, judge_candidate
from components.servability import try_serving


@pytest.fixture(scope="module")
def config(tiny_workspace: Path) -> EvaluateConfig:
    return read_section(str(tiny_workspace / "params.yaml"), EvaluateConfig)


@pytest.fixture(scope="module")
def images(tiny_workspace: Path) -> Pixels:
    return open_images(tiny_workspace / "data/dataset")


@pytest.fixture(scope="module")
def manifest(tiny_workspace: Path) -> pd.DataFrame:
    return read_manifest(tiny_workspace / "data/validated")


@pytest.fixture(scope="module")
def read(
    tiny_workspace: Path, images: Pixels, manifest: pd.DataFrame, config: EvaluateConfig
) -> list[Candidate]:
    """The tiny network twice, and the two together."""
    model = tiny_workspace / "models/resnet18"
    return read_candidates([model, model], images, manifest["row"].to_numpy(), config)


@pytest.fixture(scope="module")
def trained(read: list[Candidate], manifest: pd.DataFrame, config: EvaluateConfig) -> Judgement:
    return judge_candidate(read[0], manifest, config)


def like(trained: Judgement, name: str, ms_per_view: float, sureness: float) -> Judgement:
    """The same network under another name, that knows the label to some degree."""
    knowing = 0.5 + (trained.studies["label"] - 0.5) * sureness
    mixed = trained.studies["probability"] * (1 - sureness) + knowing * sureness
    return replace(
        trained,
        candidate=replace(trained.candidate, name=name, ms_per_view=ms_per_view),
        studies=trained.studies.assign(probability=mixed),
    )


def test_networks_stand_side_by_side_the_chosen_one_first(trained: Judgement) -> None:
    sure = like(trained, "resnet50", 30, 1.0)
    table = compare([trained, sure], sure, draws=50, seed=0)
    assert list(table) == ["resnet50", "resnet18"]
    assert table["resnet50"]["test"]["auroc"] == 1
    assert table["resnet50"]["lead"] == {"auroc": 0, "low": 0, "high": 0}
    assert table["resnet50"]["ms_per_view"] == 30
    lead = table["resnet18"]["lead"]
    assert lead["auroc"] == pytest.approx(1 - table["resnet18"]["test"]["auroc"])
    assert lead["low"] <= lead["auroc"] <= lead["high"]
    behind = table["resnet18"]["behind"]
    assert behind["auroc"] == pytest.approx(1 - table["resnet18"]["val"]["auroc"])
    weights = trained.candidate.network.parameters()
    assert table["resnet18"]["parameters"] == sum(weight.numel() for weight in weights)
    val = trained.views.query("split == 'val'")
    assert table["resnet18"]["val"]["count"] == val["study"].nunique()


def test_the_quickest_of_those_that_val_cannot_tell_apart_is_taken(trained: Judgement) -> None:
    slow, quick = like(trained, "slow", 90, 1.0), like(trained, "quick", 10, 0.9)
    assert quick.val_auroc == slow.val_auroc == 1
    assert choose([slow, quick], draws=50, seed=0) is quick
    assert choose([quick, slow], draws=50, seed=0) is quick


def test_a_quick_network_that_is_worse_beyond_doubt_is_not_taken(trained: Judgement) -> None:
    wrong = trained.studies.assign(probability=1 - trained.studies["label"] * 0.8)
    quick = replace(like(trained, "quick", 1, 0.0), studies=wrong)
    slow = like(trained, "slow", 90, 1.0)
    assert choose([quick, slow], draws=50, seed=0) is slow


def test_an_ensemble_says_what_its_network_says(
    read: list[Candidate], images: Pixels, manifest: pd.DataFrame
) -> None:
    one, other, together = read
    assert together.name == "resnet18+resnet18"
    assert together.ms_per_view == pytest.approx(one.ms_per_view + other.ms_per_view)
    rows = manifest["row"].to_numpy()[:8]
    spec = one.records[0].policy.image
    said = predict(together.network, images, rows, spec, 4)
    np.testing.assert_allclose(said.logits, together.outputs.logits[:8], atol=1e-4)
    np.testing.assert_allclose(said.cams, together.outputs.cams[:8], atol=1e-3)
    np.testing.assert_allclose(said.embeddings, together.outputs.embeddings[:8], atol=1e-4)


@pytest.mark.slow
def test_an_ensembles_bundle_answers_as_its_networks_do_together(
    read: list[Candidate],
    manifest: pd.DataFrame,
    config: EvaluateConfig,
    images: Pixels,
    tiny_workspace: Path,
    tmp_path: Path,
) -> None:
    together = judge_candidate(read[2], manifest, config)
    points = choose_operating_points(together.studies_in("val"), 0.9, 0.9)
    profile = tiny_workspace / "data/validated/profile.json"
    info = write_bundle(together, points, profile, "unknown", tmp_path)
    assert [network.arch for network in info.provenance.networks] == ["resnet18", "resnet18"]
    open_bundle(tmp_path)
    served = try_serving(tmp_path, together, points, images, threads=1)
    assert served["largest_difference"] < 1e-4
    assert served["verdicts_flipped"] == 0


def test_a_bundle_that_does_not_open_cannot_be_served_and_says_why(
    trained: Judgement, images: Pixels, tmp_path: Path
) -> None:
    points = choose_operating_points(trained.studies_in("val"), 0.9, 0.9)
    served = try_serving(tmp_path, trained, points, images, threads=1)
    assert "manifest.json: not readable" in served["failed"]


def test_read_both_ways_a_view_and_its_mirror_image_get_one_answer(
    tiny_workspace: Path, images: Pixels, manifest: pd.DataFrame, config: EvaluateConfig
) -> None:
    both = config.model_copy(update={"test_time_flip": True})
    folders, rows = [tiny_workspace / "models/resnet18"], manifest["row"].to_numpy()
    (seen,) = read_candidates(folders, images, rows, both)
    (mirrored,) = read_candidates(folders, images[:, :, ::-1], rows, both)
    (one_way,) = read_candidates(folders, images, rows, config)
    np.testing.assert_allclose(seen.outputs.logits, mirrored.outputs.logits, atol=1e-4)
    np.testing.assert_allclose(seen.outputs.cams, mirrored.outputs.cams[:, :, ::-1], atol=1e-4)
    assert np.abs(one_way.outputs.logits - seen.outputs.logits).max() > 1e-3


def test_a_network_that_answers_with_no_number_is_refused(
    read: list[Candidate], images: Pixels
) -> None:
    class Broken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = read[0].network

        def forward(self, image: torch.Tensor) -> object:
            reading = self.network(image)
            return reading._replace(label_logits=reading.label_logits * float("nan"))

    assert abnormal_logit(Broken()(torch.zeros(1, 1, 32, 32)).label_logits).isnan().all()
    with pytest.raises(DataError, match="logit of 3 of 3 views is not finite"):
        predict(Broken(), images, np.arange(3), read[0].records[0].policy.image, 2)


def test_part_and_abstention_are_judged_as_they_are_served(trained: Judgement) -> None:
    refused = trained.views["refused"] != ""
    assert refused[trained.views["split"] == "val"].mean() <= 0.02 + 1e-9
    by_study = trained.studies.set_index("study")["refused"]
    assert by_study.sum() == refused.sum()
    assert set(trained.views["study_part"]) <= set(trained.views["body_part"])
