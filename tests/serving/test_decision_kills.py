"""A kill at any point of a decision: the state is that before it or that after it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bonexray.store import BundleStore, Champion
from serving import release
from serving.decisions import standing
from serving.records import Records
from serving.signature import open_signed
from tests.serving.conftest import approve

pytestmark = pytest.mark.slow

KILLED_AT = """
import os, signal, sys
at, *flags = sys.argv[1:]
seen = 0
def watch(event, arguments):
    global seen
    changes = event in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "shutil.copyfile")
    changes |= event == "open" and arguments[1] in ("w", "wb", "xb", "r+b", "a")
    changes |= event == "open" and arguments[1] is None and arguments[2] & os.O_APPEND
    here = str(arguments[0]) if changes else ""
    if changes and ("release" in here or "records" in here):
        seen += 1
        if seen == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
from serving import release
sys.addaudithook(watch)
release.main(flags)
print(f"changes {seen}")
"""


def run(at: int, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", KILLED_AT, str(at), *flags],
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )


def as_decided(registry: MlflowClient, folder: Path) -> bool:
    """Whether pointer, signature, manifests and aliases are those of the last decision."""
    store = BundleStore(folder / "release")
    champion = standing(Records(store.root).read())
    assert champion is not None
    pointer = Champion(
        model_name="bonexray", version=champion.version, digest=champion.bundle_digest
    )
    open_signed(store, champion.bundle_digest, folder / "keys/release.pub")
    texts = "".join(path.read_text() for path in (store.root / "manifests").glob("*.yaml"))
    alias = registry.get_model_version_by_alias("bonexray", "champion").version
    followed = store.champion() == pointer and champion.bundle_digest in texts
    return followed and str(alias) == champion.version


@pytest.mark.usefixtures("second_candidate")
def test_a_kill_at_any_change_of_the_release_folder_leaves_before_or_after(
    registry: MlflowClient, tmp_path: Path
) -> None:
    approve("1")
    store, trust = BundleStore(tmp_path / "release"), tmp_path / "keys/release.pub"
    why = ["--by", "A. Reader", "--reason", "seen"]
    over = [*why, "--yes", "--override", "known"]
    outcomes, at = set(), 0
    while True:
        at += 1
        before = store.champion()
        wanted = "1" if before and before.version == "2" else "2"
        # Odd changes of approvals, even ones of rollbacks.
        flags = ["approve", wanted, *over] if at % 2 or at < 4 else ["rollback", *why]
        done = run(at, *flags)
        served = store.champion()
        assert served is not None
        open_signed(store, served.digest, trust)  # what is served is sound all the while
        release.main(["status"])
        assert as_decided(registry, tmp_path)
        after = store.champion()
        assert after is not None
        outcomes.add("before" if after == before else "after")
        release.main(flags)  # again: it finishes, or is a decision of its own
        assert as_decided(registry, tmp_path)
        if done.returncode == 0:
            assert f"changes {at - 1}" in done.stdout or at > 10
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert outcomes == {"before", "after"}
    assert at > 8
    release.main(["history"])
