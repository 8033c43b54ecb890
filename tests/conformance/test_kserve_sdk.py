"""The KServe SDK's own server, which shows that the suite can fail: these defects are known."""

from collections.abc import Iterator

import pytest

from tests.conformance.case import IDENTITY_MODELS, Target
from tests.conformance.running import KSERVE_SDK, SCHEMA, identity_server
from tests.conformance.schemathesis_run import fuzz
from tests.conformance.suite import Score, score

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with identity_server(KSERVE_SDK, tmp_path_factory.mktemp("kserve")) as target:
        yield target


@pytest.fixture(scope="module")
def sdk_score(sdk: Target) -> Score:
    return score(sdk.url, sdk.grpc, schema=sdk.schema)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("L0_json/plain/REST/cut off", "status 422 without"),
        ("L0_input_validation/plain/REST/shape of more elements than data", "status 500"),
        ("L0_input_validation/plain/REST/data is text", "the error repeats what was sent"),
        ("L0_string_io/plain/REST/bytes that are no UTF-8, binary", "500"),
        ("L0_model_control/plain/REST/unload without a credential", "status 200"),
        ("L0_http/plain/REST/infer, with version", "501 for a version"),
        ("L0_http/plain/REST/POST /v2/health/live", "status 405 without"),
        ("L0_input_validation/plain/gRPC/negative shape", "INTERNAL"),
        ("L0_grpc/plain/gRPC/one output of two", "outputs are not OUTPUT1"),
    ],
)
def test_a_known_defect_is_found(sdk_score: Score, key: str, reason: str) -> None:
    assert reason in sdk_score.failures()[key]


def test_what_the_sdk_does_right_passes(sdk_score: Score) -> None:
    assert 0.5 < sdk_score.share < 1
    failures = sdk_score.failures()
    assert not [key for key in failures if key.startswith("L0_large_payload/")]
    assert "L0_binary/triton/REST/FP32" not in failures
    assert "L0_json/kserve/REST/INT64" not in failures


@pytest.mark.skipif(not SCHEMA.exists(), reason="needs the protocol's OpenAPI document")
def test_schemathesis_finds_server_errors_and_errors_without_words(sdk: Target) -> None:
    count = fuzz(sdk.url, SCHEMA, [model.name for model in IDENTITY_MODELS], cases=100)
    assert count.server_errors > 0
    assert count.without_error > 0
