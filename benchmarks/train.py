"""`python -m benchmarks.train`: how fast training is, and whether a killed run ends the same.

With a GPU its part runs, on images made up: absolute figures. Without one the CPU's part runs, as
ratios of loops that take turns; it takes some eight minutes on two cores.
"""

import argparse

import torch


def main() -> None:
    """Measure and print one line a figure."""
    argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__).parse_args()
    if torch.cuda.is_available():  # where the flow's own packages need not be installed
        from benchmarks.train_gpu import measure
    else:
        from benchmarks.train_cpu import measure
    for name, value in measure():
        print(f"figure {name} {value:.4g}", flush=True)


if __name__ == "__main__":
    main()
