"""`python -m benchmarks.release --folder F`: what a release costs, where the demo ran.

verify_seconds      signature and digests of a bundle of 100 MB
switch_*            requests at a steady rate across a switch of champion
rollback_seconds    from the command's start to the first answer by the champion before
trace_seconds       the whole command, on the demo's champion; trace_walk_seconds without imports
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks import switch
from bonexray.artifacts import write_json
from bonexray.bundle import MODEL_FILE, open_bundle
from bonexray.evaluation import LINEAGE_FILE, METRICS_FILE
from bonexray.sealed import seal
from bonexray.store import BundleStore
from serving.signature import make_keys, open_signed, sign_bundle

_LARGE_BYTES = 100 * 10**6
_REPEATS = 5
_WHY = ("--by", "A. Reader", "--reason", "benchmark", "--yes", "--override", "benchmark")


def verify_seconds(bundle: Path) -> float:
    """Median of five verified reads of a bundle made as large as ResNet50's."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        large = shutil.copytree(bundle, root / "large")
        with (large / MODEL_FILE).open("ab") as model:
            model.truncate(_LARGE_BYTES)
        seal(large)
        make_keys(root / "key", root / "trust")
        store = BundleStore(root / "release")
        digest = store.add(large)
        store.signature(digest).parent.mkdir()
        store.signature(digest).write_text(sign_bundle(store.folder(digest), root / "key", []))
        return statistics.median(
            timed(lambda: open_signed(store, digest, root / "trust")) for _ in range(_REPEATS)
        )


def timed(call: object) -> float:
    """Seconds that a call takes."""
    assert callable(call)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def command(folder: Path, *arguments: str) -> float:
    """Seconds that `python -m ...` takes in a folder, which holds its registry."""
    environment = dict(os.environ) | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def rollback_seconds(folder: Path) -> float:
    """Approve two versions in a folder of its own, serve, roll back, and wait for the answer."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        shutil.copyfile(folder / "params.yaml", root / "params.yaml")
        versions = [(folder / "bundle", folder / "reports/evaluation"), another(folder, root)]
        command(root, "serving.release", "keys")
        for number, (bundle, report) in enumerate(versions, start=1):
            places = ("--bundle", str(bundle), "--report", str(report), "--out", "registration")
            command(root, "components.register", "--params", "params.yaml", *places)
            command(root, "serving.release", "approve", str(number), *_WHY)
        with switch.served(BundleStore(root / "release")) as url:
            body = switch.study(256)
            start = time.perf_counter()
            rollback = subprocess.Popen(
                [sys.executable, "-m", "serving.release", "rollback", *_WHY[:4]],
                cwd=root,
                env=dict(os.environ) | {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db"},
                stdout=subprocess.DEVNULL,
            )
            with httpx.Client(timeout=30, trust_env=False) as client:
                while True:
                    answer = client.post(f"{url}/v2/models/bonexray/infer", json=body).json()
                    if answer["parameters"]["model_version"] == "1":
                        break
                    time.sleep(0.05)
            taken = time.perf_counter() - start
            if rollback.wait() != 0:
                raise SystemExit("release: the rollback failed")
    return taken


def another(folder: Path, root: Path) -> tuple[Path, Path]:
    """The demo's bundle and report again, of another commit."""
    bundle = switch.of_another_commit(folder / "bundle", root / "other")
    report = shutil.copytree(folder / "reports/evaluation", root / "other_report")
    for file in (METRICS_FILE, LINEAGE_FILE):
        told = json.loads((report / file).read_text())
        write_json(report / file, told | {"bundle_digest": open_bundle(bundle).digest})
    seal(report)
    return bundle, report


def trace_walk_seconds(folder: Path) -> float:
    """The walk alone, once MLflow is imported."""
    program = (
        "import contextlib, io, time; from serving import release\n"
        "start = time.perf_counter()\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    release.main(['trace', 'champion'])\n"
        "print(time.perf_counter() - start)"
    )
    environment = dict(os.environ) | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.release")
    parser.add_argument(
        "--folder", type=Path, required=True, help="checkout in which `make demo` ran"
    )
    parser.add_argument("--requests", type=int, default=10_000, help="across the switch")
    parser.add_argument("--rate", type=float, default=50.0, help="of them a second")
    args = parser.parse_args(argv)
    folder = args.folder.resolve()
    figures = {"verify_seconds": verify_seconds(folder / "bundle")}
    trace = ("serving.release", "trace", "champion")
    figures["trace_seconds"] = statistics.median(command(folder, *trace) for _ in range(_REPEATS))
    figures["trace_walk_seconds"] = statistics.median(
        trace_walk_seconds(folder) for _ in range(_REPEATS)
    )
    figures["rollback_seconds"] = rollback_seconds(folder)
    with tempfile.TemporaryDirectory() as scratch:
        store = switch.prepare(folder / "bundle", Path(scratch))
        with switch.served(store) as url:
            work = switch.steady(url, store, args.requests, args.rate, keeping=True)
            figures |= switch.switch_figures(*asyncio.run(work))
    for name, value in figures.items():
        print(f"figure {name} {value:.4g}")


if __name__ == "__main__":
    main()
