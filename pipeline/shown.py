"""What the Kubeflow UI shows of a step: pages, figures, a confusion matrix."""

import shutil
from pathlib import Path

from kfp.dsl import HTML, ClassificationMetrics, Metrics

from bonexray.evaluation import METRICS_FILE, REPORT_FILE, read_metrics

_FIGURES = ("auroc", "auroc_low", "auroc_high", "accuracy", "sensitivity", "specificity", "kappa")


def show_evaluation(
    report: str, page: HTML, figures: Metrics, confusion: ClassificationMetrics
) -> None:
    """Hand over the report page, the figures of the test studies, and labels against calls at 0.5.

    Nothing is shown when evaluate stopped before it wrote its report.

    Args:
        report: folder that evaluate wrote.
        page: to fill.
        figures: to fill.
        confusion: to fill.
    """
    folder = Path(report)
    if not (folder / METRICS_FILE).exists():
        return
    shutil.copyfile(folder / REPORT_FILE, page.path)
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
