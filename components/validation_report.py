"""What validate leaves for people: report.json, Data Docs that need no net, sheets of images.

Great Expectations' own pages take their style, their index and a logo from the net. A hospital's
network has none, so those links are cut, a small style stands in, and the index is our own page.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bonexray.artifacts import write_json
from bonexray.images import Pixels
from bonexray.studies import BODY_PARTS
from components.sheets import ABNORMAL, NORMAL, QUARANTINED, Tile, draw_sheet
from components.splits import strata

if TYPE_CHECKING:
    from components.gx import Finding

QUARANTINE_FILE = "quarantine.parquet"
REPORT_FILE = "report.json"
COUNTS_FILE = "counts.json"
"""The numbers that `dvc metrics diff` compares between two versions of the data."""
DATA_DOCS = "data_docs"
SHEETS = "sheets"
_TEMPLATES = Path(__file__).parent / "templates"
_SHOWN = 32  # images of a sheet
_FROM_NET = re.compile(
    r'<link[^>]*href="https?://[^>]*>|<script[^>]*src="https?://[^>]*></script>|'
    r'<img[^>]*src="https?://[^>]*>|<a[^>]*href="https?://[^>]*>.*?</a>',
    re.DOTALL,
)


def summarise(
    origin: str,
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    findings: "list[Finding]",
    stopped_by: list[str],
) -> dict[str, Any]:
    """The content of report.json."""
    per_split = manifest.groupby("split").agg(
        views=("path", "size"), studies=("study", "nunique"), patients=("patient", "nunique")
    )
    abnormal = manifest[manifest["label"] == 1].groupby("split")["study"].nunique()
    per_split["abnormal_studies"] = abnormal.reindex(per_split.index, fill_value=0)
    learning = manifest[manifest["split"] != "test"]
    split_of = learning.groupby("patient")["split"].first()
    in_val = (split_of == "val").groupby(strata(learning, label="label")).mean()
    return {
        "origin": origin,
        "passed": not stopped_by,
        "stopped_by": stopped_by,
        "splits": per_split.to_dict("index"),
        "val_share_of_patients": in_val.astype(float).round(4).to_dict(),
        "views_by_fold": learning["fold"].value_counts().sort_index().rename(str).to_dict(),
        "quarantined": {
            "files": len(quarantine),
            "by_rule": quarantine["rules"].str.split(", ").explode().value_counts().to_dict(),
        },
        "expectations": [
            {key: value for key, value in asdict(finding).items() if key != "paths"}
            | {"first_paths": list(finding.paths[:5])}
            for finding in sorted(findings, key=_urgency)
        ],
    }


def _urgency(finding: "Finding") -> tuple[bool, int]:
    """What failed first, and of that what is worst."""
    return finding.passed, ("critical", "warning", "info").index(finding.severity)


def write_report(
    folder: Path,
    images: Pixels,
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    summary: dict[str, Any],
) -> None:
    """Write the tables and pages beside the Data Docs that lie in `folder` already."""
    quarantine.to_parquet(folder / QUARANTINE_FILE, index=False)
    (folder / SHEETS).mkdir()
    parts = _draw_parts(images, manifest, folder / SHEETS)
    taken = _draw_quarantine(images, quarantine, folder / SHEETS)
    _close_docs(folder / DATA_DOCS, summary, parts, taken)
    counts = {"splits": summary["splits"], "quarantined": summary["quarantined"]["by_rule"]}
    write_json(folder / COUNTS_FILE, counts)
    write_json(folder / REPORT_FILE, summary)


def _draw_parts(images: Pixels, manifest: pd.DataFrame, folder: Path) -> list[str]:
    drawn = []
    for part in BODY_PARTS:
        own = manifest[manifest["body_part"] == part]
        # A view of studies from all over the table: half normal, half abnormal.
        views = own.sample(frac=1, random_state=0).drop_duplicates("study").sort_values("path")
        halves = [_spread(views[views["label"] == label], _SHOWN // 2) for label in (0, 1)]
        tiles = [
            Tile(square=images[row["row"]], caption=_named(row["path"]),
                 edge=ABNORMAL if row["label"] else NORMAL)
            for row in pd.concat(halves).to_dict("records")
        ]  # fmt: skip
        if tiles:
            title = f"{part}: normal studies (green edge), then abnormal ones (red edge)"
            draw_sheet(title, tiles, folder / f"{part}.png")
            drawn.append(part)
    return drawn


def _draw_quarantine(images: Pixels, quarantine: pd.DataFrame, folder: Path) -> dict[str, int]:
    """One sheet a rule; returns how many rows each rule took."""
    rules = quarantine["rules"].str.split(", ")
    counts = rules.explode().value_counts().to_dict()
    for rule in counts:
        taken = _spread(quarantine[[rule in row for row in rules]], _SHOWN)
        tiles = [
            Tile(
                square=images[row["row"]],
                caption=_named(row["path"]),
                edge=QUARANTINED,
                words=row["error"],
            )
            for row in taken.to_dict("records")
        ]
        draw_sheet(f"{rule}: {counts[rule]} files", tiles, folder / f"quarantine-{rule}.png")
    return {str(rule): int(count) for rule, count in counts.items()}


def _named(path: str) -> str:
    """Patient, study and image, short enough to stand under it; another path as it is."""
    if path.count("/") != 4:
        return path
    _, _, patient, study, image = path.split("/")
    return f"{patient.removeprefix('patient')} {study.split('_')[0]} {image.removesuffix('.png')}"


def _spread(table: pd.DataFrame, most: int) -> pd.DataFrame:
    step = max(1, len(table) // most)
    return table.iloc[::step].head(most)


def _close_docs(
    docs: Path, summary: dict[str, Any], parts: list[str], taken: dict[str, int]
) -> None:
    pages = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    style = pages.get_template("docs.css").render()
    for page in docs.rglob("*.gif"):
        page.unlink()  # 4 MB of how Great Expectations is used
    for page in docs.rglob("*.html"):
        text = _FROM_NET.sub("", page.read_text(encoding="utf-8"))
        page.write_text(text.replace("</head>", f"<style>{style}</style></head>"), encoding="utf-8")
    results = {
        page.parents[2].name: page.relative_to(docs).as_posix()
        for page in docs.glob("validations/**/*.html")
    }
    index = pages.get_template("validation.html").render(
        summary=summary, parts=parts, taken=taken, results=results
    )
    (docs / "index.html").write_text(index, encoding="utf-8")
