"""The serving image serves as a pod runs it: read-only, without rights, a signed bundle mounted."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from bonexray.store import Champion
from serving.signature import make_keys
from tests.containers.conftest import STRICT
from tests.containers.running import open_to_all, state, told, wait_for
from tests.serving.live import INFER, STUDY
from tests.small_bundle import add_signed, make_store

pytestmark = pytest.mark.containers

Start = Callable[[Path, Path], str]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., str]) -> Path:
    """A folder with a signed champion, that any user may read, and its key."""
    folder = tmp_path_factory.mktemp("release")
    make_bundle(folder / "bundle")
    store = make_store(folder)
    digest = add_signed(store, folder / "bundle")
    store.set_champion(Champion(model_name="bonexray", version="1", digest=digest))
    open_to_all(folder / "release")
    return folder


@pytest.fixture
def start(images: dict[str, str]) -> Iterator[Start]:
    started: list[str] = []

    def call(store: Path, trust: Path) -> str:
        mounts = [f"--volume={store}:/release:ro", f"--volume={trust}:/trust/release.pub:ro"]
        flags = [flag for flag in STRICT if flag != "--rm"]
        command = ["python", "-m", "serving", "--host", "0.0.0.0", "--store", "/release"]
        command += ["--audit", "/tmp/audit"]
        done = subprocess.run(
            ["docker", "run", "--detach", *flags, *mounts, "--publish=127.0.0.1:0:8080",
             images["bonexray-serving"], *command, "--trust", "/trust/release.pub"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        started.append(done.stdout.strip())
        return started[-1]

    yield call
    for container in started:
        subprocess.run(["docker", "rm", "--force", container], stdout=subprocess.DEVNULL)


def test_it_becomes_healthy_answers_a_study_and_stops_in_time(start: Start, release: Path) -> None:
    container = start(release / "release", release / "keys/release.pub")
    wait_for(container, "Health.Status", "healthy")
    port = told("port", container, "8080").rpartition(":")[2]
    answer = httpx.post(f"http://127.0.0.1:{port}{INFER}", json=STUDY, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["parameters"]["model_version"] == "1"
    told("stop", "--time=20", container)
    assert state(container, "ExitCode") == "0"


def test_a_bundle_that_somebody_else_signed_is_refused_in_a_line(
    start: Start, release: Path, tmp_path: Path
) -> None:
    make_keys(tmp_path / "key", tmp_path / "other.pub")
    (tmp_path / "other.pub").chmod(0o644)
    container = start(release / "release", tmp_path / "other.pub")
    wait_for(container, "Status", "exited")
    assert state(container, "ExitCode") == "1"
    said = told("logs", container).splitlines()
    assert len(said) == 1, said
    assert "signature" in said[0]
