"""What the components need inside their container, beside the step that they call."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

from bonexray.artifacts import remove
from bonexray.errors import GateError
from bonexray.registry import PIPELINE_RUN
from bonexray.store import BundleStore, Champion

VOLUME = Path("/volume")
"""Where the claim `kubeflow.volume` is mounted."""


def refusal_of(main: Callable[[list[str]], None], argv: list[str]) -> str:
    """Call a step and return why its gate refuses, or nothing. Any other failure is one here too.

    Args:
        main: of the step.
        argv: its flags.
    """
    try:
        main(argv)
    except SystemExit as stopped:
        if not isinstance(stopped.__cause__, GateError):
            raise
        return str(stopped.__cause__)
    return ""


def release_folder(champion: Mapping[str, str], bundle: str | None) -> str:
    """The champion as the steps look for it.

    Args:
        champion: the pointer to it, as the release folder holds it; empty when there is none.
        bundle: folder of its bundle, None when there is none.

    Returns:
        A release folder that holds this one bundle, in a temporary place; one that does not exist
        when there is no champion.

    Raises:
        BundleError: the bundle is not sound, or another.
    """
    release = Path(tempfile.mkdtemp()) / "release"
    if bundle is not None:
        store = BundleStore(release)
        store.add(Path(bundle))
        store.set_champion(Champion.model_validate(champion))
    return str(release)


@contextmanager
def on_the_volume(arch: str, out: str) -> Iterator[str]:
    """Where a training writes: on the run's volume if there is one, else `out`.

    A task that is tried again starts in an empty container; on the volume it finds the checkpoint
    of the try before.

    Args:
        arch: the network.
        out: where the output has to be in the end.
    """
    run = os.environ.get(PIPELINE_RUN)  # told where the volume is mounted
    if run is None:
        yield out
        return
    place = VOLUME / "runs" / run / arch
    place.parent.mkdir(parents=True, exist_ok=True)
    yield str(place)
    copytree(place, out, dirs_exist_ok=True)
    remove(place)
