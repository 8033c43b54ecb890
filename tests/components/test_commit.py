import subprocess
from pathlib import Path

import pytest

from components.commit import describe_commit
from tests.components.conftest import COMMIT


def test_a_commit_is_a_full_id_or_the_working_directorys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert describe_commit(COMMIT) == COMMIT
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "init", "--quiet"], check=True)
    (tmp_path / "file").write_text("one")
    subprocess.run(["git", "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "one"], check=True)
    clean = describe_commit("HEAD")
    assert len(clean) == 40
    (tmp_path / "file").write_text("two")
    assert describe_commit("HEAD") == f"{clean}-dirty"


def test_a_commit_outside_git_is_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert describe_commit("HEAD") == "unknown"
    assert "not in a git checkout" in capsys.readouterr().out


def test_a_commit_in_words_is_refused() -> None:
    with pytest.raises(Exception, match="--commit 'main', expected HEAD or 40"):
        describe_commit("main")
