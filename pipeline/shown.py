"""What the Kubeflow UI shows of a step: pages, figures, a confusion matrix."""

import base64
import re
from pathlib import Path

from kfp.dsl import HTML, ClassificationMetrics, Metrics

from bonexray.evaluation import REPORT_FILE, read_metrics

_PICTURE = re.compile(r'src="(?!data:)([^":]+\.png)"')
_LINK = re.compile(r'<a href="(?!#)[^"]*">(.*?)</a>')
_FIGURES = ("auroc", "auroc_low", "auroc_high", "accuracy", "sensitivity", "specificity", "kappa")


def evaluation_page(report: Path) -> str:
    """The page that evaluate wrote, which is one file."""
    return (report / REPORT_FILE).read_text(encoding="utf-8")


def validation_page(report: Path) -> str:
    """The page that validate wrote, as one file: with its pictures, without links to others."""
    index = report / "data_docs/index.html"

    def inlined(match: re.Match[str]) -> str:
        picture = (index.parent / match[1]).resolve()
        if not picture.is_relative_to(report.resolve()):
            raise ValueError(f"{match[1]} is no picture of the report")
        data = base64.b64encode(picture.read_bytes()).decode()
        return f'src="data:image/png;base64,{data}"'

    return _PICTURE.sub(inlined, _LINK.sub(r"\1", index.read_text(encoding="utf-8")))


def show_validation(report: str, page: HTML) -> None:
    """Hand over the page.

    Args:
        report: folder that validate wrote.
        page: to fill.
    """
    Path(page.path).write_text(validation_page(Path(report)), encoding="utf-8")


def show_evaluation(
    report: str, page: HTML, figures: Metrics, confusion: ClassificationMetrics
) -> None:
    """Hand over the report page, the figures of the test studies, and labels against calls at 0.5.

    Args:
        report: folder that evaluate wrote.
        page: to fill.
        figures: to fill.
        confusion: to fill.
    """
    folder = Path(report)
    Path(page.path).write_text(evaluation_page(folder), encoding="utf-8")
    study = read_metrics(folder)["test"]["study"]
    for name in _FIGURES:
        if study[name] is not None:
            figures.log_metric(f"test_study_{name}", study[name])
    abnormal, normal = study["abnormal"], study["count"] - study["abnormal"]
    found = round(abnormal * (study["sensitivity"] or 0))
    left = round(normal * (study["specificity"] or 0))
    confusion.log_confusion_matrix(
        ["normal", "abnormal"], [[left, normal - left], [abnormal - found, found]]
    )
