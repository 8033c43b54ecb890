"""Containers that were started: what Docker says of them, and waiting until it says it."""

import subprocess
import time
from pathlib import Path


def told(*words: str) -> str:
    """What `docker` prints, on either stream."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).strip()


def state(container: str, field: str) -> str:
    return told("inspect", f"--format={{{{.State.{field}}}}}", container)


def wait_for(container: str, field: str, wanted: str, seconds: int = 60) -> None:
    limit = time.monotonic() + seconds
    while state(container, field) != wanted:
        assert time.monotonic() < limit, told("logs", container)
        time.sleep(0.3)


def open_to_all(folder: Path) -> Path:
    """Let the images' user read what is mounted, which belongs to another user."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
    return folder
