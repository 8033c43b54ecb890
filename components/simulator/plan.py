"""Who is simulated: patients and their studies, in MURA's numbers. Renders nothing."""

from dataclasses import dataclass

import numpy as np

from components import mura
from components.simulator.lesions import draw_findings

_SAME_PART_SHARE = 0.5
"""Of the studies that a patient has beside the first: those of the same body part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """One study of one patient."""

    part: str
    number: int
    """Among this patient's studies of this part, from 1."""
    label: int
    """1 is abnormal."""
    views: int
    findings: tuple[str, ...]
    """What makes it abnormal; empty when it is normal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """One patient of one of MURA's splits."""

    number: int
    split: str
    studies: tuple[Study, ...]

    def folder(self, study: Study) -> str:
        """The study's folder below the archive's root, without trailing slash."""
        return (
            f"{self.split}/{study.part}/patient{self.number:05d}/"
            f"study{study.number}_{mura.LABELS[study.label]}"
        )

    def paths(self) -> list[str]:
        """Every image's path below the archive's root."""
        return [
            f"{self.folder(study)}/image{view}.png"
            for study in self.studies
            for view in range(1, study.views + 1)
        ]


def plan_patients(scale: float, seed: int) -> list[Patient]:
    """MURA's patients, studies and images times `scale`, per split, part and label.

    At 1.0 every published count is met. However small, each split keeps one study of each part
    and label.
    """
    rng = np.random.default_rng([seed, 0])
    train = _plan_split("train", scale, 1, rng)
    return train + _plan_split("valid", scale, 1 + len(train), rng)


def _plan_split(
    split: str, scale: float, first_number: int, rng: np.random.Generator
) -> list[Patient]:
    drawn = _draw_studies(split, scale, rng)
    published = sum(map(sum, mura.STUDIES[split].values()))
    num_patients = round(len(drawn) * mura.PATIENTS[split] / published)
    order = rng.permutation(len(drawn))
    owned = [[drawn[k]] for k in order[:num_patients]]
    of_part: dict[str, list[int]] = {}
    for owner, ((part, _, _),) in enumerate(owned):
        of_part.setdefault(part, []).append(owner)
    for k in order[num_patients:]:
        part = drawn[k][0]
        same = part in of_part and rng.random() < _SAME_PART_SHARE
        owners = of_part[part] if same else range(num_patients)
        owned[owners[int(rng.integers(len(owners)))]].append(drawn[k])
    return [
        Patient(number=first_number + k, split=split, studies=_numbered(studies, rng))
        for k, studies in enumerate(owned)
    ]


def _draw_studies(split: str, scale: float, rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Part, label and number of views of every study."""
    drawn = []
    for part, counts in mura.STUDIES[split].items():
        for label, published in enumerate(counts):
            studies = max(1, round(scale * published))
            images = max(studies, round(scale * mura.IMAGES[split][part][label]))
            extra = rng.multinomial(images - studies, np.full(studies, 1 / studies))
            drawn += [(part, label, 1 + int(more)) for more in extra]
    return drawn


def _numbered(drawn: list[tuple[str, int, int]], rng: np.random.Generator) -> tuple[Study, ...]:
    studies: list[Study] = []
    for part, label, views in sorted(drawn, key=lambda study: study[0]):
        number = 1 + sum(study.part == part for study in studies)
        findings = draw_findings(rng) if label else ()
        studies.append(Study(part=part, number=number, label=label, views=views, findings=findings))
    return tuple(studies)
