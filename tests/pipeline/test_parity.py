"""dvc.yaml and the compiled Kubeflow pipeline are one flow: drift of any kind fails here."""

import copy
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.__main__ import main as compile_main
from pipeline.compiling import documents_of
from tests.pipeline.two_sides import dvc_side, kubeflow_side, tasks_of

ROOT = Path(__file__).parents[2]
NO_STEPS = ("data", "search", "kubeflow", "release", "serve")
"""Sections that no step of the flow reads as its own."""

Compiled = dict[str, Any]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    out = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    with chdir(out.parent):  # where nobody was made champion
        compile_main(["compile", "--params", str(ROOT / "params.yaml"), "--out", str(out)])
    return documents_of(out)[0]


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())  # type: ignore[no-any-return]


def defaults(compiled: Compiled) -> dict[str, Any]:
    """What the pipeline's inputs are when nobody says otherwise, in the words of params.yaml."""
    inputs = compiled["root"]["inputDefinitions"]["parameters"]
    given = {name: value["defaultValue"] for name, value in inputs.items() if name != "commit"}
    given["networks"] = {"archs": given.pop("archs")}
    return given


def agree(stages: dict[str, Any], params: dict[str, Any], compiled: Compiled) -> bool:
    """Whether both sides state the same flow."""
    given = defaults(compiled)
    settings = {name: given.get(name) for name in params if name not in NO_STEPS}
    own = {name: section for name, section in params.items() if name not in NO_STEPS}
    return kubeflow_side(compiled) == dvc_side(stages) and settings == own


def test_both_sides_have_the_same_steps_modules_flags_edges_outputs_and_settings(
    stages: dict[str, Any], params: dict[str, Any], compiled: Compiled
) -> None:
    assert kubeflow_side(compiled) == dvc_side(stages)
    assert agree(stages, params, compiled)


def executor(compiled: Compiled, step: str) -> list[str]:
    return compiled["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["command"]  # type: ignore[no-any-return]


def recode(step: str, old: str, new: str) -> Callable[[Compiled], None]:
    def change(compiled: Compiled) -> None:
        command = executor(compiled, step)
        assert old in command[-1]
        command[-1] = command[-1].replace(old, new)

    return change


def another_edge(compiled: Compiled) -> None:
    artifacts = tasks_of(compiled)["augment"]["inputs"]["artifacts"]
    artifacts["dataset"] = artifacts["validated"]


def another_default(compiled: Compiled) -> None:
    compiled["root"]["inputDefinitions"]["parameters"]["train"]["defaultValue"]["epochs"] += 1


def another_section(compiled: Compiled) -> None:
    parameters = tasks_of(compiled)["ingest"]["inputs"]["parameters"]
    parameters["params"]["componentInputParameter"] = "pipelinechannel--validate"


def no_augment(compiled: Compiled) -> None:
    for component in compiled["components"].values():
        component.get("dag", {}).get("tasks", {}).pop("augment", None)


@pytest.mark.parametrize(
    "drift",
    [
        pytest.param(no_augment, id="a step is missing"),
        pytest.param(another_edge, id="an edge starts elsewhere"),
        pytest.param(
            recode("ingest", "components.ingest", "components.index"), id="another module"
        ),
        pytest.param(recode("augment", "--validated", "--manifest"), id="another flag"),
        pytest.param(
            recode("register", "bundle.path", "report.path"), id="a flag of another input"
        ),
        pytest.param(another_default, id="another default"),
        pytest.param(recode("validate", "report.path]", "params['report']]"), id="an output less"),
        pytest.param(another_section, id="another section is in the cache's key"),
    ],
)
def test_a_drift_of_the_pipeline_is_seen(
    drift: Callable[[Compiled], None],
    stages: dict[str, Any],
    params: dict[str, Any],
    compiled: Compiled,
) -> None:
    drifted = copy.deepcopy(compiled)
    drift(drifted)
    assert not agree(stages, params, drifted)


@pytest.mark.parametrize(
    ("stage", "key", "value"),
    [
        ("ingest", "cmd", "python -m components.index --params params.yaml --archive x --out y"),
        ("augment", "outs", []),
        ("validate", "params", ["validate", "ingest"]),
        ("train", "matrix", {}),
    ],
)
def test_a_drift_of_dvc_yaml_is_seen(
    stage: str,
    key: str,
    value: Any,
    stages: dict[str, Any],
    params: dict[str, Any],
    compiled: Compiled,
) -> None:
    drifted = copy.deepcopy(stages)
    drifted[stage][key] = value
    try:
        same = agree(drifted, params, compiled)
    except KeyError:  # an edge from nowhere
        same = False
    assert not same


def test_a_change_of_params_yaml_alone_is_seen(
    stages: dict[str, Any], params: dict[str, Any], compiled: Compiled
) -> None:
    assert not agree(stages, params | {"ingest": {"image_size": 128}}, compiled)


def test_the_cache_of_every_step_sees_the_commit_and_all_but_the_first_the_data(
    compiled: Compiled,
) -> None:
    for name, step in kubeflow_side(compiled).items():
        parameters = tasks_of(compiled)[name]["inputs"]["parameters"]
        versions = {"commit", "data"} if name != "simulate" else {"commit"}
        assert versions <= set(parameters), (name, step)
        for version in versions:
            source = parameters[version]["componentInputParameter"]
            assert source == f"pipelinechannel--{version}"
