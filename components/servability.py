"""Can the bundle be served, and does it say there what was judged here?"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonexray.gate import FAILED
from bonexray.images import Pixels
from bonexray.scoring import told_of
from bonexray.verdicts import OperatingPoints
from components import probe
from components.judgement import Judgement

_STUDIES = 30
_LIMIT_S = 600


def try_serving(
    bundle: Path, chosen: Judgement, points: OperatingPoints, images: Pixels, threads: int
) -> dict[str, Any]:
    """Let a process without torch load a bundle and read test studies, and compare its answers.

    Args:
        bundle: its folder.
        chosen: what torch said of the same studies.
        points: the bundle's.
        images: (M, S, S) uint8, packed.
        threads: of the network.

    Returns:
        `studies`, how many; `largest_difference` of logits and of probabilities to torch's;
        `verdicts_flipped`; `ms_per_view`, median over studies; `load_seconds`; `threads`. `failed`
        and why when the bundle could not be loaded or did not answer.
    """
    studies = chosen.studies_in("test")
    some = np.linspace(0, len(studies) - 1, min(_STUDIES, len(studies)))
    studies = studies.iloc[some.round().astype(int)]
    places = {study: number for number, study in enumerate(studies["study"])}
    views = chosen.views[chosen.views["study"].isin(places)]
    with tempfile.TemporaryDirectory() as folder:
        asked, answers = Path(folder) / "views.npz", Path(folder) / "answers.json"
        np.savez(
            asked,
            squares=images[views["row"].to_numpy()],
            study=views["study"].map(places).to_numpy(),
            claimed=views["body_part"].to_numpy().astype(str),
            threads=threads,
        )
        command = [sys.executable, "-m", probe.__name__, *map(str, (bundle, asked, answers))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            return {FAILED: f"no answer of {len(studies)} studies within {_LIMIT_S} s"}
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            return {FAILED: reason.removeprefix("probe: ")}
        told = json.loads(answers.read_text())
    return _compare(told, studies, views, points) | {"threads": threads}


def _compare(
    told: Mapping[str, Any], studies: pd.DataFrame, views: pd.DataFrame, points: OperatingPoints
) -> dict[str, Any]:
    """Answers beside what torch said of the same studies."""
    answers = told["studies"]
    expected = views.set_index("study").loc[studies["study"], "logit"].to_numpy()
    logits = np.concatenate([answer["logits"] for answer in answers])
    probabilities = np.array([answer["probability"] for answer in answers])
    verdicts = [answer["verdict"] for answer in answers]
    seconds = [answer["seconds"] / len(answer["logits"]) for answer in answers]
    return {
        "studies": len(studies),
        "largest_difference": max(
            float(np.abs(logits - expected).max()),
            float(np.abs(probabilities - studies["probability"].to_numpy()).max()),
        ),
        "verdicts_flipped": sum(
            one != other for one, other in zip(verdicts, told_of(studies, points), strict=True)
        ),
        "ms_per_view": 1000 * statistics.median(seconds),
        "load_seconds": told["load_seconds"],
    }
