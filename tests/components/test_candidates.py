from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bonexray.config import EvaluateConfig, read_section
from bonexray.dataset import open_images
from bonexray.tables import read_manifest
from components.candidates import Candidate, assess, compare


@pytest.fixture(scope="module")
def config(tiny_workspace: Path) -> EvaluateConfig:
    return read_section(str(tiny_workspace / "params.yaml"), EvaluateConfig)


@pytest.fixture(scope="module")
def trained(tiny_workspace: Path, config: EvaluateConfig) -> Candidate:
    data = tiny_workspace / "data"
    images, manifest = open_images(data / "dataset"), read_manifest(data / "validated")
    return assess(tiny_workspace / "models/resnet18", images, manifest, config)


def test_networks_stand_side_by_side_best_first_with_the_lead_of_the_best(
    trained: Candidate, config: EvaluateConfig
) -> None:
    knowing = trained.views["label"] * 0.6 + 0.2
    sure = replace(
        trained,
        record=trained.record.model_copy(update={"arch": "resnet50"}),
        views=trained.views.assign(probability=knowing),
        val_auroc=1.0,
    )
    table = compare([trained, sure], config)
    assert list(table) == ["resnet50", "resnet18"]
    assert table["resnet50"]["test"]["auroc"] == 1
    assert table["resnet50"]["lead"] == {"auroc": 0, "auroc_low": 0, "auroc_high": 0}
    lead = table["resnet18"]["lead"]
    assert lead["auroc"] == pytest.approx(1 - table["resnet18"]["test"]["auroc"])
    assert lead["auroc_low"] <= lead["auroc"] <= lead["auroc_high"]
    assert table["resnet18"]["parameters"] == sum(
        weight.numel() for weight in trained.network.parameters()
    )
    assert (
        table["resnet18"]["val"]["count"]
        == trained.views.query("split == 'val'")["study"].nunique()
    )


def test_read_both_ways_a_view_and_its_mirror_image_get_one_answer(
    tiny_workspace: Path, config: EvaluateConfig
) -> None:
    data = tiny_workspace / "data"
    images, manifest = open_images(data / "dataset"), read_manifest(data / "validated")
    both = config.model_copy(update={"test_time_flip": True})
    model = tiny_workspace / "models/resnet18"
    seen = assess(model, images, manifest, both)
    mirrored = assess(model, images[:, :, ::-1], manifest, both)
    np.testing.assert_allclose(seen.views["logit"], mirrored.views["logit"], atol=1e-4)
    np.testing.assert_allclose(seen.cams, mirrored.cams[:, :, ::-1], atol=1e-4)
    one_way = assess(model, images, manifest, config)
    assert np.abs(one_way.views["logit"] - seen.views["logit"]).max() > 1e-3
