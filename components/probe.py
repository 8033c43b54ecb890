"""A bundle's answers from a process without torch, as a server would give them.

`python -m components.probe BUNDLE VIEWS.npz ANSWERS.json`; `components.servability` starts it.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from bonexray.analysis import judge_study, open_network, run_network
from bonexray.bundle import open_bundle
from bonexray.command import run_or_exit
from bonexray.errors import BundleError
from bonexray.images import normalise


def answer(bundle_folder: Path, views: Path, answers: Path) -> None:
    """Read the studies in `views` one after the other and write what is told of them.

    Args:
        bundle_folder: the bundle.
        views: .npz with `squares` (n, S, S) uint8, `study` (n,) which study each belongs to,
            `claimed` (n,) body parts and `threads`.
        answers: JSON file to write.

    Raises:
        BundleError: it cannot be loaded, or torch was needed for it.
    """
    with np.load(views, allow_pickle=False) as arrays:
        squares, study, claimed = arrays["squares"], arrays["study"], arrays["claimed"]
        threads = int(arrays["threads"])
    started = time.perf_counter()
    bundle = open_bundle(bundle_folder)
    session = open_network(bundle, threads)
    load_seconds = time.perf_counter() - started
    told = []
    for number in range(study.max() + 1):
        own = np.flatnonzero(study == number)
        started = time.perf_counter()
        outputs = run_network(session, normalise(squares[own], bundle.info.image))
        said = judge_study(outputs, bundle, claimed[own].tolist())
        told.append(
            {
                "seconds": time.perf_counter() - started,
                "logits": outputs.logits.tolist(),
                "probability": said.study_probability,
                "verdict": said.study_verdict,
            }
        )
    if "torch" in sys.modules:
        raise BundleError(f"{bundle_folder}: torch was loaded to answer; a server has none")
    answers.write_text(json.dumps({"load_seconds": load_seconds, "studies": told}))


if __name__ == "__main__":
    run_or_exit("probe", lambda: answer(*map(Path, sys.argv[1:])))
