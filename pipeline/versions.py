"""Which code a run is of."""

import re
import subprocess

from bonexray.errors import ConfigError

_IN_IMAGES = ("bonexray", "components", "pipeline", "serving")
_COMMIT = re.compile(r"[0-9a-f]{40}")


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
    """Whether files differ from HEAD, or an image would hold some that git does not.

    Settings and what DVC writes are left out: they travel as inputs of a run, no image holds them.
    """
    code = [".", ":!params.yaml", ":!dvc.lock", ":!*.dvc"]
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *code]).returncode != 0:
        return True
    untracked = ["git", "ls-files", "--others", "--exclude-standard", "--", *_IN_IMAGES]
    return bool(subprocess.run(untracked, capture_output=True).stdout)


def submitted_commit(named: str | None) -> str:
    """The commit that a run on a server says it is of.

    Args:
        named: by the user; None for HEAD, which the working directory must be at.

    Raises:
        ConfigError: it is no full commit id, or files were changed since HEAD.
    """
    if named is not None:
        if not _COMMIT.fullmatch(named):
            raise ConfigError(f"--commit {named!r}, expected 40 hexadecimal digits")
        return named
    commit = code_commit()
    if is_changed():
        raise ConfigError(
            f"files differ from HEAD, {commit[:12]}, and the image holds a commit: commit them and "
            "build the image anew, or name the image's commit by --commit"
        )
    return commit
