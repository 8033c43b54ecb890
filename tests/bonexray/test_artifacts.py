import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bonexray.artifacts import remove, sha256_json, whole_file, whole_folder, write_json
from bonexray.errors import ConfigError


def test_a_file_appears_only_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with whole_file(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail() -> None:
        with whole_file(target) as partial:
            partial.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("first", "second"):
        with whole_folder(target) as partial:
            (partial / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["second"]


@pytest.mark.parametrize("target", [".", ".."])
def test_an_output_never_takes_the_place_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/file").write_text("kept")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match="is or holds the working directory"):
        remove(Path(target))
    assert (tmp_path / "here/file").read_text() == "kept"


KILLED = """
import os, signal, sys
from pathlib import Path
from bonexray.artifacts import whole_folder
with whole_folder(Path(sys.argv[1])) as partial:
    (partial / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_no_folder_and_the_next_run_clears_what_it_left(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    killed = subprocess.run([sys.executable, "-c", KILLED, target], env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    with whole_folder(target) as partial:
        (partial / "file").write_text("whole")
    assert [path.name for path in target.iterdir()] == ["file"]
    assert list(tmp_path.iterdir()) == [target]


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "figures.json", {"auroc": float("nan")})
    assert not (tmp_path / "figures.json").exists()


def test_equal_values_have_equal_digests_whatever_their_order() -> None:
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
