"""How much of the Open Inference Protocol is kept, and how much by the KServe SDK's server."""

from pathlib import Path

from tests.conformance.case import IDENTITY_MODELS
from tests.conformance.running import KSERVE_SDK, OURS, SCHEMA, identity_server
from tests.conformance.schemathesis_run import fuzz
from tests.conformance.suite import Score, score

CASES, MANY_CASES = 1_000, 10_000
"""Of schemathesis, which makes some twenty a second."""


def measure(folder: Path, cases: int) -> dict[str, float]:
    """Shares of the cases that hold, and what so many generated requests met."""
    figures: dict[str, float] = {}
    with identity_server(OURS, folder) as ours:
        figures |= _figures("conformance", score(ours.url, ours.grpc, schema=ours.schema))
        if SCHEMA.exists():
            models = [model.name for model in IDENTITY_MODELS]
            count = fuzz(ours.url, SCHEMA, models, cases=cases)
            print(f"  schemathesis: {count.statuses} {' '.join(count.examples)}")
            figures["schemathesis_cases"] = count.cases
            figures["schemathesis_5xx"] = count.server_errors
            figures["schemathesis_4xx_without_error"] = count.without_error
    with identity_server(KSERVE_SDK, folder) as theirs:
        told = score(theirs.url, theirs.grpc, schema=theirs.schema)
        return figures | _figures("conformance_kserve_sdk", told)


def _figures(name: str, told: Score) -> dict[str, float]:
    for key, reason in list(told.failures().items())[:20] if name == "conformance" else ():
        print(f"  {key}: {reason}")
    return {name: told.share, f"{name}_cases": told.total}
