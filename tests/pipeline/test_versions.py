"""Which code a run says it is of."""

import subprocess
from pathlib import Path

import pytest

from bonexray.errors import ConfigError
from pipeline.versions import code_commit, submitted_commit


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository of one commit."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "data.zip.dvc", "README.md", "pipeline/steps.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("as committed\n")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", *words], check=True)
    return tmp_path


@pytest.mark.parametrize("name", ["params.yaml", "data.zip.dvc", "notes.txt"])
def test_settings_data_and_notes_are_in_no_image_and_may_differ(checkout: Path, name: str) -> None:
    (checkout / name).write_text("otherwise\n")
    assert submitted_commit(None) == code_commit()


@pytest.mark.parametrize("name", ["README.md", "pipeline/steps.py", "pipeline/new.py"])
def test_other_files_that_differ_or_are_new_in_an_image_are_refused(
    checkout: Path, name: str
) -> None:
    (checkout / name).write_text("otherwise\n")
    with pytest.raises(ConfigError, match="files differ from HEAD"):
        submitted_commit(None)
    assert submitted_commit("a" * 40) == "a" * 40


def test_outside_of_a_checkout_no_commit_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="not in a git checkout"):
        submitted_commit(None)
