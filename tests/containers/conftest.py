"""The engine, the images and how a container is run: as strictly as a cluster does."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from pipeline.images import IMAGES, Sources, build
from tests.containers.engine import base_image, engine

ROOT = Path(__file__).parents[2]
STRICT = ("--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
STRICT += ("--tmpfs=/tmp:mode=1777",)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def index_url() -> str:
    """Where this machine's own pip takes packages from."""
    return os.environ.get("PIP_INDEX_URL", "")


@pytest.fixture(scope="session")
def images() -> Iterator[dict[str, str]]:
    """Name -> the image as built of this working directory."""
    with engine():
        certificates = os.environ.get("PIP_CERT")
        sources = Sources(
            base=base_image(),
            index_url=index_url(),
            ca_bundle=Path(certificates) if certificates else None,
        )
        with chdir(ROOT):
            built = {name: build(name, sources) for name in IMAGES}
        yield built


@pytest.fixture(scope="session")
def run(images: dict[str, str]) -> Run:
    """Run a command in an image; read-only, without rights, as the image's user."""

    def call(name: str, *command: str, flags: tuple[str, ...] = ("--network=none",)):
        words = ["docker", "run", *STRICT, *flags, images[name], *command]
        return subprocess.run(words, capture_output=True, text=True, timeout=300)

    return call
