"""What a release board keeps beside the report: settings, data, lineage, software.

The report folder with these, sealed, is the release pack.
"""

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from bonexray.artifacts import write_json
from bonexray.bundle import INFO_FILE
from bonexray.config import EvaluateConfig
from bonexray.evaluation import (
    DATA_FILE,
    HEADLINE_FILE,
    LINEAGE_FILE,
    PARAMS_FILE,
    SBOM_FILE,
    TRAINING_FILE,
)
from bonexray.sealed import seal
from bonexray.studies import BODY_PARTS, LABELS, SPLITS
from components.findings import Findings

_HEADLINE = ("auroc", "auroc_low", "auroc_high", "accuracy", "kappa", "ece_debiased")


def write_pack(report: Path, bundle: Path, found: Findings, config: EvaluateConfig) -> None:
    """Add what a release pack holds to a report folder, and seal it.

    Args:
        report: folder with report, metrics, gate and predictions.
        bundle: the bundle that they are of.
        found: what they tell.
        config: of the step.
    """
    shutil.copyfile(bundle / INFO_FILE, report / INFO_FILE)
    records = [record.model_dump(mode="json") for record in found.chosen.candidate.records]
    write_json(report / TRAINING_FILE, records)
    settings = {record["arch"]: record["config"] for record in records}
    augment = records[0]["policy"]["augment"]
    judging = config.model_dump(mode="json", exclude_none=True)
    write_json(report / PARAMS_FILE, {"train": settings, "augment": augment, "evaluate": judging})
    lineage = found.info.provenance.model_dump(mode="json")
    digest = {"bundle_digest": found.metrics["bundle_digest"]}
    write_json(report / LINEAGE_FILE, lineage | digest)
    write_json(report / DATA_FILE, summarise_data(found.chosen.views) | found.origin.model_dump())
    write_json(report / SBOM_FILE, list_software())
    study = found.metrics["test"]["study"]
    write_json(report / HEADLINE_FILE, {"test_study": {name: study[name] for name in _HEADLINE}})
    seal(report)


def summarise_data(views: pd.DataFrame) -> dict[str, Any]:
    """Split -> patients, studies, images, and studies of each body part and label."""
    summary: dict[str, Any] = {}
    for split in SPLITS:
        own = views[views["split"] == split]
        studies = own.drop_duplicates("study")
        counts = studies.groupby(["body_part", "label"]).size()
        summary[split] = {
            "patients": int(own["patient"].nunique()),
            "studies": len(studies),
            "images": len(own),
            "studies_by_part": {
                part: {name: int(counts.get((part, label), 0)) for label, name in enumerate(LABELS)}
                for part in BODY_PARTS
            },
        }
    return {"splits": summary}


def list_software() -> dict[str, Any]:
    """The installed packages as a CycloneDX bill of materials, without time or machine in it."""
    installed = {
        (distribution.metadata["Name"], distribution.version)
        for distribution in metadata.distributions()
    }
    bom = Bom(
        components=[
            Component(
                name=name,
                version=version,
                type=ComponentType.LIBRARY,
                bom_ref=f"{name}=={version}",
                purl=PackageURL("pypi", None, name.lower().replace("_", "-"), version),
            )
            for name, version in sorted(installed)
        ]
    )
    listed: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    listed.pop("serialNumber", None)
    listed["metadata"].pop("timestamp", None)
    return listed
