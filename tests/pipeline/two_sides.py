"""The flow as dvc.yaml states it and as the compiled pipeline does, in the same words."""

import ast
import shlex
from dataclasses import dataclass
from typing import Any

# What a flag's value is called on either side when it is no file that another step wrote.
NOT_ARTEFACTS = {
    "--params", "--arch", "--archs", "--commit", "--splits", "--reference", "--crossval",
    "--release",
}  # fmt: skip
INPUT_OF = {"archs": "networks"}
"""Input of the pipeline that is named otherwise than its section of params.yaml."""
LOOP = "for-loop-"


@dataclass(frozen=True)
class Step:
    """One step, as one of the two sides states it."""

    module: str
    flags: frozenset[str]
    reads: frozenset[tuple[str, str, str]]
    """Flag, the step that wrote what it names, and that step's flag for it."""
    writes: frozenset[str]
    """Flags of what other steps may read, and people."""
    settings: frozenset[str]
    """Sections of params.yaml that make it run again when they change."""


def dvc_side(stages: dict[str, Any]) -> dict[str, Step]:
    commands = {name: _words(stage["cmd"]) for name, stage in stages.items()}
    written = {
        place: (name, flag)
        for name, (_, command) in commands.items()
        for flag, place in command.items()
        if place in stages[name]["outs"]
    }
    # evaluate reads the folder above the networks' own.
    written["models"] = ("train", "--out")
    written["${data.archive}"] = ("simulate", "--out")
    return {
        name: Step(
            module=module,
            flags=frozenset(command),
            reads=frozenset(
                (flag, *written[place])
                for flag, place in command.items()
                if flag not in NOT_ARTEFACTS and place not in stages[name]["outs"]
            ),
            writes=frozenset(f for f, place in command.items() if place in stages[name]["outs"]),
            settings=frozenset(stages[name]["params"])
            | frozenset(over.strip("${}").split(".")[0] for over in _matrix(stages[name])),
        )
        for name, (module, command) in commands.items()
    }


def _matrix(stage: dict[str, Any]) -> list[str]:
    return list(stage.get("matrix", {}).values())


def _words(cmd: str) -> tuple[str, dict[str, str]]:
    words = shlex.split(cmd.replace("${networks}", "--archs ${networks.archs}"))
    assert words[:2] == ["python", "-m"]
    return words[2], dict(zip(words[3::2], words[4::2], strict=True))


def tasks_of(compiled: dict[str, Any]) -> dict[str, Any]:
    """The tasks below the exit handler, those of a loop among them."""
    (flow,) = (name for name in compiled["root"]["dag"]["tasks"] if name != "close")
    tasks: dict[str, Any] = compiled["components"][f"comp-{flow}"]["dag"]["tasks"]
    for name in [name for name in tasks if name.startswith(LOOP)]:
        tasks = tasks | compiled["components"][f"comp-{name}"]["dag"]["tasks"]
    return tasks


def kubeflow_side(compiled: dict[str, Any]) -> dict[str, Step]:
    tasks = tasks_of(compiled)
    steps = {}
    for name, task in tasks.items():
        component = compiled["components"][task["componentRef"]["name"]]
        if name.startswith((LOOP, "gate")):
            continue
        code = _Code(compiled["deploymentSpec"]["executors"][component["executorLabel"]])
        inputs = task.get("inputs", {})
        outputs = set(component.get("outputDefinitions", {}).get("artifacts", {}))
        steps[name] = Step(
            module=code.module,
            flags=frozenset(code.flags),
            reads=frozenset(
                (f"--{own}", *_writer(source, tasks))
                for own, source in inputs.get("artifacts", {}).items()
                if own in code.flags.values()
            ),
            writes=frozenset(flag for flag, source in code.flags.items() if source in outputs),
            settings=frozenset(_sections(inputs.get("parameters", {}))),
        )
    return steps


def _sections(parameters: dict[str, Any]) -> list[str]:
    """Which inputs of the pipeline reach a step as its settings."""
    read = []
    for name in ("params", "arch", "archs"):
        source = parameters.get(name, {}).get("componentInputParameter", "")
        source = source.removeprefix("pipelinechannel--").removesuffix("-loop-item")
        if source:
            read.append(INPUT_OF.get(source, source))
    return read


def _writer(source: dict[str, Any], tasks: dict[str, Any]) -> tuple[str, str]:
    if "componentInputArtifact" in source:  # within the loop: what the loop was given
        (loop,) = (task for name, task in tasks.items() if name.startswith(LOOP))
        source = loop["inputs"]["artifacts"][source["componentInputArtifact"]]
    output = source["taskOutputArtifact"]
    producer, key = output["producerTask"], output["outputArtifactKey"]
    if producer.startswith(LOOP):
        producer, _, key = key.removeprefix("pipelinechannel--").partition("-")
    return producer, f"--{key}"


class _Code:
    """What a component's own code calls: the module whose `main`, with which flags of what."""

    def __init__(self, executor: dict[str, Any]) -> None:
        tree = ast.parse(executor["container"]["command"][-1])
        (self.module,) = (
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("components.")
        )
        (call,) = (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("main", "refusal_of")
        )
        words = _flatten(call.args[-1])
        self.flags: dict[str, str] = {}
        """Flag -> the name of the component's argument that its value comes from."""
        for word, value in zip(words[::2], words[1::2], strict=True):
            assert isinstance(word, ast.Constant)
            self.flags[word.value] = _source(value)


def _flatten(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return _flatten(node.left) + _flatten(node.right)
    assert isinstance(node, ast.List)
    return list(node.elts)


def _source(node: ast.expr) -> str:
    names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
    found = [name for name in names if name not in ("json", "model")]
    # Where a training writes until it is whole is its output in the end.
    return {"place": "out"}.get(found[0], found[0]) if found else ""
