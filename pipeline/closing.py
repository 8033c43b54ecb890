"""What a run leaves, however it ends: a page and the reports of the gates that it came to."""

from html import escape
from pathlib import Path
from shutil import copytree

from bonexray.artifacts import remove, whole_folder
from pipeline.shown import evaluation_page, validation_page

VALIDATION, EVALUATION = "validation", "evaluation"
_REPORTS = "reports"
_BANNER_STYLE = "padding:.9rem 1.2rem;border-left:.5rem solid {edge};background:{back}"
_BARE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>bonexray: a run</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; }</style></head>
<body>
<p>The run did not come to its first gate: see the log of the task that failed.</p></body></html>
"""


def keep_report(name: str, report: str, workspace: str) -> None:
    """Copy a step's report to the volume of the run, whole or not at all.

    Args:
        name: of the gate.
        report: folder that the step wrote.
        workspace: mount of the volume.
    """
    kept = Path(workspace) / _REPORTS / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(kept) as partial:
        copytree(report, partial, dirs_exist_ok=True)


def close_run(workspace: str, state: str, message: str, page: str, reports: str) -> None:
    """Hand over the kept reports and one page that shows how the run ended.

    Args:
        workspace: mount of the run's volume.
        state: of the run, as Kubeflow names it: SUCCEEDED, FAILED and others.
        message: of the failure.
        page: HTML file to write.
        reports: folder to write.
    """
    kept, given = Path(workspace) / _REPORTS, Path(reports)
    remove(given)
    given.mkdir(parents=True)
    if kept.is_dir():
        copytree(kept, given, dirs_exist_ok=True)
    Path(page).write_text(_page(given, state, message), encoding="utf-8")
    print(f"closing: {state.lower()}, reports of {_named(given)}")


def _named(reports: Path) -> str:
    return " and ".join(sorted(path.name for path in reports.iterdir())) or "no gate"


def _page(reports: Path, state: str, message: str) -> str:
    """The page of the last gate that the run came to, under a banner."""
    told = _banner(reports, state, message)
    page = _BARE
    for name, page_of in ((EVALUATION, evaluation_page), (VALIDATION, validation_page)):
        if (reports / name).is_dir():
            try:
                page = page_of(reports / name)
            except (OSError, ValueError) as error:  # a damaged report is no reason for no page
                told += f"<p>The page of {name} cannot be shown: {escape(str(error))}</p>"
            break
    return page.replace("<body>", f"<body>{told}", 1)


def _banner(reports: Path, state: str, message: str) -> str:
    good = state == "SUCCEEDED"
    style = _BANNER_STYLE.format(
        edge="#2f8f5b" if good else "#c0392b", back="#eef7f1" if good else "#fbeeed"
    )
    reason = f"<br>{escape(message)}" if message else ""
    return (
        f'<div style="{style}"><strong>Run {escape(state.lower())}.</strong> Reports of '
        f"{escape(_named(reports))}.{reason}</div>"
    )
