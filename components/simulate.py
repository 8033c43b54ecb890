"""Simulated radiographs in the exact layout of MURA-v1.1, for a flow that needs no download.

They stand in for the real data's form and size, not for its content: a network trained on them
reads no patient's image.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from bonexray.artifacts import whole_file
from bonexray.command import run_or_exit, step_parser
from bonexray.config import SimulateConfig, read_section
from components import mura
from components.archive import SIMULATION_FILE
from components.faults import Planting, plant
from components.simulator.plan import Patient, plan_patients
from components.simulator.views import View, render_patient
from components.workers import Workers

_BATCH = 4  # patients that a worker is given at once
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # fixed: the archive's bytes follow from the settings alone

Truth = dict[str, Any]
"""What is known of a view: `marker`, `lesions`."""


def render_files(
    patients: list[Patient], seed: int, difficulty: float
) -> list[tuple[bytes, Truth]]:
    """The PNG files of some patients, in the order of their `paths`, and what is known of each."""
    return [
        (_png(Image.fromarray(view.pixels)), _truth(view))
        for patient in patients
        for study in render_patient(patient, seed, difficulty)
        for view in study
    ]


def _truth(view: View) -> Truth:
    lesions = [
        {"finding": lesion.finding, "box": [round(edge, 4) for edge in lesion.box]}
        for lesion in view.lesions
    ]
    return {"marker": view.marker, "lesions": lesions}


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # Fast: noise hardly packs, and the effort would cost as much as the rendering.
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def simulate(out: Path, config: SimulateConfig) -> None:
    """Write the archive. The bytes depend on `config` alone, not on the number of workers."""
    plan = plan_patients(config.scale, config.seed)
    patients, planting = plant(plan, config.faults, config.seed)
    copied = {fault.path: fault.partner for fault in planting.planted if fault.partner}
    views: dict[str, Truth] = {}
    num_images = sum(len(patient.paths()) for patient in patients)
    with whole_file(out) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        with tqdm(total=num_images, desc="simulate", unit="image", disable=None) as bar:
            # Rendered by the plan's numbers: a patient renamed by a fault keeps its own body.
            for path, (png, truth) in zip(_paths(patients), _rendered(plan, config), strict=True):
                views[path] = views[copied[path]] if path in copied else truth
                for name, content in planting.entries(path, png):
                    _add(archive, f"{mura.ROOT}/{name}", content)
                bar.update()
        for name, content in [*planting.strays(), *_lists(patients, planting)]:
            _add(archive, f"{mura.ROOT}/{name}", content)
        planting.add_hostile(archive)
        findings = {f"{p.folder(s)}/": s.findings for p in patients for s in p.studies if s.label}
        about = config.model_dump() | {"faults": planting.truth(), "findings": findings}
        told = json.dumps(about | {"views": views}, sort_keys=True, separators=(",", ":"))
        _add(archive, SIMULATION_FILE, told.encode())
    studies = sum(len(patient.studies) for patient in patients)
    planted = f", {len(planting.planted)} faults" if planting.planted else ""
    print(
        f"simulate: {len(patients)} patients, {studies} studies, {num_images} images{planted} "
        f"in {out}"
    )


def _paths(patients: list[Patient]) -> Iterator[str]:
    for patient in patients:
        yield from patient.paths()


def _rendered(plan: list[Patient], config: SimulateConfig) -> Iterator[tuple[bytes, Truth]]:
    render = partial(render_files, seed=config.seed, difficulty=config.difficulty)
    batches = (plan[start : start + _BATCH] for start in range(0, len(plan), _BATCH))
    with Workers() as workers:
        for files in workers.in_order(render, batches):
            yield from files


def _lists(patients: list[Patient], planting: Planting) -> Iterator[tuple[str, bytes]]:
    """MURA's four CSVs."""
    for split in mura.SPLITS:
        own = [patient for patient in patients if patient.split == split]
        images = [(f"{mura.ROOT}/{path}",) for path in _paths(own) if planting.lists(path)]
        studies = [
            (f"{mura.ROOT}/{folder}/", planting.label(folder, study.label))
            for patient in own
            for study in patient.studies
            for folder in [patient.folder(study)]
        ]
        yield f"{split}_image_paths.csv", _csv(images)
        yield f"{split}_labeled_studies.csv", _csv(studies)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step from the command line."""
    parser = step_parser("simulate", "Write simulated radiographs in MURA's layout.")
    parser.add_argument("--out", type=Path, required=True, help="archive to write, a .zip")
    args = parser.parse_args(argv)
    run_or_exit("simulate", lambda: simulate(args.out, read_section(args.params, SimulateConfig)))


if __name__ == "__main__":
    main()
