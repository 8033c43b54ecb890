"""Champions that nobody must be answered by, and unreadable pointers: the one before goes on."""

import json
import pickle
import re
import shutil
import subprocess
import time

import pytest

from bonexray.artifacts import sha256_file
from bonexray.bundle import MODEL_FILE
from bonexray.sealed import MANIFEST_FILE
from bonexray.store import CHAMPION_FILE, BundleStore
from serving.signature import make_keys, sign_bundle
from tests.serving.live import PATIENCE_S, serve_command, wait_until
from tests.small_bundle import mean_network, write_bundle


def altered(folder, _):
    with (folder / MODEL_FILE).open("ab") as file:
        file.write(b"\0")


def with_an_extra_file(folder, _):
    (folder / "notes.txt").write_text("harmless")


def with_a_pickle(folder, _):
    (folder / "model.pkl").write_bytes(pickle.dumps(dict))


def unsigned(_, signature):
    signature.unlink()


def signed_with_another_key(folder, signature):
    keys = signature.parent / "other"
    make_keys(keys / "key", keys / "pub")
    signature.write_text(sign_bundle(folder, keys / "key", []))


def with_anothers_signature(folder, signature):
    other = next(path for path in signature.parent.glob("*.sig") if path != signature)
    shutil.copyfile(other, signature)


def not_a_graph(folder):
    write_bundle(folder, model=pickle.dumps(dict))


def reaching_out_of_its_folder(folder):
    write_bundle(folder, mean_network(gain=5.0).SerializeToString())
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    (folder.parent / "outside").write_bytes((folder / MODEL_FILE).read_bytes())
    manifest["sha256"]["../outside"] = manifest["sha256"].pop(MODEL_FILE)
    (folder / MODEL_FILE).unlink()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


SPOILED = {
    altered: r".*/model.onnx: SHA-256 is .*",
    with_an_extra_file: r".*: holds \['notes.txt'\] beside its manifest.*",
    with_a_pickle: r".*: holds \['model.pkl'\] beside its manifest.*",
    unsigned: r".*\.sig: no such signature.*",
    signed_with_another_key: r".*\.sig: Key mismatch: .*",
    with_anothers_signature: r".*\.sig: .*",
}
"""What is done to a good bundle in the store, or to its signature -> what is told."""

MADE = {
    not_a_graph: r"model.onnx: cannot be run: .*",
    reaching_out_of_its_folder: r".*: holds \[\] beside its manifest, and lacks \['../outside'\].*",
}
"""Bundles that are bad, but signed by whom we trust -> what is told."""


def put_bad_bundle(store, case):
    """Put a bundle into a store that nobody must serve, and return its digest."""
    folder = store.root / "made"
    if case in MADE:
        case(folder)
    else:
        gain = 10 + list(SPOILED).index(case)
        write_bundle(folder, mean_network(gain=gain).SerializeToString())
    digest = sha256_file(folder / MANIFEST_FILE)
    folder.rename(store.folder(digest))
    signature = store.signature(digest)
    key = store.root.parent / "keys/release.key"
    signature.write_text(sign_bundle(store.folder(digest), key, []))
    if case in SPOILED:
        case(store.folder(digest), signature)
    return digest


@pytest.mark.parametrize("case", [*SPOILED, *MADE], ids=lambda case: case.__name__)
def test_a_bad_champion_is_told_in_one_line_and_the_one_before_goes_on(command, digests, case):
    before, served = command.complained(), command.said()
    digest = put_bad_bundle(command.store, case)
    command.point("9", digest)
    wait_until(lambda: command.complained() != before)
    line = command.complained().removeprefix(before)
    reason = (SPOILED | MADE)[case]
    expected = rf"serving: version 9 \(digest {digest[:12]}\) is not served: {reason}"
    assert re.fullmatch(rf"{expected}; version 3 goes on\n", line), line
    assert (command.ask(), command.said()) == ("3", served)
    command.point("3", digests["3"])


QUICK = (unsigned, not_a_graph)
FIRST = [
    pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow, id=case.__name__)
    for case in (*SPOILED, *MADE)
]


@pytest.mark.parametrize("case", FIRST)
def test_a_bad_first_champion_ends_the_command_and_is_never_ready(
    shelf, repository, tmp_path, case
):
    folder = shutil.copytree(shelf, tmp_path / "own")
    store = BundleStore(folder / "release")
    digest = put_bad_bundle(store, case)
    pointer = {"model_name": "bonexray", "version": "9", "digest": digest}
    (store.root / CHAMPION_FILE).write_text(json.dumps(pointer))
    ended = subprocess.run(
        serve_command(store),
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(f"serving: {(SPOILED | MADE)[case]}\n", ended.stderr), ended.stderr


def test_a_champion_that_was_mended_is_served_when_it_is_pointed_to_again(start):
    command = start()
    digest = put_bad_bundle(command.store, unsigned)
    command.point("9", digest)
    wait_until(lambda: "version 9 (" in command.complained())
    key = command.store.root.parent / "keys/release.key"
    command.store.signature(digest).write_text(sign_bundle(command.store.folder(digest), key, []))
    command.point("9", digest)
    wait_until(lambda: "version 9 (" in command.said())
    assert command.ask() == "9"


def test_a_pointer_that_cannot_be_read_is_told_once_and_one_that_is_gone_changes_nothing(
    command, digests
):
    before = command.complained()
    pointer = command.store.root / CHAMPION_FILE
    pointer.write_text("{}")
    wait_until(lambda: command.complained() != before)
    pointer.unlink()
    time.sleep(2.5)
    line = command.complained().removeprefix(before)
    assert re.fullmatch(r"serving: .*/champion.json: .*; what is served goes on\n", line), line
    assert command.ask() == "3"
    command.point("3", digests["3"])


@pytest.mark.slow
def test_a_champion_that_was_refused_is_tried_again_in_a_minute_and_told_once(start):
    command = start()
    digest = put_bad_bundle(command.store, unsigned)
    command.point("9", digest)
    wait_until(lambda: "version 9 (" in command.complained())
    key = command.store.root.parent / "keys/release.key"
    signature = sign_bundle(command.store.folder(digest), key, [])
    command.store.signature(digest).write_text(signature)
    time.sleep(40)
    assert command.ask() == "3"
    # What is left of the minute, and then a start, which has as long as everywhere here.
    wait_until(lambda: "version 9 (" in command.said(), seconds=20 + PATIENCE_S)
    assert command.complained().count("\n") == 1
