"""Real servers on loopback for the journeys: S3, PostgreSQL, a team's MLflow that asks who calls.

Each is stopped by the id of the process that was started here, whatever happens.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
ADMIN, ADMIN_PASSWORD = "admin", "an-admin's-long-password"
BUCKET = "mlflow"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a server answers there, with whatever status."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@dataclass
class Server:
    """A server that can be killed and started again at the same place."""

    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    log: Path
    user: str | None = None  # PostgreSQL does not run as root
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self, seconds: int = 120) -> None:
        groups = {} if self.user is None else {"group": self.user, "extra_groups": []}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env=dict(self.environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
                **groups,
            )
        limit = time.monotonic() + seconds
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"{self.command[:4]} did not start: {self.said()[-4000:]}")
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it and the workers in its process group."""
        if self.process is None or self.process.poll() is not None:
            return
        os.kill(self.process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=20)
        self.kill()

    def kill(self) -> None:
        """As a machine that loses its power: it and its workers at once."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=20)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def s3_server(folder: Path, bucket: str) -> Iterator[str]:
    """The URL of an S3 server with one bucket."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def bucket_is_there() -> bool:
        request = urllib.request.Request(f"{url}/{bucket}", method="PUT")
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            return False
        return True

    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = Server(command, os.environ, bucket_is_there, folder / "s3.log")
    try:
        server.start()
        yield url
    finally:
        server.stop()


def postgres_binaries() -> Path:
    """Where PostgreSQL's programs are. Skips the test when they are not installed."""
    found = shutil.which("initdb")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found is None and not places:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return Path(found).resolve().parent if found else places[-1].parent


@contextmanager
def postgres_server(databases: Sequence[str]) -> Iterator[str]:
    """The URI of a PostgreSQL server with these databases, without the database's name."""
    binaries = postgres_binaries()
    user = "postgres" if os.geteuid() == 0 else None
    groups = {} if user is None else {"group": user, "extra_groups": []}
    # Not below pytest's folder, which is closed to other users; and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="bonexray-postgres-"))
    data, port, environment = folder / "data", free_port(), dict(os.environ)
    if user:
        shutil.chown(folder, user, user)

    def run(program: str, *arguments: str) -> bool:
        command = [str(binaries / program), *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, user=user, capture_output=True, **groups
        )
        return done.returncode == 0

    address = ["--host", str(folder), "--port", str(port), "--username", "postgres"]
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
    # Nothing of it outlives the tests.
    command += ["-h", "127.0.0.1", "-c", "fsync=off"]
    server = Server(
        command,
        environment,
        lambda: run("pg_isready", "--quiet", *address[:4]),
        folder / "postgres.log",
        user,
    )
    try:
        assert run("initdb", "--auth=trust", "--username=postgres", "-D", str(data))
        server.start()
        for name in databases:
            assert run("createdb", *address, name), server.said()
        # A bare `postgresql://` is another driver since SQLAlchemy 2.1.
        yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}"
    finally:
        server.stop(signal.SIGINT)  # PostgreSQL's word for now, without waiting for its clients
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Team:
    """A team's MLflow, and where it keeps what it is given."""

    url: str
    server: Server
    s3: str

    def member(self, environment: Mapping[str, str], name: str, password: str) -> dict[str, str]:
        """The environment of one who calls it."""
        return dict(environment) | {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": password,
        }


@contextmanager
def team_server(folder: Path, default_permission: str) -> Iterator[Team]:
    """MLflow on PostgreSQL, its artefacts on S3, its callers by name and password.

    Args:
        folder: for its logs and settings.
        default_permission: what a user may do with what is another's.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server(["mlflow", "auth"]))
        s3 = stack.enter_context(s3_server(folder, BUCKET))
        settings = folder / "auth.ini"
        settings.write_text(
            f"[mlflow]\ndefault_permission = {default_permission}\n"
            f"database_uri = {database}/auth\n"
            f"admin_username = {ADMIN}\nadmin_password = {ADMIN_PASSWORD}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # Else every request hashes the password anew, and an upload is a request a file.
            "auth_cache_ttl_seconds = 60\n"
        )
        environment = (
            os.environ
            | KEYS
            | {
                "MLFLOW_S3_ENDPOINT_URL": s3,
                "MLFLOW_AUTH_CONFIG_PATH": str(settings),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for the tests",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            }
        )
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
        command += ["--backend-store-uri", f"{database}/mlflow", "--workers", "1"]
        command += ["--artifacts-destination", f"s3://{BUCKET}"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        server = Server(
            command, environment, lambda: answers(f"{url}/health"), folder / "mlflow.log"
        )
        stack.callback(server.stop)
        server.start()
        yield Team(url, server, s3)
