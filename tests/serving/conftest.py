"""Real servers on loopback, of the small bundle; registries with candidates to decide on."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from bonexray.serve_config import ServeConfig
from bonexray.store import BundleStore, Champion
from components import evaluate, register
from serving import release
from tests.servers import s3_server
from tests.serving.live import (
    QUICK,
    Client,
    Command,
    addresses_of,
    complaints,
    serve_command,
    wait_until,
)
from tests.serving.object_store import BUCKET, bucket_at, signed_release
from tests.small_bundle import add_signed, make_store, mean_network, write_bundle


@dataclass(frozen=True, kw_only=True)
class Server:
    url: str
    grpc: str
    metrics: str
    ready_line: str
    stderr: Path
    process: subprocess.Popen[str]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, trust_env=False)

    def post(self, path: str, **body: object) -> httpx.Response:
        return httpx.post(self.url + path, timeout=30, trust_env=False, **body)

    def infer(self, *views: bytes, **fields: object) -> httpx.Response:
        tensor = {
            "name": "image",
            "datatype": "BYTES",
            "shape": [len(views)],
            "data": [base64.b64encode(view).decode() for view in views],
        }
        return self.post("/v2/models/bonexray/infer", json={"inputs": [tensor], **fields})

    def stop(self) -> tuple[int, str]:
        """Stop it by its process id: exit status, and what it printed after the ready line."""
        self.process.terminate()
        printed, _ = self.process.communicate(timeout=20)
        return self.process.returncode, printed + complaints(self.stderr.read_text())


@pytest.fixture(scope="session")
def start_server(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, store: BundleStore
) -> Iterator[Callable[..., Server]]:
    """Starts a server of the store's champion; whatever was started is stopped at the end."""
    started: list[Server] = []

    def start(*flags: object, config: ServeConfig = QUICK) -> Server:
        folder = tmp_path_factory.mktemp("server")
        stderr = folder / "stderr.txt"
        command = serve_command(store, "--audit", folder / "audit", *flags, config=config)
        with stderr.open("w") as file:
            process = subprocess.Popen(
                command, cwd=repository, stdout=subprocess.PIPE, stderr=file, text=True
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " is ready on " in line, stderr.read_text()
        url, grpc, metrics = addresses_of(line)
        server = Server(
            url=url, grpc=grpc, metrics=metrics, ready_line=line, stderr=stderr, process=process
        )
        started.append(server)
        return server

    try:
        yield start
    finally:
        for server in started:
            if server.process.poll() is None:
                server.stop()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture
def registry(
    tiny_workspace: Path, tiny_params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    """A registry of the test's own, whose candidate is the tiny bundle."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    release.main(["keys"])
    candidate(tiny_params, tiny_workspace / "bundle", tiny_workspace / "reports/evaluation")
    return MlflowClient(uri)


def candidate(params: Path, bundle: Path, report: Path) -> None:
    register.main(
        ["--params", str(params), "--bundle", str(bundle), "--report", str(report)]
        + ["--out", str(params.parent / "registration")]
    )


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A git repository of one commit, which holds the lock file."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copyfile(repository / "requirements.lock", folder / "requirements.lock")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "lock"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="session")
def checkout_commit(checkout: Path) -> str:
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


@pytest.fixture(scope="session")
def other_evaluation(
    tiny_workspace: Path, checkout_commit: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Another bundle and its report, of another commit; held against the tiny one as champion."""
    folder, data = tmp_path_factory.mktemp("other"), tiny_workspace / "data"
    store = BundleStore(folder / "release")
    digest = store.add(tiny_workspace / "bundle")
    store.set_champion(Champion(model_name="bonexray", version="1", digest=digest))
    evaluate.main(
        ["--params", str(tiny_workspace / "params.yaml"), "--dataset", str(data / "dataset")]
        + ["--validated", str(data / "validated"), "--models", str(tiny_workspace / "models")]
        + ["--archs", "resnet18", "--commit", checkout_commit]
        + ["--crossval", "none", "--release", str(store.root)]
        + ["--out", str(folder / "bundle"), "--report", str(folder / "report")]
    )
    return folder


@pytest.fixture
def second_candidate(registry: MlflowClient, other_evaluation: Path, tiny_params: Path) -> None:
    """The other bundle as version 2."""
    candidate(tiny_params, other_evaluation / "bundle", other_evaluation / "report")


def approve(version: str = "candidate", by: str = "A. Reader", reason: str = "gate passed") -> None:
    release.main(["approve", version, "--by", by, "--reason", reason, "--yes"])


def records(folder: Path) -> list[dict[str, str]]:
    return [
        json.loads(line) for line in (folder / "release/records.jsonl").read_text().splitlines()
    ]


@pytest.fixture
def load():
    """Start clients on a command; those that still ask at the end are stopped."""
    with ExitStack() as stack:

        def start(command, keeping, leaving):
            clients = [Client(command, number < keeping) for number in range(keeping + leaving)]
            for client in clients:
                client.start()
                stack.callback(client.join)
                stack.callback(client.leave.set)
            wait_until(lambda: all(len(client.heard) > 5 for client in clients))
            return clients

        yield start


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with keys and a store, which holds two signed bundles; version 3 is champion."""
    folder = tmp_path_factory.mktemp("shelf")
    store = make_store(folder)
    for version, gain in (("4", 3.0), ("3", 2.0)):
        write_bundle(folder / version, mean_network(gain=gain).SerializeToString())
        digest = add_signed(store, folder / version)
        store.set_champion(Champion(model_name="bonexray", version=version, digest=digest))
        (folder / f"{version}.digest").write_text(digest)
    return folder


@pytest.fixture(scope="module")
def digests(shelf):
    return {version: (shelf / f"{version}.digest").read_text() for version in ("3", "4")}


@pytest.fixture(scope="module")
def start(shelf, repository, tmp_path_factory):
    with ExitStack() as stack:

        def begin():
            folder = shutil.copytree(shelf, tmp_path_factory.mktemp("served") / "own")
            command = Command(folder, repository)
            stack.callback(command.stop)
            return command

        yield begin


@pytest.fixture(scope="module")
def command(start):
    """One that serves version 3 whenever a test begins, and ends."""
    return start()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3"), BUCKET) as url:
        yield url


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    return bucket_at(s3, monkeypatch)


@pytest.fixture(name="release")
def signed_release_folder(tmp_path: Path, bundle_folder: Path) -> BundleStore:
    (tmp_path / "team").mkdir()
    return signed_release(tmp_path / "team", bundle_folder)
