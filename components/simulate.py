"""Simulated radiographs in the exact layout of MURA-v1.1, for a flow that needs no download.

They stand in for the real data's form and size, not for its content: a network trained on them
reads no patient's image.
"""

import csv
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from bonexray.artifacts import whole_file
from bonexray.command import run_or_exit, step_parser
from bonexray.config import SimulateConfig, read_section
from components.simulator.anatomy import Anatomy, draw_build
from components.simulator.film import develop, draw_exposure
from components.simulator.lesions import draw_findings, with_findings
from components.simulator.limbs import build_anatomy
from components.simulator.radiograph import Camera, project
from components.simulator.shapes import turn

ROOT = "MURA-v1.1"
_MIN_WIDTH_PX = 89  # of MURA's images
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # fixed: the archive's bytes follow from the seed alone
# Of MURA's studies, per part: in train, and in valid.
_PART_STUDIES = {
    "XR_ELBOW": (1754, 158),
    "XR_FINGER": (1935, 175),
    "XR_FOREARM": (877, 133),
    "XR_HAND": (2018, 167),
    "XR_HUMERUS": (592, 135),
    "XR_SHOULDER": (2821, 194),
    "XR_WRIST": (3460, 237),
}
_POSITIVE_SHARE = {"train": 0.40, "valid": 0.47}
_SECOND_STUDY_SHARE = 0.2
_VIEW_SHARES = (0.18, 0.42, 0.32, 0.08)  # of studies with one, two, three and four views


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Who is to be simulated: the plan, drawn before any image is."""

    number: int
    split: str
    part: str
    labels: tuple[int, ...]
    """One a study: 1 is abnormal."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One rendered study."""

    folder: str
    """Below the archive's root, with a trailing slash."""
    label: int
    images: tuple[bytes, ...]
    """One PNG file a view."""


def plan_patients(config: SimulateConfig) -> list[Patient]:
    """Allot parts and labels to patients by quota, so that a small set holds all of them."""
    rng = np.random.default_rng([config.seed, 0])
    train = _plan_split("train", config.train_patients, 1, rng)
    return train + _plan_split("valid", config.valid_patients, 1 + len(train), rng)


def _plan_split(
    split: str, patients: int, first_number: int, rng: np.random.Generator
) -> list[Patient]:
    counts = _part_counts(split, patients)
    planned: list[tuple[str, tuple[int, ...]]] = []
    for part, count in counts.items():
        studies = np.ones(count, dtype=int)
        studies[: round(count * _SECOND_STUDY_SHARE)] = 2
        total = int(studies.sum())
        labels = np.zeros(total, dtype=int)
        labels[: max(round(total * _POSITIVE_SHARE[split]), min(total - 1, 1))] = 1
        rng.shuffle(labels)
        ends = np.cumsum(studies)
        planned += [
            (part, tuple(int(label) for label in labels[end - size : end]))
            for size, end in zip(studies, ends, strict=True)
        ]
    order = rng.permutation(len(planned))
    return [
        Patient(number=first_number + k, split=split, part=planned[i][0], labels=planned[i][1])
        for k, i in enumerate(order)
    ]


def _part_counts(split: str, patients: int) -> dict[str, int]:
    """Patients per part: as in MURA, but none below half of an equal share."""
    studies = np.array([pair[split == "valid"] for pair in _PART_STUDIES.values()], dtype=float)
    shares = np.maximum(studies / studies.sum(), 0.5 / len(studies))
    wanted = shares / shares.sum() * patients
    counts = np.floor(wanted).astype(int)
    for k in np.argsort(counts - wanted, kind="stable")[: patients - counts.sum()]:
        counts[k] += 1
    # Two, where there are enough, so that a part can have a patient of either label.
    while counts.min() < min(2, patients // len(counts)):
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return dict(zip(_PART_STUDIES, (int(count) for count in counts), strict=True))


def render_patient(patient: Patient, seed: int) -> list[Study]:
    """Render all studies of one patient; the images follow from seed and patient number alone."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, patient.number]))
    healthy = build_anatomy(patient.part, draw_build(rng))
    studies = []
    for k, label in enumerate(patient.labels, start=1):
        anatomy = with_findings(healthy, draw_findings(rng), rng) if label else healthy
        views = 1 + int(rng.choice(len(_VIEW_SHARES), p=_VIEW_SHARES))
        studies.append(
            Study(
                folder=f"{patient.split}/{patient.part}/patient{patient.number:05d}/"
                f"study{k}_{'positive' if label else 'negative'}/",
                label=label,
                images=tuple(_png(image) for image in _render_views(anatomy, views, rng)),
            )
        )
    return studies


def _render_views(
    anatomy: Anatomy, views: int, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    usual = len(anatomy.turns_degrees)
    first = int(rng.integers(usual)) if rng.random() < 0.25 else 0
    for k in range(views):
        which = (first + k) % usual
        bend = anatomy.bends_degrees[which % len(anatomy.bends_degrees)]
        camera = _draw_camera(anatomy, anatomy.turns_degrees[which], rng)
        signal = project(anatomy.bent(bend + rng.normal(0, 4)).structures, camera)
        yield develop(signal, draw_exposure(rng), "L" if anatomy.left else "R", rng)


def _draw_camera(anatomy: Anatomy, turn_degrees: float, rng: np.random.Generator) -> Camera:
    long_px = int(rng.integers(256, 385))
    width_mm, height_mm = np.array(anatomy.extent_mm) * rng.uniform(0.92, 1.12, 2)
    px_per_mm = long_px / max(width_mm, height_mm)
    about_x, about_z = np.radians(rng.normal(0, 3, 2))
    rotation = turn(np.array([0.0, 0.0, 1.0]), about_z) @ turn(np.array([1.0, 0.0, 0.0]), about_x)
    rotation = rotation @ turn(
        np.array([0.0, 1.0, 0.0]), np.radians(turn_degrees + rng.normal(0, 5))
    )
    if anatomy.upside_down:
        rotation = np.diag([-1.0, -1.0, 1.0]) @ rotation
    if anatomy.left:
        rotation = np.diag([-1.0, 1.0, 1.0]) @ rotation
    return Camera(
        rotation=rotation,
        centre=anatomy.centre + rng.normal(0, 0.02, 3) * max(anatomy.extent_mm),
        px_per_mm=px_per_mm,
        height_px=round(height_mm * px_per_mm),
        width_px=max(round(width_mm * px_per_mm), _MIN_WIDTH_PX),
    )


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    # Fast: noise hardly packs, and the effort would cost as much as the rendering.
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def simulate(out: Path, config: SimulateConfig) -> None:
    """Write the archive. The bytes depend on `config` alone, not on the number of workers."""
    patients = plan_patients(config)
    images: dict[str, list[str]] = {"train": [], "valid": []}
    labels: dict[str, list[tuple[str, int]]] = {"train": [], "valid": []}
    with whole_file(out) as partial, zipfile.ZipFile(partial, "w") as archive:
        bar = tqdm(total=len(patients), desc="simulate", unit="patient", disable=None)
        for patient, studies in _rendered(patients, config.seed):
            for study in studies:
                labels[patient.split].append((f"{ROOT}/{study.folder}", study.label))
                for k, png in enumerate(study.images, start=1):
                    name = f"{ROOT}/{study.folder}image{k}.png"
                    images[patient.split].append(name)
                    _add(archive, name, png)
            bar.update()
        bar.close()
        for split in images:
            _add(
                archive, f"{ROOT}/{split}_image_paths.csv", _csv([[path] for path in images[split]])
            )
            _add(archive, f"{ROOT}/{split}_labeled_studies.csv", _csv(labels[split]))
    print(
        f"simulate: {len(patients)} patients, {sum(map(len, labels.values()))} studies, "
        f"{sum(map(len, images.values()))} images in {out}"
    )


def _rendered(patients: list[Patient], seed: int) -> Iterator[tuple[Patient, list[Study]]]:
    """Each patient with its studies, in order, rendered by one process a core."""
    # Spawned, not forked: the parent may hold threads, of a progress bar or of a caller's torch.
    spawn = get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), spawn, initializer=_end_with_parent) as workers:
        rendered = workers.map(render_patient, patients, [seed] * len(patients), chunksize=4)
        yield from zip(patients, rendered, strict=True)


def _end_with_parent() -> None:
    """Let a worker end when the step is killed; by itself it would wait for work forever."""
    parent = parent_process()
    assert parent is not None, "runs in a worker only"

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


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
