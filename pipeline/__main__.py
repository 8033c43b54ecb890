"""The flow for a cluster.

KF_PIPELINES_ENDPOINT names the server; KF_PIPELINES_TOKEN, or a file KF_PIPELINES_SA_TOKEN_PATH,
says who asks.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from bonexray.command import run_or_exit
from bonexray.config import Arch, read_section
from bonexray.kubeflow_config import KubeflowConfig
from pipeline import runs
from pipeline.compiling import compile_pipeline, compile_version, read_checked
from pipeline.local import run_locally
from pipeline.overlay import check_overlay
from pipeline.overrides import override
from pipeline.runs import Submission
from pipeline.server import Server
from pipeline.trainjob import render_trainjob
from pipeline.versions import code_commit, submitted_commit
from pipeline.wire import Wire


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    args = _parser().parse_args(argv)

    def run() -> None:
        if said := args.call(args):
            print(f"pipeline: {said}")

    run_or_exit("pipeline", run)


def _compile(args: argparse.Namespace) -> str:
    params = override(read_checked(args.params), args.changes)
    image = args.image or params["kubeflow"]["image"]
    if args.version:
        compile_version(params, image, args.version, args.out)
    else:
        compile_pipeline(params, image, args.out)
    return f"compiled for image {image} -> {args.out}"


def _run(args: argparse.Namespace) -> str:
    params = override(read_checked(args.params), args.changes)
    run_locally(params, args.commit or code_commit(), args.image, args.out)
    return f"done -> {args.out}/outputs"


def _submit(args: argparse.Namespace) -> str:
    submission = _submission(args)
    server = _server(submission.params)
    run_id = runs.submit(server, submission)
    if args.no_wait:
        return f"run {run_id} started: python -m pipeline status {run_id}"
    try:
        return runs.follow(server, run_id)
    except KeyboardInterrupt:
        print(f"\nrun {run_id} goes on: `status {run_id}` shows it, `cancel {run_id}` ends it")
        raise


def _schedule(args: argparse.Namespace) -> str:
    submission = _submission(args)
    return runs.schedule(_server(submission.params), submission, args.name, args.cron)


def _unschedule(args: argparse.Namespace) -> str:
    return runs.unschedule(_server(read_checked(args.params)), args.name)


def _status(args: argparse.Namespace) -> str:
    params = read_checked(args.params)
    print("\n".join(runs.status(_server(params), args.run, params["register"]["experiment"])))
    return ""


def _cancel(args: argparse.Namespace) -> str:
    return runs.cancel(_server(read_checked(args.params)), args.run)


def _trainjob(args: argparse.Namespace) -> str:
    cluster = read_section(str(args.params), KubeflowConfig)
    return render_trainjob(args.params, args.arch, cluster, args.out)


def _check(args: argparse.Namespace) -> str:
    return check_overlay(args.folder, pinned=args.production)


def _submission(args: argparse.Namespace) -> Submission:
    params = override(read_checked(args.params), args.changes)
    image = args.image or params["kubeflow"]["image"]
    return Submission(params=params, commit=submitted_commit(args.commit), image=image)


def _server(params: dict[str, Any]) -> Server:
    return Server(Wire(params["kubeflow"]["namespace"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, call: Callable[[argparse.Namespace], str], summary: str) -> Any:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(call=call)
        if name != "check":
            added.add_argument("--params", type=Path, default=Path("params.yaml"), help="settings")
        if name in ("compile", "run", "submit", "schedule"):
            added.add_argument("--image", help="of the steps, in place of kubeflow.image")
            added.add_argument(
                "--set", dest="changes", action="append", default=[], metavar="SECTION.FIELD=VALUE",
                help="another setting than that of params.yaml",
            )  # fmt: skip
        if name in ("run", "submit", "schedule"):
            added.add_argument("--commit", help="of the code that runs; default HEAD")
        return added

    whole = command("compile", _compile, "compile the flow for Kubeflow Pipelines")
    whole.add_argument("--version", help="write Pipeline and PipelineVersion objects, for GitOps")
    whole.add_argument("--out", type=Path, required=True, help="YAML file to write")
    here = command("run", _run, "run the flow here; with --image in containers")
    here.add_argument("--out", type=Path, required=True, help="folder of what it writes")
    there = command("submit", _submit, "run the flow on a server, and follow it")
    there.add_argument("--no-wait", action="store_true", help="do not follow it")
    clock = command("schedule", _schedule, "run the flow on a server by the clock")
    clock.add_argument("--cron", required=True, help="minute hour day month weekday")
    clock.add_argument("--name", default="bonexray", help="of the schedule, which is replaced")
    off = command("unschedule", _unschedule, "end a schedule; its runs stay")
    off.add_argument("--name", default="bonexray", help="of the schedule")
    command("status", _status, "a run's tasks, or the newest runs and the schedules").add_argument(
        "run", nargs="?", help="its id"
    )
    command("cancel", _cancel, "end a run").add_argument("run", help="its id")
    nodes = command("trainjob", _trainjob, "render the train step for Kubeflow Trainer")
    nodes.add_argument("--arch", required=True, choices=get_args(Arch), help="the network")
    nodes.add_argument("--out", type=Path, required=True, help="YAML file to write")
    overlay = command("check", _check, "read the manifests of an overlay strictly")
    overlay.add_argument("folder", type=Path, help="that holds kustomization.yaml")
    overlay.add_argument("--production", action="store_true", help="each image has a digest")
    return parser


if __name__ == "__main__":
    main()
