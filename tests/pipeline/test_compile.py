"""What compilation makes of the settings, and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from bonexray.bundle import open_bundle
from bonexray.store import BundleStore, Champion
from pipeline.__main__ import main
from pipeline.compiling import documents_of
from pipeline.pods import KEYS, PLACES
from tests.conftest import TINY
from tests.pipeline.two_sides import tasks_of

ROOT = Path(__file__).parents[2]
MD5 = "0123456789abcdef0123456789abcdef"
GPU = {"gpus": 2, "volume": "flow", "node_selector": {"pool": "a100"}, "retries": 2}

Params = dict[str, Any]
Compile = Callable[..., tuple[Params, Params]]


@pytest.fixture
def compile_with(
    tiny_params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Params]]:
    """Compile with changed sections, in an empty folder; the IR, and what it says of Kubernetes."""
    monkeypatch.chdir(tmp_path)

    def call(*flags: str, **sections: dict[str, Any]) -> list[Params]:
        params = yaml.safe_load(tiny_params.read_text())
        for name, fields in sections.items():
            params[name] |= fields
        tiny_params.write_text(yaml.safe_dump(params))
        main(["compile", "--params", str(tiny_params), "--out", "pipeline.yaml", *flags])
        return documents_of(Path("pipeline.yaml"))

    return call


def pod_of(documents: list[Params], step: str) -> dict[str, Any]:
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return executors[f"exec-{step}"]  # type: ignore[no-any-return]


def test_kfps_own_loader_takes_what_was_compiled(compile_with, tmp_path: Path) -> None:
    compile_with()
    loaded = components.load_component_from_file(str(tmp_path / "pipeline.yaml"))
    assert loaded.name == "bonexray"
    assert loaded.component_spec.inputs["commit"].optional is False


def test_every_step_runs_in_the_image_that_was_asked_for(compile_with) -> None:
    image = f"registry.example/bonexray@sha256:{'a' * 64}"
    executors = compile_with("--image", image)[0]["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {image}


def test_two_processes_compile_the_same_bytes(tiny_params: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        command = [sys.executable, "-m", "pipeline", "compile", "--params", str(tiny_params)]
        subprocess.run([*command, "--out", str(tmp_path / name)], cwd=ROOT, check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_version_for_gitops_is_two_objects_that_hold_the_same_pipeline(compile_with) -> None:
    plain = compile_with()
    pipeline, version = compile_with("--version", "v7")
    assert [pipeline["kind"], version["kind"]] == ["Pipeline", "PipelineVersion"]
    for document in (pipeline, version):
        assert document["apiVersion"] == "pipelines.kubeflow.org/v2beta1"
        assert document["metadata"]["namespace"] == "bonexray"
    assert version["metadata"]["name"] == "v7"
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "bonexray"
    assert version["spec"]["pipelineSpec"] == plain[0]
    assert version["spec"]["platformSpec"] == plain[1]


def test_a_gate_stands_before_training_and_before_registration(compile_with) -> None:
    tasks = tasks_of(compile_with()[0])
    for gate, judged, held in (("gate", "validate", "augment"), ("gate-2", "evaluate", "register")):
        inputs = tasks[gate]["inputs"]
        refusal = inputs["parameters"]["refusal"]["taskOutputParameter"]
        report = inputs["artifacts"]["report"]["taskOutputArtifact"]
        assert refusal["producerTask"] == report["producerTask"] == judged
        assert gate in tasks[held]["dependentTasks"]
        assert "enableCache" not in tasks[gate]["cachingOptions"]


def test_the_reports_are_left_whatever_happens(compile_with) -> None:
    tasks = compile_with()[0]["root"]["dag"]["tasks"]
    closing = tasks["close"]
    assert closing["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert closing["dependentTasks"] == [name for name in tasks if name != "close"]


def test_gpus_are_inputs_of_a_run_and_of_the_training_alone(compile_with) -> None:
    documents = compile_with(kubeflow=GPU, train={"processes": 2})
    inputs = documents[0]["root"]["inputDefinitions"]["parameters"]
    # The server reads the count as text alone; of a number it makes no GPU.
    assert inputs["gpus"]["parameterType"] == "STRING"
    assert inputs["gpus"]["defaultValue"] == "2"
    assert inputs["node_selector"]["defaultValue"] == {"pool": "a100"}
    executors = documents[0]["deploymentSpec"]["executors"]
    asked = {
        name: executor["container"].get("resources", {}).get("accelerator")
        for name, executor in executors.items()
    }
    accelerator = asked.pop("exec-train")
    assert accelerator["resourceCount"] == "{{$.inputs.parameters['pipelinechannel--gpus']}}"
    assert not any(asked.values())


def test_both_groups_around_the_training_are_handed_what_its_pod_needs(compile_with) -> None:
    documents = compile_with(kubeflow=GPU, train={"processes": 2})
    for name, component in documents[0]["components"].items():
        if name.startswith(("comp-exit-handler", "comp-for-loop")):
            handed = component["inputDefinitions"]["parameters"]
            wanted = {"gpus", "gpu_type", "node_selector", "tolerations"}
            assert {f"pipelinechannel--{each}" for each in wanted} <= set(handed), name


def test_a_training_gets_shared_memory_a_volume_and_the_names_of_places_and_keys(
    compile_with,
) -> None:
    pod = pod_of(compile_with(kubeflow=GPU, train={"processes": 2}), "train")
    (memory,) = pod["emptyDirMounts"]
    assert (memory["mountPath"], memory["medium"]) == ("/dev/shm", "Memory")
    (volume,) = pod["pvcMount"]
    assert (volume["constant"], volume["mountPath"]) == ("flow", "/volume")
    (places,), (keys,) = pod["configMapAsEnv"], pod["secretAsEnv"]
    assert places["configMapName"] == "bonexray-places"
    assert keys["secretName"] == "bonexray-keys"
    assert {entry["configMapKey"] for entry in places["keyToEnv"]} == set(PLACES)
    assert {entry["secretKey"] for entry in keys["keyToEnv"]} == set(KEYS)


def test_only_what_the_cluster_can_fail_is_tried_again_and_waits_longer_each_time(
    compile_with,
) -> None:
    tasks = tasks_of(compile_with(kubeflow={"retries": 3})[0])
    tried = {name: task["retryPolicy"] for name, task in tasks.items() if "retryPolicy" in task}
    assert set(tried) == {"ingest", "train", "register"}
    assert tried["train"]["maxRetryCount"] == 3
    assert tried["train"]["backoffFactor"] == 2


def test_a_run_has_a_deadline_a_life_a_workspace_and_its_steps_a_timeout_and_a_user(
    compile_with,
) -> None:
    documents = compile_with(kubeflow={"timeout_hours": 3, "deadline_hours": 5, "keep_days": 7})
    config = documents[1]["platforms"]["kubernetes"]["pipelineConfig"]
    assert config["activeDeadlineSeconds"] == 5 * 3600
    assert config["resourceTtlOnCompletion"] == 7 * 86400
    assert config["workspace"]["size"] == "1Gi"
    claim = config["workspace"]["kubernetes"]["pvcSpecPatch"]
    assert claim == {"accessModes": ["ReadWriteOnce"]}
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert len(executors) == 10  # seven steps, two gates, the closing
    for pod in executors.values():
        assert pod["activeDeadlineSeconds"] == str(3 * 3600)
        assert pod["securityContext"]["runAsNonRoot"] is True


def test_several_nodes_train_as_a_train_job(compile_with) -> None:
    cluster = GPU | {"nodes": 4, "volume": "flow"}
    documents = compile_with(kubeflow=cluster, train={"processes": 8})
    task = tasks_of(documents[0])["train-on-nodes"]
    constants = task["inputs"]["parameters"]["cluster"]["runtimeValue"]["constant"]
    assert (constants["nodes"], constants["volume"]) == (4, "flow")
    paths = {
        env["name"]: env["fieldPath"]
        for env in pod_of(documents, "train-on-nodes")["fieldPathAsEnv"]
    }
    assert paths["POD_UID"] == "metadata.uid"
    assert paths["BONEXRAY_RUN"] == "metadata.labels['pipeline/runid']"


def test_an_archive_under_dvc_is_taken_by_the_address_that_carries_its_hash(
    compile_with, tmp_path: Path
) -> None:
    track_archive("s3://bucket/store")
    documents = compile_with(data={"archive": "data/MURA-v1.1.zip"})
    assert "simulate" not in tasks_of(documents[0])
    (importer,) = (
        executor["importer"]
        for executor in documents[0]["deploymentSpec"]["executors"].values()
        if "importer" in executor
    )
    address = importer["artifactUri"]["constant"]
    assert address == f"s3://bucket/store/files/md5/{MD5[:2]}/{MD5[2:]}"
    assert documents[0]["root"]["inputDefinitions"]["parameters"]["data"]["defaultValue"] == MD5


def track_archive(remote: str) -> None:
    """Make this folder one where DVC knows the archive, which need not be here."""
    subprocess.run(["git", "init", "--quiet"], check=True)
    for folder in (".dvc", "data"):
        Path(folder).mkdir()
    settings = f"""[core]\n    remote = team\n['remote "team"']\n    url = {remote}\n"""
    Path(".dvc/config").write_text(settings)
    out = {"outs": [{"md5": MD5, "size": 3, "hash": "md5", "path": "MURA-v1.1.zip"}]}
    Path("data/MURA-v1.1.zip.dvc").write_text(yaml.safe_dump(out))


def test_an_archive_where_no_cluster_can_fetch_it_is_refused(
    compile_with, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track_archive(str(tmp_path / "beside"))
    with pytest.raises(SystemExit, match="1"):
        compile_with(data={"archive": "data/MURA-v1.1.zip"})
    error = capsys.readouterr().err
    assert "is nothing that Kubeflow fetches, expected one of s3://, gs://" in error
    assert error.count("\n") == 1


def test_a_champion_on_a_volume_is_refused(
    compile_with, bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = BundleStore(tmp_path / "release")
    digest = store.add(bundle_folder)
    store.set_champion(Champion(model_name="bonexray", version="3", digest=digest))
    cluster = TINY["release"]["cluster"] | {"store": "pvc://claim/release"}
    with pytest.raises(SystemExit, match="1"):
        compile_with(release={"cluster": cluster})
    assert "release.cluster.store, where the champion lies: pvc://" in capsys.readouterr().err


def test_the_champion_is_imported_by_digest_for_both_gates(
    compile_with, bundle_folder: Path, tmp_path: Path
) -> None:
    store = BundleStore(tmp_path / "release")
    digest = store.add(bundle_folder)
    champion = Champion(model_name="bonexray", version="3", digest=digest)
    store.set_champion(champion)
    compiled = compile_with()[0]
    tasks = tasks_of(compiled)
    for step in ("validate", "evaluate"):
        given = tasks[step]["inputs"]["parameters"]["champion"]["runtimeValue"]["constant"]
        assert given == champion.model_dump()
        assert "bundle" in tasks[step]["inputs"]["artifacts"]
    assert open_bundle(bundle_folder).digest == digest
    assert f"s3://bonexray/release/bundles/{digest}" in json.dumps(compiled)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"data": {"archive": "data/MURA-v1.1.zip"}}, "data.archive = 'data/MURA-v1.1.zip'"),
        ({"train": {"epochs": None}}, "train.epochs = None"),
        ({"kubeflow": {"gpus": 4}}, "train.processes = 1 on kubeflow.gpus = 4"),
        ({"kubeflow": {"nodes": 2}}, "nodes = 2 without a volume"),
        ({"kubeflow": {"image": "bonexray:latest"}}, "kubeflow.image = 'bonexray:latest'"),
        ({"kubeflow": {"deadline_hours": 1}}, "deadline_hours not above timeout_hours = 1"),
        ({"networks": {"archs": ["resnet18", "resnet18"]}}, "archs name a network twice"),
        ({"kubeflow": {"secret": "Not A Name"}}, "kubeflow.secret = 'Not A Name'"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line_and_nothing_is_written(
    compile_with, sections: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        compile_with(**sections)
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("pipeline.yaml").exists()
