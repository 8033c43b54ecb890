import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bonexray.artifacts import (
    refuse_overlap,
    remove,
    sha256_json,
    whole_file,
    whole_folder,
    write_json,
)
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


def test_an_output_never_takes_the_place_of_another_kind_of_thing(tmp_path: Path) -> None:
    file, folder, pipe = tmp_path / "file", tmp_path / "folder", tmp_path / "pipe"
    file.write_text("kept")
    folder.mkdir()
    os.mkfifo(pipe)  # as a device, /dev/null among them
    for write, target in ((whole_folder, file), (whole_folder, pipe), (whole_file, folder)):
        with pytest.raises(ConfigError, match="expected the place of"), write(target):
            pass
    with pytest.raises(ConfigError, match="neither a file nor a folder"):
        remove(pipe)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder", "pipe"}
    assert file.read_text() == "kept"


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


def test_two_runs_never_write_the_same_place_at_once(tmp_path: Path) -> None:
    for write, target in ((whole_folder, tmp_path / "folder"), (whole_file, tmp_path / "file")):
        with write(target) as first:
            with pytest.raises(ConfigError, match="another run is writing it"), write(target):
                pass
            assert first.exists()
        assert target.exists()


def test_an_output_that_is_or_holds_an_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data/dataset").mkdir(parents=True)
    dataset = tmp_path / "data/dataset"
    for outs in ([dataset], [tmp_path / "data"], [tmp_path / "out", tmp_path / "out"]):
        with pytest.raises(ConfigError, match="expected a place of its own"):
            refuse_overlap(outs, [dataset])
    refuse_overlap([tmp_path / "data/validated", tmp_path / "report"], [dataset])
