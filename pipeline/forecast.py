"""How long a run will take and what it will cost, told before it starts, from runs before it."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from bonexray.errors import ConfigError
from pipeline.tasks import seconds_between, span, tasks_of

PRICE = "PRICE_PER_HOUR"
"""Environment variable: what an hour of one training node costs, in any currency."""
_TRAININGS = ("train", "train-on-nodes")
_WEIGHTY = ("data", "archs", "ingest", "gpus", "gpu_type")
"""Inputs that a run's pace hangs on, besides its epochs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What one run before took."""

    epoch_seconds: float
    """Of one epoch of the network that took longest."""
    paid_seconds: float
    """Of one epoch, mean over the networks."""
    other_seconds: float
    """Of all that is not training."""
    alike: bool
    """Whether it had the data, networks, image size and GPUs of the run that is forecast."""


def forecast(earlier: Sequence[Any], inputs: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Say what a run will take.

    Args:
        earlier: runs (V2beta1Run) of this pipeline, those like it first.
        inputs: of the pipeline, for this run.
        params: settings of the run.
    """
    price = price_per_hour()
    paces = [pace for run in earlier if (pace := pace_of(run, inputs))]
    paces = [pace for pace in paces if pace.alike] or paces
    networks, nodes = len(inputs["archs"]), params["kubeflow"]["nodes"]
    if not paces:
        hours = params["kubeflow"]["deadline_hours"]
        cost = _cost(price, hours * networks * nodes, "at most ")
        return (
            "none: no run of this pipeline on the server has trained yet; it ends after "
            f"{hours} h at the latest (kubeflow.deadline_hours){cost}"
        )
    epochs = inputs["train"]["epochs"]
    seconds = epochs * median(pace.epoch_seconds for pace in paces)
    seconds += median(pace.other_seconds for pace in paces)
    paid = epochs * median(pace.paid_seconds for pace in paces) * networks * nodes
    runs = f"{len(paces)} run{'s' if len(paces) > 1 else ''} before"
    basis = f"by the pace of {runs}"
    if not paces[0].alike:
        basis = f"a rough guess by {runs} of other data, networks, image size or GPUs"
    together = ", all networks at once" if networks > 1 else ""
    return f"about {span(seconds)}{_cost(price, paid / 3600)}, {basis}{together}"


def pace_of(run: Any, inputs: Mapping[str, Any]) -> Pace | None:
    """The pace of a run (V2beta1Run); None when it did not end well or trained nothing anew.

    Args:
        run: with its tasks.
        inputs: of the run that is forecast.
    """
    whole = seconds_between(run.created_at, run.finished_at)
    if run.state != "SUCCEEDED" or whole is None:
        return None
    section = _inputs_of(run).get("train")
    epochs = section.get("epochs") if isinstance(section, dict) else None
    tasks = [task for task in tasks_of(run, {}) if task.kind in _TRAININGS]
    seconds = [task.seconds for task in tasks if task.state == "SUCCEEDED" and task.seconds]
    if not seconds or not isinstance(epochs, int | float) or epochs <= 0:
        return None
    return Pace(
        epoch_seconds=max(seconds) / epochs,
        paid_seconds=mean(seconds) / epochs,
        other_seconds=max(0.0, whole - max(seconds)),
        alike=is_alike(run, inputs) and len(seconds) == len(tasks),
    )


def is_alike(run: Any, inputs: Mapping[str, Any]) -> bool:
    """Whether a run before had the data, networks, image size and GPUs of these inputs."""
    before = _inputs_of(run)
    return all(before.get(name) == inputs[name] for name in _WEIGHTY)


def _inputs_of(run: Any) -> Mapping[str, Any]:
    return (run.runtime_config and run.runtime_config.parameters) or {}


def _cost(price: float | None, node_hours: float, bound: str = "") -> str:
    if price is None:
        return ""
    return f" at a cost of {bound}{price * node_hours:.2f} for the training nodes"


def price_per_hour() -> float | None:
    """Of one training node, if the environment says it. Raises ConfigError."""
    text = os.environ.get(PRICE)
    if text is None:
        return None
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise ConfigError(f"{PRICE} = {text!r} in the environment, expected a number from 0")
    return price
