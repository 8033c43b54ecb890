"""Answers of a server held against the protocol's own open_inference_rest.yaml."""

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml

from tests.conformance.case import Ask, Case, Target, expect
from tests.conformance.plain_rest import PlainRest, encode, model_path, read_json
from tests.conformance.tensors import Tensor, sample

GROUP = "open_inference_rest.yaml"


def cases(target: Target) -> Iterator[Case]:
    """Metadata, answers and errors; none where the schema is missing."""
    if target.schema is None:
        return
    model = target.model_of("FP32") or target.model
    metadata = "metadata_model_response"
    yield _case("server metadata", _check_get, path="/v2", component="metadata_server_response")
    # The schema states this path, the text of the protocol the one above.
    yield _case("server metadata at /v2/", _check_slash)
    yield _case("model metadata", _check_get, path=model_path(model), component=metadata)
    yield _case("error of model metadata", _check_error, path=model_path("no-such-model"))
    for datatype in ("FP32", "BOOL", "BYTES"):  # the three kinds of tensor_data
        if identity := target.model_of(datatype):
            yield _case(f"answer in {datatype}", _check_infer, model=identity, datatype=datatype)


def _case(name: str, check: Any, **fixed: str) -> Case:
    run = partial(check, **fixed)
    return Case(group=GROUP, client="plain", protocol="REST", name=name, run=run)


def _check_get(caller: PlainRest, path: str, component: str) -> None:
    _hold(caller, read_json(caller.send("GET", path)), component)


def _check_slash(caller: PlainRest) -> None:
    answer = caller.request("GET", "/v2/", follow_redirects=True)
    expect(answer.status_code == 200, f"status {answer.status_code}, expected 200")
    _hold(caller, read_json(answer), "metadata_server_response")


def _check_error(caller: PlainRest, path: str) -> None:
    answer = caller.request("GET", path)
    expect(400 <= answer.status_code < 500, f"status {answer.status_code}, expected 4xx")
    _hold(caller, read_json(answer), "metadata_model_error_response")


def _check_infer(caller: PlainRest, model: str, datatype: str) -> None:
    sent = Tensor(name="INPUT0", datatype=datatype, array=sample(datatype), binary=False)
    head, _ = encode(Ask(model=model, tensors=(sent,)))
    answer = caller.post_infer(model, head)
    expect(answer.status_code == 200, f"status {answer.status_code}, expected 200")
    _hold(caller, read_json(answer), "inference_response")


def _hold(caller: PlainRest, document: dict[str, Any], component: str) -> None:
    assert caller.target.schema is not None
    schemas = _schemas(caller.target.schema)
    validator = jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{component}", "components": {"schemas": schemas}}
    )
    faults = [f"{fault.json_path}: {fault.validator}" for fault in validator.iter_errors(document)]
    expect(not faults, f"not as {component} says: {', '.join(faults[:3])}")


@cache
def _schemas(path: Path) -> Any:
    return yaml.safe_load(path.read_text())["components"]["schemas"]
