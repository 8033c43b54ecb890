"""The flow for a cluster, as YAML.

`python -m pipeline compile --out pipeline.yaml`: all of it, for Kubeflow Pipelines.
`python -m pipeline trainjob --out trainjob.yaml ...`: training on several nodes, for its Trainer.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from bonexray.command import run_or_exit
from bonexray.config import Arch, read_section
from bonexray.kubeflow_config import KubeflowConfig
from pipeline.compiling import compile_pipeline, read_checked
from pipeline.trainjob import render_trainjob


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    whole = commands.add_parser("compile", help="compile the flow for Kubeflow Pipelines")
    nodes = commands.add_parser("trainjob", help="render the train step for Kubeflow Trainer")
    for command in (whole, nodes):
        command.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings")
        command.add_argument("--image", help="of the steps; default kubeflow.image")
        command.add_argument("--out", type=Path, required=True, help="YAML file to write")
    nodes.add_argument("--arch", required=True, choices=get_args(Arch), help="the network")
    args = parser.parse_args(argv)

    def run() -> None:
        params = read_checked(args.params)
        cluster = read_section(str(args.params), KubeflowConfig)
        image = args.image or cluster.image
        if args.command == "compile":
            compile_pipeline(params, image, args.out)
            print(f"pipeline: compiled for image {image} -> {args.out}")
        else:
            cluster = cluster.model_copy(update={"image": image})
            render_trainjob(args.params, args.arch, cluster, args.out)

    run_or_exit("pipeline", run)


if __name__ == "__main__":
    main()
