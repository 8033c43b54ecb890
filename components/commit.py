"""Which code is running."""

import re
import subprocess

from bonexray.errors import DataError

_COMMIT = re.compile(r"[0-9a-f]{40}")


def describe_commit(revision: str) -> str:
    """The commit of the running code.

    Args:
        revision: a full commit id, taken as it is, or HEAD, which asks git about the working
            directory; the answer ends in `-dirty` when tracked files differ from it, besides the
            parameters and the lock, which are recorded on their own and change with every run.
    """
    if _COMMIT.fullmatch(revision):
        return revision
    if revision != "HEAD":
        raise DataError(f"--commit {revision!r}, expected HEAD or 40 hexadecimal digits")
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        print("evaluate: not in a git checkout; the bundle says that its code commit is unknown")
        return "unknown"
    code = [".", ":!params.yaml", ":!dvc.lock"]
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *code]).returncode
    return found.stdout.strip() + ("-dirty" if changed else "")
