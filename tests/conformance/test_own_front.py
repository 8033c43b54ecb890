"""Our own front, held against the whole suite: a test a case."""

import json
from collections.abc import Iterator

import pytest

from tests.conformance.__main__ import main
from tests.conformance.case import IDENTITY_MODELS, Target
from tests.conformance.running import OURS, SCHEMA, identity_server
from tests.conformance.schemathesis_run import fuzz
from tests.conformance.suite import cases, run

SUITE = Target(url="", grpc="-", schema=SCHEMA if SCHEMA.exists() else None)
KEYS = [case.key for case in cases(SUITE)]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with identity_server(OURS, tmp_path_factory.mktemp("own")) as target:
        yield target


@pytest.fixture(scope="module")
def reasons(front: Target, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the command writes, of every case."""
    file = tmp_path_factory.mktemp("told") / "cases.json"
    schema = ["--schema", str(front.schema)] if front.schema else []
    main(["--url", front.url, "--grpc", front.grpc, *schema, "--json", str(file)])
    return {told["key"]: told["reason"] for told in json.loads(file.read_text())["cases"]}


@pytest.mark.parametrize("key", KEYS)
def test_our_front_does_as_the_protocol_says(reasons: dict[str, str], key: str) -> None:
    assert reasons[key] == ""


def test_every_case_has_a_name_of_its_own(reasons: dict[str, str]) -> None:
    assert len(set(KEYS)) == len(KEYS)
    assert set(KEYS) == set(reasons)


def test_a_server_without_identity_models_is_judged_by_its_errors(front: Target) -> None:
    target = Target(url=front.url, models=(), model="identity_fp32")
    outcomes = list(run("plain", target))
    assert len(outcomes) > 100
    assert [outcome for outcome in outcomes if not outcome.passed] == []
    assert not any("round" in outcome.key or "typed" in outcome.key for outcome in outcomes)


@pytest.mark.skipif(not SCHEMA.exists(), reason="needs the protocol's OpenAPI document")
def test_no_generated_request_meets_a_server_error_or_an_error_without_words(
    front: Target,
) -> None:
    count = fuzz(front.url, SCHEMA, [model.name for model in IDENTITY_MODELS], cases=200)
    assert count.cases == 200
    assert (count.server_errors, count.without_error) == (0, 0), count.examples
    assert {200, 400, 404} <= set(count.statuses)
