"""Great Expectations, run on tables in memory. Knows no rule.

The only module that runs it; importing it takes seconds.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import pandas as pd

# Read at import: no usage events leave the hospital's network.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx  # noqa: E402  (after the line above)
from great_expectations.checkpoint import UpdateDataDocsAction  # noqa: E402
from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: E402
from great_expectations.expectations import core as gxe  # noqa: E402
from great_expectations.expectations.expectation import Expectation  # noqa: E402
from great_expectations.expectations.metadata_types import FailureSeverity  # noqa: E402

__all__ = ["Expectation", "FailureSeverity", "Finding", "Validation", "gxe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The outcome of one expectation."""

    suite: str
    rule: str
    severity: str
    passed: bool
    num_unexpected: int
    paths: tuple[str, ...]
    """Paths of the rows that failed it; empty for expectations about the whole table."""
    problem: str
    """Why the expectation could not be computed, or what was observed; empty when it passed."""


class Validation:
    """One run of the suites; its Data Docs hold the results of each table checked."""

    def __init__(self) -> None:
        """Start with no tables checked."""
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)

    def check(
        self, name: str, table: pd.DataFrame, expectations: list[Expectation]
    ) -> list[Finding]:
        """Check a table that has a `path` column against a suite."""
        source = self._context.data_sources.add_pandas(name)
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        suite = self._context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[self._context.validation_definitions.add(definition)],
            actions=[UpdateDataDocsAction(name="data_docs")],
            # The full index list: `unexpected_list` stops at 200.
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["path"],
            },
        )
        outcome = self._context.checkpoints.add(checkpoint).run(
            batch_parameters={"dataframe": table}
        )
        (result,) = outcome.run_results.values()
        return [_finding(name, item) for item in result.results]

    def write_data_docs(self, folder: Path) -> None:
        """Move the Data Docs site out of the temporary folder that the context never clears."""
        (site,) = self._context.get_docs_sites_urls()
        shutil.move(Path(url2pathname(urlparse(str(site["site_url"])).path)).parent, folder)


def _finding(suite: str, item: Any) -> Finding:
    config = item.expectation_config
    raised = [
        info["exception_message"]
        for info in _exceptions(item.exception_info)
        if info["raised_exception"]
    ]
    failed_rows = item.result.get("unexpected_index_list") or []
    observed = item.result.get("observed_value")
    return Finding(
        suite=suite,
        rule=config.meta["rule"],
        severity=config.severity.value,
        passed=bool(item.success),
        num_unexpected=int(item.result.get("unexpected_count") or 0),
        paths=tuple(row["path"] for row in failed_rows),
        problem="" if item.success else (raised[0] if raised else f"observed {observed}"),
    )


def _exceptions(info: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry a failed metric, or one for the whole expectation: GX gives either form."""
    return [info] if "raised_exception" in info else list(info.values())
