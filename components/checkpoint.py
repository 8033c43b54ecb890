"""The state of a training run after its last finished epoch, beside the run's output."""

import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from bonexray.artifacts import remove, scratch_path, whole_file
from bonexray.errors import DataError
from components.fit import Fit

_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    UnpicklingError,
    zipfile.BadZipFile,
)


class Checkpoint:
    """A hidden file; a run that was killed goes on from it."""

    def __init__(self, out: Path) -> None:
        """Args: out: the run's output folder."""
        self._path = scratch_path(out, "checkpoint")

    def save(self, run: str, fit: Fit) -> None:
        """Keep the state in place of the last one.

        Args:
            run: digest of all that the weights depend on.
            fit: the state.
        """
        with whole_file(self._path) as partial:
            try:
                torch.save({"run": run, "fit": fit.state()}, partial)
            except RuntimeError as error:  # so torch calls a full disk
                reason = str(error).splitlines()[0]
                raise OSError(
                    f"{self._path}: cannot be written, is the disk full? {reason}"
                ) from error

    def restore(self, run: str, fit: Fit, device: torch.device) -> None:
        """Continue from the checkpoint if there is one, and if it is this very run's.

        Raises:
            DataError: the checkpoint is not readable.
        """
        if not self._path.exists():
            return
        kept = self._read(device)
        if kept["run"] == run:
            fit.load_state(kept["fit"])
            print(f"train: continuing after epoch {len(fit.history)}")
        else:
            print("train: the checkpoint found is of other data or settings; starting afresh")

    def delete(self) -> None:
        """Forget the state: the run is complete."""
        remove(self._path)

    def _read(self, device: torch.device) -> dict[str, Any]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                if archive.testzip():
                    raise ValueError("damaged")
            kept: dict[str, Any] = torch.load(self._path, map_location=device, weights_only=True)
            return {"run": kept["run"], "fit": kept["fit"]}
        except _UNREADABLE as error:
            raise DataError(
                f"{self._path}: not a whole checkpoint; delete it to start afresh"
            ) from error
