import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bonexray.config import TrainConfig
from pipeline.__main__ import main
from pipeline.trainjob import API_VERSION
from tests.pipeline.restricted import breaches

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT.parent / "shared/schemas/trainer.kubeflow.org_trainjobs.yaml"


@pytest.fixture
def render(tiny_params: Path, tmp_path: Path):
    """Render with 8 processes over some nodes."""

    def call(nodes: int, **cluster: Any) -> dict[str, Any]:
        params = yaml.safe_load(tiny_params.read_text())
        params["train"]["processes"] = 8
        params["kubeflow"] |= {"nodes": nodes, "gpus": 1, "volume": "flow"} | cluster
        tiny_params.write_text(yaml.safe_dump(params))
        out = tmp_path / "trainjob.yaml"
        main(["trainjob", "--params", str(tiny_params), "--arch", "resnet50", "--out", str(out)])
        return yaml.safe_load(out.read_text())

    return call


def test_the_manifest_is_a_train_job_as_published(render) -> None:
    if not SCHEMA.exists():
        pytest.skip("the published schemas are not beside this checkout")
    manifest = render(2)
    assert manifest["apiVersion"].split("/")[0] == published()["spec"]["group"]
    jsonschema.validate(manifest, schema_of_train_jobs())


@cache
def published() -> dict[str, Any]:
    return yaml.safe_load(SCHEMA.read_text())  # type: ignore[no-any-return]


@cache
def schema_of_train_jobs() -> Any:
    """As published, for the version that we write."""
    version = API_VERSION.split("/")[1]
    (found,) = (v for v in published()["spec"]["versions"] if v["name"] == version)
    return closed(found["schema"]["openAPIV3Schema"])


def closed(schema: Any) -> Any:
    """The schema with fields that it does not name refused, as `kubectl --validate` does."""
    if isinstance(schema, dict):
        schema = {key: closed(value) for key, value in schema.items()}
        if "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
            schema.setdefault("additionalProperties", False)
        if schema == {"type": "object"}:  # metadata
            return schema
    elif isinstance(schema, list):
        schema = [closed(value) for value in schema]
    return schema


def test_processes_are_spread_over_the_nodes_one_a_gpu(render) -> None:
    trainer = render(4)["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (4, 2)
    assert trainer["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": 2}


def test_the_nodes_run_the_step_with_the_flags_of_dvc(render) -> None:
    trainer = render(1)["spec"]["trainer"]
    assert trainer["command"] == ["torchrun"]
    assert trainer["args"][:2] == ["-m", "components.train"]
    given = dict(zip(trainer["args"][2::2], trainer["args"][3::2], strict=True))
    assert TrainConfig.model_validate(json.loads(given.pop("--params"))).processes == 8
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    words = stages["train"]["cmd"].replace("${item.arch}", "resnet50").split()[3:]
    expected = dict(zip(words[::2], words[1::2], strict=True))
    del expected["--params"]
    assert {flag: value.removeprefix("/flow/") for flag, value in given.items()} == expected


def test_the_nodes_get_places_and_keys_by_name_alone_and_the_room_of_the_settings(render) -> None:
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    manifest = render(2, node_selector={"pool": "a100"}, tolerations=[toleration])
    trainer = manifest["spec"]["trainer"]
    plain = {entry["name"] for entry in trainer["env"] if "value" in entry}
    assert plain == {"TORCH_HOME"}
    references = [entry["valueFrom"] for entry in trainer["env"] if "valueFrom" in entry]
    named = {reference["name"] for value in references for reference in value.values()}
    assert named == {"bonexray-places", "bonexray-keys"}
    (patch,) = manifest["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "a100"}
    assert pod["tolerations"] == [toleration]
    assert breaches(pod) == []
    assert pod["volumes"][1]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}


def test_a_training_without_a_volume_is_refused(render, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        render(1, volume="")
    assert "kubeflow.volume is empty" in capsys.readouterr().err


@pytest.mark.parametrize("nodes", [3, 16])
def test_nodes_that_cannot_share_the_processes_evenly_are_refused(
    render, nodes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        render(nodes)
    error = capsys.readouterr().err
    assert f"train.processes = 8, of all nodes together, on {nodes} nodes" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "trainjob.yaml").exists()
