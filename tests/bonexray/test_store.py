import json
import shutil
import signal
import subprocess
import sys

import pytest

from bonexray.errors import BundleError
from bonexray.store import BundleStore, Champion

_ADD_AND_DIE = """
import os, shutil, signal, sys
from pathlib import Path
from bonexray.store import BundleStore

copy = shutil.copyfile
def copy_and_die(source, target):
    copy(source, target)
    os.kill(os.getpid(), signal.SIGKILL)
shutil.copyfile = copy_and_die
BundleStore(Path(sys.argv[2])).add(Path(sys.argv[1]))
"""


@pytest.fixture
def empty_store(tmp_path):
    return BundleStore(tmp_path / "release")


def bundles_in(store):
    return sorted(path.name for path in (store.root / "bundles").glob("[!.]*"))


def alter(folder):
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")


def test_an_added_bundle_lies_under_its_digest(empty_store, bundle_folder):
    digest = empty_store.add(bundle_folder)
    assert bundles_in(empty_store) == [digest]
    assert empty_store.open(digest).model == (bundle_folder / "model.onnx").read_bytes()


def test_adding_a_bundle_twice_is_the_same_as_once(empty_store, bundle_folder):
    first = empty_store.add(bundle_folder)
    inode = (empty_store.root / "bundles" / first).stat().st_ino
    assert empty_store.add(bundle_folder) == first
    assert bundles_in(empty_store) == [first]
    assert (empty_store.root / "bundles" / first).stat().st_ino == inode


def test_a_copy_that_is_killed_leaves_no_bundle_and_the_next_one_succeeds(
    empty_store, bundle_folder, repository
):
    command = [sys.executable, "-c", _ADD_AND_DIE, str(bundle_folder), str(empty_store.root)]
    killed = subprocess.run(command, cwd=repository, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert bundles_in(empty_store) == []
    digest = empty_store.add(bundle_folder)
    assert bundles_in(empty_store) == [digest]
    assert not list((empty_store.root / "bundles").glob(".*"))


def test_an_altered_bundle_is_neither_added_nor_opened(empty_store, bundle_folder, tmp_path):
    digest = empty_store.add(bundle_folder)
    alter(empty_store.root / "bundles" / digest)
    with pytest.raises(BundleError, match=r"model\.onnx: SHA-256"):
        empty_store.open(digest)

    copy = shutil.copytree(bundle_folder, tmp_path / "altered")
    alter(copy)
    with pytest.raises(BundleError, match=r"model\.onnx: SHA-256"):
        empty_store.add(copy)


def test_adding_a_bundle_again_repairs_an_altered_copy(empty_store, bundle_folder):
    digest = empty_store.add(bundle_folder)
    alter(empty_store.root / "bundles" / digest)
    empty_store.add(bundle_folder)
    assert empty_store.open(digest).digest == digest


def test_a_sound_bundle_under_another_digest_is_refused(empty_store, bundle_folder):
    digest = empty_store.add(bundle_folder)
    other = "0" * 64
    (empty_store.root / "bundles" / digest).rename(empty_store.root / "bundles" / other)
    with pytest.raises(BundleError, match=f"holds the bundle {digest}"):
        empty_store.open(other)


def test_there_is_no_champion_until_one_is_set(empty_store, bundle_folder):
    assert empty_store.champion() is None
    champion = Champion(model_name="m", version="7", digest=empty_store.add(bundle_folder))
    empty_store.set_champion(champion)
    assert BundleStore(empty_store.root).champion() == champion


def test_a_bundle_that_is_not_in_the_store_cannot_become_champion(empty_store):
    with pytest.raises(BundleError, match="no such bundle"):
        empty_store.set_champion(Champion(model_name="m", version="7", digest="0" * 64))
    assert empty_store.champion() is None


def test_a_broken_pointer_is_named_with_its_field(empty_store):
    empty_store.root.mkdir()
    pointer = {"model_name": "m", "version": "7", "digest": "../../elsewhere"}
    (empty_store.root / "champion.json").write_text(json.dumps(pointer))
    with pytest.raises(BundleError, match=r"champion\.json: digest: "):
        empty_store.champion()
