"""The flow for a cluster.

compile     all of it, for Kubeflow Pipelines
run         the same on this machine, in its environment or in containers
trainjob    the train step, for Kubeflow Trainer
check       an overlay of manifests, read as strictly as a cluster reads it
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from bonexray.command import run_or_exit
from bonexray.config import Arch, read_section
from bonexray.kubeflow_config import KubeflowConfig
from pipeline.compiling import compile_pipeline, compile_version, read_checked
from pipeline.local import run_locally
from pipeline.overlay import check_overlay
from pipeline.trainjob import render_trainjob
from pipeline.versions import code_commit


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = _parser().parse_args(argv)
    run_or_exit("pipeline", lambda: print(f"pipeline: {args.call(args)}"))


def _compile(args: argparse.Namespace) -> str:
    params = read_checked(args.params)
    image = args.image or params["kubeflow"]["image"]
    if args.version:
        compile_version(params, image, args.version, args.out)
    else:
        compile_pipeline(params, image, args.out)
    return f"compiled for image {image} -> {args.out}"


def _run(args: argparse.Namespace) -> str:
    run_locally(read_checked(args.params), code_commit(), args.image, args.out)
    return f"done -> {args.out}/outputs"


def _trainjob(args: argparse.Namespace) -> str:
    cluster = read_section(str(args.params), KubeflowConfig)
    if args.image:
        cluster = cluster.model_copy(update={"image": args.image})
    return render_trainjob(args.params, args.arch, cluster, args.out)


def _check(args: argparse.Namespace) -> str:
    return check_overlay(args.folder, pinned=args.production)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    whole = _command(commands, "compile", _compile, "compile the flow for Kubeflow Pipelines")
    whole.add_argument(
        "--version", help="write the objects Pipeline and PipelineVersion, for GitOps"
    )
    whole.add_argument("--out", type=Path, required=True, help="YAML file to write")

    here = _command(commands, "run", _run, "run the compiled flow on this machine")
    here.add_argument("--out", type=Path, required=True, help="folder of what it writes")

    nodes = _command(commands, "trainjob", _trainjob, "render the train step for Kubeflow Trainer")
    nodes.add_argument("--arch", required=True, choices=get_args(Arch), help="the network")
    nodes.add_argument("--out", type=Path, required=True, help="YAML file to write")

    overlay = commands.add_parser("check", help="read the manifests of an overlay strictly")
    overlay.add_argument("folder", type=Path, help="that holds kustomization.yaml")
    overlay.add_argument("--production", action="store_true", help="each image has a digest")
    overlay.set_defaults(call=_check)
    return parser


def _command(
    commands: Any, name: str, call: Callable[[argparse.Namespace], str], summary: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary)
    command.set_defaults(call=call)
    command.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings")
    command.add_argument(
        "--image", help="of the steps; default kubeflow.image, for `run` none: no containers"
    )
    return command


if __name__ == "__main__":
    main()
