"""dvc.yaml and the compiled Kubeflow pipeline are one flow: drift of any kind fails here."""

import ast
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.__main__ import main as compile_main

ROOT = Path(__file__).parents[2]
# What a flag's value is called on either side when it is no file that another step wrote.
NOT_ARTEFACTS = {
    "--params", "--arch", "--archs", "--commit", "--splits", "--reference", "--crossval",
    "--release",
}  # fmt: skip


@dataclass
class Step:
    """One step, as one of the two sides states it."""

    flags: set[str]
    reads: set[tuple[str, str, str]] = field(default_factory=set)
    """Flag, the step that wrote what it names, and that step's flag for it."""


def dvc_steps() -> dict[str, Step]:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = {name: command_of(stage["cmd"], name) for name, stage in stages.items()}
    written = {
        place: (name, flag)
        for name, command in commands.items()
        for flag, place in command.items()
        if place in stages[name]["outs"]
    }
    # evaluate reads the folder above the networks' own.
    written["models"] = ("train", "--out")
    written["${data.archive}"] = ("simulate", "--out")
    return {
        name: Step(
            set(command),
            {
                (flag, *written[place])
                for flag, place in command.items()
                if flag not in NOT_ARTEFACTS and place not in stages[name]["outs"]
            },
        )
        for name, command in commands.items()
    }


def command_of(cmd: str, name: str) -> dict[str, str]:
    words = shlex.split(cmd.replace("${networks}", "--archs ${networks.archs}"))
    assert words[:3] == ["python", "-m", f"components.{name}"]
    return dict(zip(words[3::2], words[4::2], strict=True))


def kubeflow_steps(compiled: dict[str, Any]) -> dict[str, Step]:
    steps: dict[str, Step] = {}
    tasks = compiled["root"]["dag"]["tasks"]
    loop = compiled["components"]["comp-for-loop-1"]["dag"]
    inner = loop["tasks"]["train"]["inputs"]["artifacts"]
    tasks = tasks | {"train": {**loop["tasks"]["train"], "inputs": {"artifacts": {
        name: tasks["for-loop-1"]["inputs"]["artifacts"][source["componentInputArtifact"]]
        for name, source in inner.items()
    }}}}  # fmt: skip
    for name, task in tasks.items():
        if name == "for-loop-1":
            continue
        flags = flags_of(compiled, name)
        reads = set()
        for artifact, source in task.get("inputs", {}).get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            producer = output["producerTask"].replace("for-loop-1", "train")
            key = output["outputArtifactKey"].removeprefix("pipelinechannel--train-")
            reads.add((f"--{artifact}", producer, f"--{key}"))
        steps[name] = Step(flags, reads)
    return steps


def flags_of(compiled: dict[str, Any], name: str) -> set[str]:
    """The flags in the component's own code, which must call `main` of the step's module."""
    (executor,) = [
        executor["container"]
        for label, executor in compiled["deploymentSpec"]["executors"].items()
        if label == f"exec-{name}"
    ]
    tree = ast.parse(executor["command"][-1])
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert f"components.{name}" in imported
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and str(node.value).startswith("--")
    }


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_main(["compile", "--params", str(ROOT / "params.yaml"), "--out", str(out)])
    return yaml.safe_load(out.read_text())  # type: ignore[no-any-return]


def test_both_sides_have_the_same_steps_flags_and_edges(compiled: dict[str, Any]) -> None:
    assert kubeflow_steps(compiled) == dvc_steps()


def test_the_defaults_on_kubeflow_are_those_of_params_yaml(compiled: dict[str, Any]) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    stated = compiled["root"]["inputDefinitions"]["parameters"]
    assert stated.pop("commit") == {"parameterType": "STRING"}
    defaults = {name: parameter["defaultValue"] for name, parameter in stated.items()}
    no_steps = ("data", "search", "kubeflow", "release")
    expected = {name: section for name, section in params.items() if name not in no_steps}
    expected["archs"] = expected.pop("networks")["archs"]
    assert defaults == expected


def test_every_step_runs_in_the_image_that_was_asked_for(tmp_path: Path) -> None:
    image = f"registry.example/bonexray@sha256:{'a' * 64}"
    compile_main(["compile", "--params", str(ROOT / "params.yaml")]
                 + ["--image", image, "--out", str(tmp_path / "pipeline.yaml")])  # fmt: skip
    compiled = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    executors = compiled["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {image}


def test_an_archive_that_the_pipeline_would_not_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mura = str(ROOT / "profiles/mura.yaml")
    with pytest.raises(SystemExit, match="1"):
        compile_main(["compile", "--params", mura, "--out", str(tmp_path / "pipeline.yaml")])
    assert "data.archive = 'data/MURA-v1.1.zip'" in capsys.readouterr().err


def test_a_value_that_a_step_would_refuse_is_refused_when_compiling(
    tiny_params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = yaml.safe_load(tiny_params.read_text())
    params["train"]["epochs"] = None
    tiny_params.write_text(yaml.safe_dump(params))
    with pytest.raises(SystemExit, match="1"):
        compile_main(["compile", "--params", str(tiny_params)]
                     + ["--out", str(tmp_path / "pipeline.yaml")])  # fmt: skip
    assert "train.epochs = None" in capsys.readouterr().err
    assert not (tmp_path / "pipeline.yaml").exists()
