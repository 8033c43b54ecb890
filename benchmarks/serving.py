"""`python -m benchmarks.serving`: what the endpoint does and takes, each figure beside its target.

Everything is made here: a ResNet18 at 224 px in FP32 and INT8, simulated views, a signed store.
What INT8 costs in AUROC, and what other encodings change, is told of the network of a `dvc repro`
in this checkout; without one the first is left out, the second told of the ResNet18. Takes twelve
minutes on two cores that nobody else uses; `--long` adds half an hour of load, spoilt files, and
ten times as many requests by schemathesis.
`benchmarks.serving_*` say how each figure comes about.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import (
    serving_answers,
    serving_bombs,
    serving_dicom,
    serving_drain,
    serving_fuzz,
    serving_phi,
    serving_protocol,
    serving_speed,
)
from benchmarks.serving_protocol import CASES, MANY_CASES
from benchmarks.serving_stage import ROOT, Stage, set_stage
from bonexray.artifacts import write_json
from bonexray.evaluation import METRICS_FILE

_REPORT = ROOT / "reports/evaluation" / METRICS_FILE


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a figure should be at most or at least."""

    at_most: float = float("inf")
    at_least: float = float("-inf")

    def held(self, value: float) -> bool:
        """Whether the figure is as it should be; NaN is not."""
        return self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        """As in the table."""
        low = self.at_least > float("-inf")
        return f">= {self.at_least:g}" if low else f"<= {self.at_most:g}"


def _most(value: float) -> Target:
    return Target(at_most=value)


def _least(value: float) -> Target:
    return Target(at_least=value)


TARGETS = {
    "conformance": _least(1),
    "schemathesis_cases": _least(CASES),
    "schemathesis_5xx": _most(0),
    "schemathesis_4xx_without_error": _most(0),
    "same_answer": _most(1e-6),
    "torch_vs_onnx": _most(1e-4),
    "torch_vs_onnx_flipped": _most(0),
    "equal_lossless": _most(0.001),
    "equal_lossy": _most(0.02),
    "overhead_ms_rest": _most(3),
    "overhead_ms_rest_json": _most(3),
    "overhead_ms_grpc": _most(3),
    "p99_over_p50": _most(2),
    "throughput_vs_bare": _least(0.9),
    "throughput_vs_bare_fp32": _least(0.9),
    "fastest_vs_ort_fp32": _least(2),
    "int8_auroc_lost": _most(0.002),
    "dicom_native_ms": _most(60),
    "dicom_j2k_ms": _most(500),
    "ready_seconds": _most(10),
    "memory_mb": _most(600),
    "overload_goodput": _least(0.9),
    "overload_p99_vs_deadline": _most(2),
    "overload_429_without_retry_after": _most(0),
    "overload_other": _most(0),
    "drain_failed": _most(0),
    "drain_alone_failed": _most(0),
    "bomb_seconds": _most(1),
    "bomb_mb": _most(64),
    "bombs_failed": _most(0),
    "phi_hits": _most(0),
}
LONG_TARGETS = {
    "schemathesis_cases": _least(MANY_CASES),
    "soak_growth_mb": _most(50),
    "soak_failed": _most(0),
    "fuzz_decoder_crashes": _most(0),
    "fuzz_decoder_slowest_s": _most(5),
    "fuzz_server_crashes": _most(0),
    "fuzz_server_5xx": _most(0),
    "fuzz_server_hangs": _most(0),
}
PARTS: dict[str, Callable[[Stage], dict[str, float]]] = {
    "answers": serving_answers.measure,
    "speed": serving_speed.measure,
    "bombs": serving_bombs.measure,
    "phi": serving_phi.measure,
    "drain": serving_drain.measure,
    "dicom": lambda _: serving_dicom.measure(),
    "protocol": lambda stage: serving_protocol.measure(stage.folder, CASES),
    "accuracy": lambda _: accuracy(_REPORT),
}


def accuracy(report: Path) -> dict[str, float]:
    """AUROC of studies of `test` that the INT8 network loses, by the report of evaluation."""
    if not report.exists():
        return {}
    told = json.loads(report.read_text())["int8"]
    return {"int8_auroc_lost": told["test"]["auroc_lost"]} if "test" in told else {}


def run(parts: Mapping[str, Callable[[Stage], dict[str, float]]], stage: Stage) -> dict[str, float]:
    """The figures of all parts; one that breaks down is told, and the others go on."""
    figures: dict[str, float] = {}
    for name, measure in parts.items():
        print(f"{name} ...", flush=True)
        start_s = time.perf_counter()
        try:
            figures |= measure(stage)
        except Exception:  # else minutes of other figures would be lost with it
            traceback.print_exc()
        figures[f"took_seconds_{name}"] = time.perf_counter() - start_s
    return figures


def table(figures: Mapping[str, float], targets: Mapping[str, Target]) -> str:
    """A line a figure: those with a target first."""
    lines = [f"{'figure':<36}{'value':>12}  {'target':>10}"]
    for name, target in targets.items():
        value = figures.get(name)
        told = "not run" if value is None else f"{value:.4g}"
        verdict = "" if value is None else "ok" if target.held(value) else "short"
        lines.append(f"{name:<36}{told:>12}  {target!s:>10}  {verdict}")
    lines += [f"{name:<36}{figures[name]:>12.4g}" for name in figures if name not in targets]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, and end with status 1 when a figure is short or missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--long", action="store_true", help="add spoilt files and steady load")
    parser.add_argument("--soak-minutes", type=float, default=30, help="of --long")
    parser.add_argument("--fuzz-minutes", type=float, default=5, help="of --long, twice")
    args = parser.parse_args(argv)
    parts = {name: PARTS[name] for name in args.only}
    targets = TARGETS
    if args.long:
        if "protocol" in parts:
            parts["protocol"] = lambda stage: serving_protocol.measure(stage.folder, MANY_CASES)
        parts["fuzz"] = lambda stage: serving_fuzz.fuzz(stage, args.fuzz_minutes)
        parts["soak"] = lambda stage: serving_fuzz.soak(stage, args.soak_minutes)
        targets = TARGETS | LONG_TARGETS
    with tempfile.TemporaryDirectory() as scratch:
        start_s = time.perf_counter()
        stage = set_stage(Path(scratch))
        figures = {"took_seconds_stage": time.perf_counter() - start_s} | run(parts, stage)
    print(table(figures, targets))
    if args.json:
        write_json(args.json, figures)
    if not all(name in figures and target.held(figures[name]) for name, target in targets.items()):
        sys.exit(1)


if __name__ == "__main__":
    main()
