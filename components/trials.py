"""The trials of a search, as Optuna's database keeps them: opened, counted, tried again.

Calls side by side share them. A trial whose process was killed gives no sign of life; after a while
it is tried again with the same values, under the number of the first.
"""

import fcntl
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import MedianPruner
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from bonexray.artifacts import sha256_json
from bonexray.errors import DataError

STUDY_FILE = "study.db"
HEARTBEAT = 10
"""Seconds between signs of life; a trial without any for three times as long is tried again."""


def open_trials(out: Path, told: Any) -> Study:
    """The trials of one search.

    Args:
        out: folder of its results.
        told: all that a trial's figure depends on besides the values tried. Trials that differ in
            it are kept apart.

    Raises:
        DataError: what an earlier call left cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)  # its heartbeat, experimental since 2021
    with (out / f".{STUDY_FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that make the same tables at once both fail
        try:
            return optuna.create_study(
                study_name=sha256_json(told),
                storage=RDBStorage(
                    f"sqlite:///{out / STUDY_FILE}",
                    heartbeat_interval=HEARTBEAT,
                    grace_period=3 * HEARTBEAT,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                ),
                pruner=MedianPruner(n_startup_trials=4, n_warmup_steps=1),
                direction="maximize",
                load_if_exists=True,
            )
        except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{out / STUDY_FILE}: not usable as a search: {reason}") from error


def number_of(trial: FrozenTrial) -> int:
    """The trial's number; of one that is tried again, that of the first."""
    history = trial.system_attrs.get("retry_history")
    return int(history[0]) if history else trial.number


def left_of(study: Study, wanted: int) -> int:
    """How many more trials must be begun, when those that run now come to an end.

    Waits while others' trials are the last: one of them may have been killed, and be tried again.
    """
    said = False
    while True:
        optuna.storages.fail_stale_trials(study)
        running = len(trials_of(study, TrialState.RUNNING))
        left = wanted - len(ended(study))
        if left <= 0 or left > running:
            return left - running
        if not said:
            print(f"search: waiting for {running} trials that run, or were killed", flush=True)
            said = True
        time.sleep(HEARTBEAT / 2)


def trials_of(study: Study, *states: TrialState) -> list[FrozenTrial]:
    """The trials in some states; of one that was tried again, the last attempt alone."""
    trials = study.get_trials(deepcopy=False)
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [trial for trial in trials if trial.state in states and trial.number not in again]


def ended(study: Study) -> list[FrozenTrial]:
    """The trials that have come to an end, whatever it was."""
    return trials_of(study, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def complete(study: Study) -> list[FrozenTrial]:
    """The trials that reached a figure."""
    return trials_of(study, TrialState.COMPLETE)


def try_again(study: Study, trial: FrozenTrial) -> None:
    """Let a trial that was interrupted be tried once more."""
    RetryHeartbeatStaleTrialCallback()(study, trial)
