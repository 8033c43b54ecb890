"""`python -m benchmarks.pipeline`: what the Kubeflow pipeline costs before and beside its steps.

compile_seconds              the whole command `python -m pipeline compile`, median of five
compile_same_bytes           1 when two processes compile the same file
serving_image_mb, rebuild_seconds, container_overhead_seconds, container_vs_repro
                             of the images, where a Docker engine runs (see benchmarks.containers)
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import containers

_REPEATS = 5


def compile_figures() -> dict[str, float]:
    """Compile the checkout's params.yaml some times, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{index}.yaml" for index in range(_REPEATS)]
        seconds = [_compile(out) for out in outs]
        same = len({out.read_bytes() for out in outs}) == 1
    return {
        "compile_seconds": statistics.median(seconds),
        "compile_same_bytes": float(same),
    }


def _compile(out: Path) -> float:
    command = [sys.executable, "-m", "pipeline", "compile", "--out", str(out)]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument(
        "--containers", action="store_true", help="build the images and measure them too"
    )
    args = parser.parse_args(argv)
    figures = compile_figures() | (containers.measure() if args.containers else {})
    for name, value in figures.items():
        print(f"{name:28} {value:.2f}")


if __name__ == "__main__":
    main()
