"""The rules of the house that no linter knows."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("bonexray", "components", "pipeline", "serving", "benchmarks")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def imported(path: Path) -> Iterator[Path]:
    """The project's own files that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            file = ROOT / f"{name.replace('.', '/')}.py"
            if file.exists():
                yield file


def needed(path: Path) -> set[str]:
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported(file)
    return {file.relative_to(ROOT).as_posix() for file in found}


@pytest.mark.parametrize("step", STAGES)
def test_a_stage_depends_on_exactly_the_code_its_step_imports(step: str) -> None:
    stated = {dependency for dependency in STAGES[step]["deps"] if dependency.endswith(".py")}
    assert stated == needed(ROOT / "components" / f"{step}.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < 50, node.name


def test_the_lock_file_pins_every_requirement_with_hashes_and_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index" not in lock
    pinned = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    assert lock.count("==") <= lock.count("--hash=sha256:")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = project["dependencies"] + [line for extra in extras for line in extra]
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= pinned


@pytest.mark.parametrize("image", ["components", "serving"])
def test_the_lock_file_of_an_image_is_part_of_the_one_for_all(image: str) -> None:
    def pinned(path: Path) -> set[str]:
        lines = path.read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith("#")}

    own = pinned(ROOT / image / "requirements.lock")
    assert own <= pinned(ROOT / "requirements.lock")
    assert ("torch==2.14.1" in own) == (image == "components")
