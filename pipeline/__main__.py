"""The flow for a cluster, as YAML.

`python -m pipeline compile --out pipeline.yaml`: all of it, for Kubeflow Pipelines.
`python -m pipeline trainjob --out trainjob.yaml ...`: training on several nodes, for its Trainer.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from kfp import compiler

from bonexray.artifacts import whole_file
from bonexray.command import run_or_exit
from bonexray.config import SECTIONS, Arch, DataConfig, read_params, read_section
from bonexray.errors import ConfigError
from pipeline.steps import IMAGE
from pipeline.training import build_pipeline
from pipeline.trainjob import render_trainjob

SIMULATED_ARCHIVE = "data/MURA-sim.zip"
"""What `simulate` writes in dvc.yaml."""


def compile_pipeline(params: Path, image: str, out: Path) -> None:
    """Compile the pipeline with the defaults of a params.yaml to kfp's IR, as YAML.

    Raises:
        ConfigError: params.yaml holds a value that a step would refuse.
    """
    for section in SECTIONS.values():
        read_section(str(params), section)
    archive = read_section(str(params), DataConfig).archive
    if archive != SIMULATED_ARCHIVE:
        raise ConfigError(
            f"{params}: data.archive = {archive!r}: the Kubeflow pipeline reads no archive but "
            f"the one it simulates, expected {SIMULATED_ARCHIVE!r}"
        )
    with tempfile.TemporaryDirectory() as folder, whole_file(out) as partial:
        compiled = Path(folder) / "pipeline.yaml"  # kfp chooses the format by the ending
        compiler.Compiler().compile(build_pipeline(read_params(params), image), str(compiled))
        shutil.copyfile(compiled, partial)
    print(f"pipeline: compiled for image {image} -> {out}")


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    whole = commands.add_parser("compile", help="compile the flow for Kubeflow Pipelines")
    nodes = commands.add_parser("trainjob", help="render the train step for Kubeflow Trainer")
    for command in (whole, nodes):
        command.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings")
        command.add_argument("--image", default=IMAGE, help="image of the steps, best by digest")
        command.add_argument("--out", type=Path, required=True, help="YAML file to write")
    nodes.add_argument("--arch", required=True, choices=get_args(Arch), help="the network")
    nodes.add_argument("--nodes", type=int, required=True, help="how many share the processes")
    nodes.add_argument("--claim", required=True, help="claim of the volume that holds the flow")
    args = parser.parse_args(argv)

    def run() -> None:
        if args.command == "compile":
            compile_pipeline(args.params, args.image, args.out)
        else:
            render_trainjob(args.params, args.arch, args.nodes, args.image, args.claim, args.out)

    run_or_exit("pipeline", run)


if __name__ == "__main__":
    main()
