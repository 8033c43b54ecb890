"""`python -m benchmarks.data`: the figures of the data steps, by default at MURA's full size.

`--scale 0.1` gives a first look in three minutes; at 1.0 some 40 minutes on two cores.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pandas as pd
import psutil
import yaml
from PIL import Image

from benchmarks.demo import ROOT, clone
from bonexray.config import Fault

RULES: dict[str, str] = {
    "truncated": "undecodable",
    "zero_byte": "empty_file",
    "wrong_extension": "wrong_extension",
    "sixteen_bit": "bit_depth",
    "rgb": "colour_mode",
    "rgba": "colour_mode",
    "palette": "colour_mode",
    "constant": "constant_image",
    "inverted": "inverted",
    "absurd_aspect": "absurd_aspect",
    "pixel_bomb": "too_many_pixels",
    "stray": "unlisted",
    "row_without_file": "missing_file",
    "file_without_row": "unlisted",
    "label_disagrees": "label_disagrees",
    "study_without_image": "study_without_image",
    "same_image_two_patients": "duplicate_across_patients",
    "near_duplicate": "near_duplicate_across_patients",
}
"""Fault -> the rule that must name it."""
FATAL = {
    "patient_in_both_splits": "patient_in_both_splits",
    "zip_slip": "zip slip",
    "zip_bomb": "decompression bomb",
}
"""Fault -> what must be said when the flow stops."""


class Bench:
    """A folder with parameters, in which steps are run as a user runs them."""

    def __init__(self, folder: Path) -> None:
        """Start from the demonstration's params.yaml."""
        self.folder = folder
        self.params = yaml.safe_load((ROOT / "params.yaml").read_text())
        self.params["validate"]["max_quarantine_fraction"] = 0.5

    def step(self, name: str, *flags: str) -> subprocess.Popen[str]:
        """Start a step; a flag that begins with @ is a place in the folder."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))
        places = [str(self.folder / flag[1:]) if flag[0] == "@" else flag for flag in flags]
        command = [sys.executable, "-m", f"components.{name}"]
        command += ["--params", str(self.folder / "params.yaml"), *places]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def simulate(self, out: str, scale: float, faults: dict[str, float]) -> float:
        """Seconds that the simulation takes."""
        self.params["simulate"] |= {"scale": scale, "faults": faults}
        return seconds(lambda: finished(self.step("simulate", "--out", f"@{out}")))

    def ingest(self, archive: str, out: str) -> subprocess.Popen[str]:
        """Start to ingest an archive."""
        return self.step("ingest", "--archive", f"@{archive}", "--out", f"@{out}")

    def validate(self, dataset: str) -> subprocess.Popen[str]:
        """Start to validate a dataset; writes `validated` and `report`."""
        return self.step("validate", "--dataset", f"@{dataset}", "--splits", "@none",
                         "--reference", "@none", "--out", "@validated",
                         "--report", "@report")  # fmt: skip


def finished(step: subprocess.Popen[str], fails: bool = False) -> str:
    """Wait for a step; returns what it said on stderr."""
    _, said = step.communicate()
    assert bool(step.returncode) == fails, said
    return said


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_bytes(step: subprocess.Popen[str]) -> int:
    """Largest sum of the resident memory of a step and its workers, sampled ten times a second."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        process = psutil.Process(step.pid)
        while not done.wait(0.1):
            total = 0
            for each in [process, *process.children(recursive=True)]:
                try:
                    total += each.memory_info().rss
                except psutil.Error:  # gone since it was listed
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    step.communicate()
    done.set()
    watcher.join()
    return peak


def decode_all(archive: Path) -> int:
    """Bare Pillow decode of every image, on as many threads as cores; returns their number."""
    with zipfile.ZipFile(archive) as source, ThreadPoolExecutor(os.cpu_count()) as pool:
        names = [name for name in source.namelist() if name.endswith(".png")]
        for start in range(0, len(names), 256):
            data = [source.read(name) for name in names[start : start + 256]]
            list(pool.map(lambda png: Image.open(io.BytesIO(png)).load(), data))
    return len(names)


def subset(archive: Path, out: Path, every: int) -> None:
    """A copy with one patient in `every`."""

    def kept(path: str) -> bool:
        return int(path.split("patient")[1][:5]) % every == 0

    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith(".csv"):
                lines = data.decode().splitlines(keepends=True)
                target.writestr(entry, "".join(line for line in lines if kept(line)))
            elif "patient" not in entry.filename or kept(entry.filename):
                target.writestr(entry, data)


def fault_figures(bench: Bench) -> dict[str, float]:
    """Recall of every planted fault under its rule's name, and the share of clean rows taken."""
    assert {*RULES, *FATAL} == set(get_args(Fault))
    bench.simulate("faulty.zip", 0.1, dict.fromkeys(RULES, 0.004))
    finished(bench.ingest("faulty.zip", "faulty"))
    finished(bench.validate("faulty"))
    taken = pd.read_parquet(bench.folder / "report/quarantine.parquet")
    rules = {path: set(names.split(", ")) for path, names in zip(taken["path"], taken["rules"],
                                                                 strict=True)}  # fmt: skip
    index = pd.read_parquet(bench.folder / "faulty/index.parquet")
    planted, found, total = set(), 0, 0
    with zipfile.ZipFile(bench.folder / "faulty.zip") as archive:
        faults = json.loads(archive.read("simulation.json"))["faults"]
    for fault in faults:
        for path in filter(None, (fault["path"], fault["partner"])):
            whole = fault["kind"] == "label_disagrees"
            own = [p for p in index["path"] if p.startswith(path)] if whole else [path]
            found += sum(RULES[fault["kind"]] in rules.get(each, ()) for each in own)
            total += len(own)
            # A study whose only image is hidden has none: it is rightly named too.
            planted |= {*own, path.rpartition("/")[0] + "/"}
    for kind, said in FATAL.items():
        bench.simulate("fatal.zip", 0.003, {kind: 0.05})
        step = bench.ingest("fatal.zip", "fatal")
        if kind == "patient_in_both_splits":
            finished(step)
            step = bench.validate("fatal")
        found += said in finished(step, fails=True)
        total += 1
    clean = len(index) - len(planted & set(index["path"]))
    return {
        "fault_recall": found / total,
        "faults_planted": total,
        "clean_taken": len(set(rules) - planted) / clean,
    }


def size_figures(bench: Bench, scale: float) -> dict[str, float]:
    """Speed, memory and growth, on one large archive and parts of it."""
    figures: dict[str, float] = {}
    archive = bench.folder / "full.zip"
    rendering = bench.simulate("full.zip", scale, {})
    subset(archive, bench.folder / "half.zip", 2)
    subset(archive, bench.folder / "tenth.zip", 10)
    decoding = seconds(lambda: figures.update(images=decode_all(archive)))
    figures["render_per_second"] = figures["images"] / rendering
    times = {}
    for name in ("half", "full"):
        start = time.perf_counter()
        finished(bench.ingest(f"{name}.zip", name))
        ingesting = time.perf_counter() - start
        finished(bench.validate(name))
        validating = time.perf_counter() - start - ingesting
        times[name] = ingesting + validating
    figures["ingest_per_second"] = figures["images"] / ingesting
    figures["ingest_vs_decode"] = decoding / ingesting
    figures["validate_seconds"] = validating
    figures["clean_taken_full"] = (
        len(pd.read_parquet(bench.folder / "report/quarantine.parquet")) / figures["images"]
    )
    sizes = [len(pd.read_parquet(bench.folder / f"{name}/index.parquet")) for name in times]
    figures["data_time_growth"] = times["full"] / times["half"] * 2 * sizes[0] / sizes[1]
    peaks = [peak_bytes(bench.ingest(f"{name}.zip", "again")) for name in ("tenth", "full")]
    figures["ingest_peak_mib"] = peaks[1] / 2**20
    figures["ingest_memory_growth"] = peaks[1] / peaks[0]
    return figures


def flow_figures(bench: Bench) -> dict[str, float]:
    """A second `dvc repro` at full size, and what one changed image makes run again."""
    checkout = clone(bench.folder / "checkout")
    environment = dict(os.environ) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    archive = checkout / "data/limbs.zip"
    (bench.folder / "full.zip").rename(archive)
    params = yaml.safe_load((checkout / "params.yaml").read_text())
    params["data"]["archive"] = "data/limbs.zip"
    params["validate"]["max_quarantine_fraction"] = 0.01
    (checkout / "params.yaml").write_text(yaml.safe_dump(params))

    def repro() -> str:
        done = subprocess.run(["dvc", "repro", "augment"], cwd=checkout, env=environment,
                              capture_output=True, text=True, check=True)  # fmt: skip
        return done.stdout

    repro()
    noop = seconds(repro)
    with zipfile.ZipFile(archive) as source:
        victim = next(entry for entry in source.infolist() if entry.filename.endswith(".png"))
        position = victim.header_offset + 30 + len(victim.filename) + victim.file_size // 2
    with archive.open("r+b") as file:
        file.seek(position)
        file.write(b"\0\0\0\0")
    said = repro()
    again = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
    print(f"one changed image makes run again: {', '.join(again)}")
    return {"noop_repro_seconds": noop}


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of MURA's own size")
    scale = parser.parse_args().scale
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        for measure in (fault_figures, lambda b: size_figures(b, scale), flow_figures):
            for name, value in measure(bench).items():
                print(f"figure {name} {value:.4g}", flush=True)


if __name__ == "__main__":
    main()
