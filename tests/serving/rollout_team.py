"""A team with a release folder, and a cluster on loopback that its versions go to."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bonexray.artifacts import write_json
from bonexray.sealed import seal
from bonexray.store import BundleStore, Champion
from serving.rollout import main
from serving.signature import make_keys, sign_bundle
from tests.conftest import TINY
from tests.serving.kubernetes_server import KubernetesServer, kubernetes, write_kubeconfig


@dataclass
class Team:
    """A release folder, and the cluster that its versions go to."""

    folder: Path
    server: KubernetesServer
    capsys: pytest.CaptureFixture[str]

    @property
    def store(self) -> BundleStore:
        return BundleStore(self.folder / "release")

    def approve(self, version: str) -> Champion:
        """Make a bundle of that version's own the champion, signed."""
        bundle = self.folder / f"bundle-{version}"
        if not bundle.exists():
            shutil.copytree(self.folder / "bundle", bundle)
            write_json(bundle / "profile.json", {"version": version})
            seal(bundle)
        digest = self.store.add(bundle)
        if not self.store.signature(digest).exists():
            self.store.signature(digest).parent.mkdir(exist_ok=True)
            signature = sign_bundle(bundle, self.folder / "release.key", [])
            self.store.signature(digest).write_text(signature)
        champion = Champion(model_name="bonexray", version=version, digest=digest)
        self.store.set_champion(champion)
        return champion

    def call(self, command: str, *more: str) -> str:
        """What the command prints."""
        main([command, *self.flags(command), *more])
        return self.capsys.readouterr().out

    def refused(self, command: str, *more: str) -> str:
        """The one line in which the command refuses."""
        with pytest.raises(SystemExit, match="1"):
            main([command, *self.flags(command), *more])
        captured = self.capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        return captured.err

    def flags(self, command: str) -> list[str]:
        flags = ["--params", str(self.folder / "params.yaml"), "--store", str(self.store.root)]
        return flags if command == "render" else [*flags, "--timeout", "2"]

    def configure(self, **fields: Any) -> None:
        cluster = {**TINY["release"]["cluster"], "store": "pvc://claim/release", **fields}
        release = {**TINY["release"], "trust": str(self.folder / "release.pub"), "cluster": cluster}
        (self.folder / "params.yaml").write_text(yaml.safe_dump({**TINY, "release": release}))

    def served(self) -> tuple[str, str | None]:
        """Versions on the cluster: stable, canary."""
        spec = self.server.service()["spec"]
        (canary,) = [each["predictor"] for each in spec.get("canary", [])] or [None]
        version = "bonexray/version"
        stable = spec["predictor"]["annotations"][version]
        return stable, canary and canary["annotations"][version]


@contextmanager
def new_team(folder: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Team]:
    """A team whose champion is version 3, and whose cluster holds nothing yet."""
    shutil.copytree(bundle, folder / "bundle")
    make_keys(folder / "release.key", folder / "release.pub")
    with pytest.MonkeyPatch.context() as patch, kubernetes() as server:
        patch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
        patch.setattr("serving.cluster._PAUSES_S", (0.01, 0.01, 0.01))
        write_kubeconfig(folder / "kubeconfig", server.url)
        team = Team(folder, server, capsys)
        team.configure()
        team.approve("3")
        yield team
