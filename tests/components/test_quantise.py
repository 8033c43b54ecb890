import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from torch import nn

from bonexray.analysis import cpu_multiplies_int8
from bonexray.artifacts import write_json
from bonexray.bundle import INFO_FILE, INT8_FILE, OUTPUTS, Bundle, open_bundle
from bonexray.config import EvaluateConfig, read_section
from bonexray.dataset import open_images
from bonexray.images import Pixels, normalise
from bonexray.network import BothWays, Ensemble, FineMap, LimbNet
from bonexray.novelty import Abstention
from bonexray.sealed import seal
from bonexray.tables import read_manifest
from bonexray.trained import read_record
from components import quantise as step
from components.candidates import load_trained, read_candidates
from components.export import export_onnx
from components.judgement import Judgement, judge_candidate
from components.quantise import (
    add_int8,
    compare_precisions,
    quantise,
    too_different,
    why_no_int8,
)

READ_ALL = Abstention(max_novelty=1e9, max_conflict=1e9)
VAL = {"auroc_lost": 0.001, "refusals_differ": 0.004}

exactly = pytest.mark.skipif(not cpu_multiplies_int8(), reason="this CPU saturates in INT8")


@pytest.fixture(scope="module")
def config(tiny_workspace: Path) -> EvaluateConfig:
    config = read_section(str(tiny_workspace / "params.yaml"), EvaluateConfig)
    return config.model_copy(update={"int8_max_auroc_lost": 0.1})


@pytest.fixture(scope="module")
def images(tiny_workspace: Path) -> Pixels:
    return open_images(tiny_workspace / "data/dataset")


@pytest.fixture(scope="module")
def chosen(tiny_workspace: Path, images: Pixels, config: EvaluateConfig) -> Judgement:
    """The tiny network, which here refuses no view."""
    manifest = read_manifest(tiny_workspace / "data/validated")
    folders = [tiny_workspace / "models/resnet18"]
    (read,) = read_candidates(folders, images, manifest["row"].to_numpy(), config)
    judged = judge_candidate(read, manifest, config)
    return replace(judged, abstention=READ_ALL, views=judged.views.assign(refused=""))


@pytest.fixture
def bundle(tiny_workspace: Path, tmp_path: Path) -> Path:
    """The tiny network's bundle in FP32, which refuses no view either."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_workspace / "bundle", folder)
    (folder / INT8_FILE).unlink(missing_ok=True)
    info = open_bundle_info(tiny_workspace)
    write_json(folder / INFO_FILE, info)
    seal(folder)
    return folder


def open_bundle_info(workspace: Path) -> dict[str, object]:
    info = open_bundle(workspace / "bundle").info
    return info.model_copy(update={"abstention": READ_ALL}).model_dump(mode="json")


def run(graph: bytes, views: np.ndarray, exact: bool = True) -> dict[str, np.ndarray]:
    """A graph's outputs; `exact` computes INT8 in float, as its definition has it."""
    options = onnxruntime.SessionOptions()
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"image": views}), strict=True))


@pytest.fixture(scope="module")
def tiny(tiny_workspace: Path, images: Pixels) -> Bundle:
    """The tiny bundle with an INT8 network, whether or not evaluate let it in."""
    opened = open_bundle(tiny_workspace / "bundle")
    return replace(opened, model_int8=quantise(opened.model, images[:64], opened.info.image))


def spread(values: np.ndarray) -> float:
    return float(np.sqrt(((values - values.mean(axis=0)) ** 2).mean()))


def nearly(graph: bytes, int8: bytes, views: np.ndarray) -> None:
    """Each output in INT8 differs from FP32 by little beside how much views differ."""
    expected, found = run(graph, views), run(int8, views)
    for name in OUTPUTS:
        error = float(np.sqrt(((found[name] - expected[name]) ** 2).mean()))
        assert 0 < error < 0.2 * spread(expected[name]), name


def test_each_output_in_int8_is_nearly_what_it_is_in_fp32(tiny: Bundle, images: Pixels) -> None:
    assert tiny.model_int8 is not None
    nearly(tiny.model, tiny.model_int8, normalise(images[64:128], tiny.info.image))
    assert len(tiny.model_int8) < 0.27 * len(tiny.model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrap", "copies"),
    [
        (FineMap, 1),
        (lambda network: BothWays(FineMap(network)), 1),
        (lambda network: Ensemble([FineMap(network), FineMap(LimbNet("resnet18"))]), 2),
    ],
    ids=["finer map", "both ways", "ensemble"],
)
def test_a_wrapped_network_is_quantised_too_and_its_weights_are_kept_once(
    wrap: Callable[[nn.Module], nn.Module],
    copies: int,
    tiny: Bundle,
    tiny_workspace: Path,
    images: Pixels,
    tmp_path: Path,
) -> None:
    folder = tiny_workspace / "models/resnet18"
    alone = load_trained(folder, read_record(folder), test_time_flip=False).network
    spec = tiny.info.image
    export_onnx(wrap(alone), spec.size, tmp_path / "model.onnx")
    graph = (tmp_path / "model.onnx").read_bytes()
    int8 = quantise(graph, images[:64], spec)
    nearly(graph, int8, normalise(images[64:96], spec))
    assert tiny.model_int8 is not None
    assert len(int8) < 1.03 * copies * len(tiny.model_int8)


def test_quantising_again_gives_the_same_bytes_and_no_path_of_the_machine(
    tiny: Bundle, images: Pixels, tmp_path: Path
) -> None:
    again = quantise(tiny.model, images[:64], tiny.info.image)
    assert again == tiny.model_int8
    for trace in (str(tmp_path.parents[1]), "/tmp/", "site-packages", "ort.quant", "pre.quant"):
        assert trace.encode() not in again
    assert quantise(tiny.model, images[:16], tiny.info.image) != again


@exactly
def test_this_cpu_answers_in_int8_as_its_definition_has_it(tiny: Bundle, images: Pixels) -> None:
    assert tiny.model_int8 is not None
    views = normalise(images[64:96], tiny.info.image)
    defined, found = run(tiny.model_int8, views), run(tiny.model_int8, views, exact=False)
    rounding = spread(run(tiny.model, views)["logit"] - defined["logit"])
    assert spread(found["logit"] - defined["logit"]) < 0.5 * rounding


@exactly
def test_an_int8_network_that_answers_as_well_goes_into_the_bundle(
    bundle: Path, chosen: Judgement, images: Pixels, config: EvaluateConfig
) -> None:
    before = open_bundle(bundle)
    figures, digest = add_int8(bundle, chosen, images, config)
    assert (figures["accepted"], figures["reason"], why_no_int8(figures)) == (True, "", "")
    after = open_bundle(bundle)
    assert after.model == before.model
    assert after.model_int8 is not None
    assert after.digest == digest != before.digest


@exactly
def test_an_int8_network_that_loses_auroc_is_left_out_and_the_bundle_stays_as_it_was(
    bundle: Path, chosen: Judgement, images: Pixels, config: EvaluateConfig
) -> None:
    before = open_bundle(bundle).digest
    perfect = chosen.studies.assign(probability=chosen.studies["label"].astype(float))
    strict = config.model_copy(update={"int8_max_auroc_lost": 0.0})
    figures, digest = add_int8(bundle, replace(chosen, studies=perfect), images, strict)
    assert not figures["accepted"]
    assert why_no_int8(figures).startswith("AUROC lost on val is 0.")
    assert digest == before == open_bundle(bundle).digest


def test_on_a_cpu_that_saturates_the_bundle_gets_no_int8_network(
    bundle: Path,
    chosen: Judgement,
    images: Pixels,
    config: EvaluateConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, "cpu_multiplies_int8", lambda: False)
    figures, digest = add_int8(bundle, chosen, images, config)
    assert list(figures) == ["skipped"]
    assert "this CPU saturates" in why_no_int8(figures)
    assert digest == open_bundle(bundle).digest
    assert not (bundle / INT8_FILE).exists()


def test_precisions_are_compared_study_by_study(
    tiny: Bundle, chosen: Judgement, images: Pixels
) -> None:
    info = tiny.info.model_copy(update={"abstention": READ_ALL})
    reading = replace(tiny, info=info)
    fp32 = compare_precisions(replace(reading, model_int8=tiny.model), chosen, "val", images, 1)
    val = chosen.studies_in("val")
    assert fp32["auroc_lost"] == fp32["refusals_differ"] == 0
    assert fp32["largest_difference"] < 1e-4
    assert (fp32["studies"], fp32["views"]) == (len(val), val["views"].sum())
    away = val["probability"].where(val.index != val.index[0], val["probability"] + 0.25)
    moved = replace(chosen, studies=val.assign(probability=away))
    found = compare_precisions(replace(reading, model_int8=tiny.model), moved, "val", images, 1)
    assert found["largest_difference"] == pytest.approx(0.25, abs=1e-4)
    assert found["mean_difference"] == pytest.approx(0.25 / len(val), abs=1e-4)


def test_a_view_that_one_refuses_and_the_other_reads_is_counted_unless_it_lies_on_a_bound(
    tiny: Bundle, chosen: Judgement, images: Pixels
) -> None:
    reading = replace(tiny, info=tiny.info.model_copy(update={"abstention": READ_ALL}))
    refusing = chosen.views.assign(refused="unlike")
    found = compare_precisions(reading, replace(chosen, views=refusing), "val", images, 1)
    assert found["refusals_differ"] == 1
    highest = refusing.query("split == 'val'")["novelty"].max()
    bound = READ_ALL.model_copy(update={"max_novelty": float(highest)})
    on_it = replace(chosen, views=refusing, abstention=bound)
    found = compare_precisions(reading, on_it, "val", images, 1)
    assert found["refusals_differ"] == pytest.approx(1 - 1 / found["views"])


def test_where_one_label_is_missing_nothing_is_said_of_auroc(
    tiny: Bundle, chosen: Judgement, images: Pixels
) -> None:
    normal = replace(chosen, studies=pd.DataFrame(chosen.studies.assign(label=0)))
    found = compare_precisions(tiny, normal, "val", images, 1)
    assert found["auroc_fp32"] is found["auroc_int8"] is found["auroc_lost"] is None
    assert too_different(found, 1) == "the AUROC of val is undefined"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"auroc_lost": -0.3}, ""),
        ({"auroc_lost": 0.0021}, "AUROC lost on val is 0.0021, expected at most 0.002"),
        ({"refusals_differ": 0.01}, ""),
        (
            {"refusals_differ": 0.0105},
            "FP32 and INT8 differ in whether to refuse 1.05% of the views of val, "
            "expected at most 1%",
        ),
        ({"auroc_lost": None}, "the AUROC of val is undefined"),
    ],
)
def test_int8_stands_in_only_within_its_bounds(
    change: dict[str, float | None], reason: str
) -> None:
    assert too_different(VAL | change, 0.002) == reason
