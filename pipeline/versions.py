"""Which code a run is of."""

import subprocess

from bonexray.errors import ConfigError


def code_commit() -> str:
    """HEAD of the working directory.

    Raises:
        ConfigError: this is no git checkout.
    """
    head = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError("not in a git checkout: a run could not say its commit") from error


def is_changed() -> bool:
    """Whether tracked files differ from HEAD."""
    return subprocess.run(["git", "diff", "--quiet", "HEAD"]).returncode != 0
