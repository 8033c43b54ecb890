"""Somebody who decides on versions from a folder, by the commands that people type."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

WHY = ("--reason", "gate passed")
BOUND = 90  # seconds in which a command has ended, whatever ails the registry

PAUSED = """
import sys, time
from pathlib import Path
from serving import records, registry, release

def paused(call, first):
    def run(*arguments):
        done = first and call(*arguments)
        Path("reached").touch()
        while not Path("go").exists():
            time.sleep(0.02)
        return done if first else call(*arguments)
    return run

if sys.argv[1] == "after the record":
    records.Records.append = paused(records.Records.append, True)
else:
    registry.Registry.fetch = paused(registry.Registry.fetch, False)
release.main(sys.argv[2:])
"""

IN_THE_PAST = """
import sys
from datetime import datetime
from serving import records, release

class Past(datetime):
    @classmethod
    def now(cls, zone=None):
        return datetime(2001, 1, 1, tzinfo=zone)

records.datetime = Past
release.main(sys.argv[1:])
"""

ON_A_FULL_DISK = """
import resource, sys
from bonexray.store import BundleStore
from serving import registry, release

def filled(call):
    def run(*arguments):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        return call(*arguments)
    return run

owner, name = {"fetch": (registry.Registry, "fetch"), "add": (BundleStore, "add")}[sys.argv[1]]
setattr(owner, name, filled(getattr(owner, name)))
release.main(sys.argv[2:])
"""


@dataclass(frozen=True)
class Desk:
    """A folder from which somebody decides on the versions of one model."""

    folder: Path
    env: Mapping[str, str]
    model: str

    def release(self, *arguments: str, script: tuple[str, ...] = ()) -> "Ended":
        return self.begin(*arguments, script=script).end()

    def approve(
        self, version: str = "candidate", by: str = "A. Reader", script: tuple[str, ...] = ()
    ) -> "Ended":
        return self.release("approve", version, "--by", by, *WHY, "--yes", script=script)

    def begin(self, *arguments: str, script: tuple[str, ...] = ()) -> "Begun":
        """Start a release command, or a script around it that takes its arguments."""
        named = () if arguments[0] in ("keys", "history") else ("--model-name", self.model)
        how = ("-c", *script) if script else ("-m", "serving.release")
        return Begun([*how, *arguments, *named], self)

    def register(self, bundle: Path, report: Path) -> "Ended":
        command = ["-m", "components.register", "--params", "params.yaml", "--out", "registration"]
        return Begun([*command, "--bundle", str(bundle), "--report", str(report)], self).end()

    def records(self) -> list[dict[str, str]]:
        path = self.folder / "release/records.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def champion(self) -> str | None:
        path = self.folder / "release/champion.json"
        return json.loads(path.read_text())["version"] if path.exists() else None

    def state(self) -> list[str]:
        """Every file of the release folder that says or serves something."""
        files = (self.folder / "release").rglob("*")
        return sorted(path.name for path in files if path.is_file() and path.name[0] != ".")


class Begun:
    """A command under way."""

    def __init__(self, arguments: list[str], desk: Desk) -> None:
        self._started, self._folder = time.monotonic(), desk.folder
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=desk.folder,
            env=dict(desk.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until_it_pauses(self) -> "Begun":
        while not (self._folder / "reached").exists():
            assert self._process.poll() is None, self._process.communicate()
            time.sleep(0.05)
        return self

    def end(self) -> "Ended":
        (self._folder / "go").touch()
        try:
            out, err = self._process.communicate(timeout=BOUND)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        return Ended(self._process.returncode, out, err, time.monotonic() - self._started)


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str
    seconds: float

    def well(self) -> str:
        assert self.status == 0, self.out + self.err
        return self.out

    def line(self) -> str:
        """The one line that it failed with."""
        assert self.status == 1, self.out + self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith(("release: ", "register: "))
        return self.err
