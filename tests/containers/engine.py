"""A Docker engine for the tests: the one that runs, or one of our own on this machine.

Ours keeps its images between runs, in a folder of the user's cache, and is stopped by its process
id. Where no registry answers, the base image is made of Debian's packages.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.images import BASE

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bonexray-engine"
_PATIENCE_S = 60
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_NOT_OF_SLIM_IMAGES = ("doc", "man", "locale", "info")


@contextmanager
def engine() -> Iterator[None]:
    """Make `docker` work, by DOCKER_HOST if it must.

    Raises:
        RuntimeError: no engine answers and none can be started here.
    """
    if _answers():
        yield
        return
    for program in ("docker", "dockerd", "containerd", "runc", "iptables"):
        if shutil.which(program) is None:
            raise RuntimeError(f"no {program} here: apt-get install docker.io debootstrap iptables")
    if os.getuid() != 0:
        raise RuntimeError("no Docker engine answers, and only root can start one")
    CACHE.mkdir(parents=True, exist_ok=True)
    address = f"unix://{CACHE}/socket"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", address)
        process = _started(address)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=_PATIENCE_S)
            # It leaves its network namespace mounted, and the folder could not be removed.
            subprocess.run(["umount", f"{CACHE}/exec/netns/default"], stderr=subprocess.DEVNULL)


def base_image() -> str:
    """The base image that the Dockerfiles name: there, pulled, or made here."""
    if _docker("image", "inspect", BASE) or _docker("pull", "--quiet", BASE):
        return BASE
    if shutil.which("debootstrap") is None:
        raise RuntimeError(f"{BASE} cannot be pulled, and no debootstrap here to make it")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        root = Path(folder) / "root"
        made = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root)]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        (root / "usr/bin/python").symlink_to("python3")
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        for name in _NOT_OF_SLIM_IMAGES:
            shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
        for name in ("archives", "lists"):
            for place in root.glob(f"var/*/apt/{name}"):
                shutil.rmtree(place)
        archive = Path(folder) / "root.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".")
        subprocess.run(["docker", "import", str(archive), BASE], check=True)
    return BASE


def _answers() -> bool:
    return shutil.which("docker") is not None and _docker("info")


def _docker(*words: str) -> bool:
    try:
        done = subprocess.run(["docker", *words], capture_output=True, timeout=300)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _started(address: str) -> subprocess.Popen[bytes]:
    """An engine that answers. A container gets as many files as small machines let it have."""
    command = ["dockerd", f"--data-root={CACHE}/data", f"--exec-root={CACHE}/exec",
               f"--pidfile={CACHE}/pid", f"--host={address}",
               "--default-ulimit=nofile=20000:20000", "--oom-score-adjust=0"]  # fmt: skip
    log = CACHE / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    limit = time.monotonic() + _PATIENCE_S
    while not _answers():
        if process.poll() is not None or time.monotonic() > limit:
            process.terminate()
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise RuntimeError(f"dockerd does not start: {' '.join(last)}")
        time.sleep(0.2)
    return process
