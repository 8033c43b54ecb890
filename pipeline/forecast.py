"""How long a run will take and what it will cost, told before it starts, from runs before it."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bonexray.errors import ConfigError
from pipeline.tasks import seconds_between, tasks_of

PRICE = "PRICE_PER_HOUR"
"""Environment variable: what an hour of one training node costs, in any currency."""
_TRAININGS = ("train", "train-on-nodes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What one run before took."""

    epoch_seconds: float
    """Of one network's training, median over the networks."""
    other_seconds: float
    """Of all that is not training."""


def forecast(earlier: Sequence[Any], params: dict[str, Any]) -> str:
    """Say what a run will take.

    Args:
        earlier: runs (V2beta1Run) of this pipeline, newest first.
        params: settings of the run.
    """
    price = price_per_hour()
    paces = _real([pace for run in earlier if (pace := pace_of(run))])
    networks = len(params["networks"]["archs"])
    nodes = params["kubeflow"]["nodes"]
    if not paces:
        hours = params["kubeflow"]["deadline_hours"]
        cost = _cost(price, hours * networks * nodes)
        return (
            f"no forecast: no run of this pipeline on the server has trained yet; it ends after "
            f"{hours} h at the latest (kubeflow.deadline_hours){cost}"
        )
    training = params["train"]["epochs"] * median(pace.epoch_seconds for pace in paces)
    others = median(pace.other_seconds for pace in paces)
    cost = _cost(price, training / 3600 * networks * nodes)
    runs = f"{len(paces)} run{'s' if len(paces) > 1 else ''}"
    together = ", all networks at once" if networks > 1 else ""
    return f"about {span(training + others)}{cost}, by the pace of {runs} before{together}"


def pace_of(run: Any) -> Pace | None:
    """The pace of a run (V2beta1Run); None when it did not end well or trained nothing."""
    whole = seconds_between(run.created_at, run.finished_at)
    if run.state != "SUCCEEDED" or whole is None:
        return None
    parameters = (run.runtime_config and run.runtime_config.parameters) or {}
    section = parameters.get("train")
    epochs = section.get("epochs") if isinstance(section, dict) else None
    seconds = [
        task.seconds
        for task in tasks_of(run)
        if task.kind in _TRAININGS and task.state == "SUCCEEDED" and task.seconds
    ]
    if not seconds or not isinstance(epochs, int | float) or epochs <= 0:
        return None
    return Pace(
        epoch_seconds=median(seconds) / epochs, other_seconds=max(0.0, whole - max(seconds))
    )


def _real(paces: list[Pace]) -> list[Pace]:
    """Those that trained: a server tells of none that it came from the cache, but it is short."""
    longest = max((pace.epoch_seconds for pace in paces), default=0.0)
    return [pace for pace in paces if pace.epoch_seconds >= longest / 4]


def span(seconds: float) -> str:
    """For a person."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def _cost(price: float | None, node_hours: float) -> str:
    return "" if price is None else f" at a cost of {price * node_hours:.2f} for the training nodes"


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
