import math
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from serving.apidoc import api_routes
from serving.oip.model import Gate, Models
from serving.oip.rest import Rest, build_app
from serving.oip.rpc import Servicer
from serving.v1 import v1_routes
from serving.watch.fields import OTHER, ROUTES, clean, route_of, status_of

DIGEST = "0123456789abcdef" * 4
SOUND = {
    "event": "request",
    "level": "INFO",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "answer_id": f"{DIGEST[:16]}-{DIGEST[:32]}",
    "client": "hospital/service-account-pacs",
    "protocol": "rest",
    "route": "/v2/models/{model_name}/infer",
    "method": "POST",
    "status": "200",
    "bytes": 120_000,
    "views": 2,
    "positive": 1,
    "total_ms": 41.3,
    "version": "3",
    "digest": DIGEST,
    "precision": "int8",
    "reason": "rate",
    "code": "other_part",
}
PHI = ("DOE^JANE", "PATIENT-ID-4711", "19700131", "1970-01-31", "bonexray_c2VjcmV0IHRva2Vu")


def test_fields_of_their_form_pass_as_they_are():
    assert clean(SOUND) == SOUND
    assert list(clean(SOUND)) == list(SOUND)


@pytest.mark.parametrize("text", PHI)
def test_no_field_passes_a_patients_data(text):
    # The names of clients and versions are given by who runs the server, and look like anything.
    names = set(SOUND) - {"client", "version"} | {"patient", text}
    assert text not in str(clean(dict.fromkeys(names, text)))


@given(
    name=st.sampled_from(sorted(SOUND)) | st.text(),
    value=st.text() | st.binary() | st.lists(st.text()) | st.floats() | st.none() | st.booleans(),
)
def test_whatever_is_told_is_short_and_of_plain_characters(name, value):
    for told in clean({name: value}).values():
        if isinstance(told, str):
            assert len(told) <= 160
            assert told.isascii()
            assert told.isprintable()
        else:
            assert math.isfinite(told)


@pytest.mark.parametrize("value", [math.nan, math.inf, "7", True, None, [7]])
def test_a_number_that_is_none_is_left_out(value):
    assert clean({"views": value, "total_ms": value}) == {}


def test_every_route_and_call_that_is_offered_is_one_that_is_told():
    models, gate = Models([]), cast(Gate, None)
    more = [*v1_routes(Rest(gate), models), *api_routes()]
    routes = build_app(models, gate, more, {}).routes
    assert {route.path for route in routes if isinstance(route, Route)} <= ROUTES
    calls = {name for name in vars(Servicer) if name[0].isupper()}
    assert calls
    assert calls <= ROUTES


def test_what_is_no_route_status_or_method_of_ours_is_other():
    assert route_of("/v2/models/DOE^JANE/infer") == OTHER
    assert all(route_of(route) == route for route in ROUTES)
    assert [status_of(status) for status in (200, 499, 42, "INTERNAL", "DOE")] == [
        *("200", "499", OTHER, "INTERNAL", OTHER)
    ]
    assert clean({"method": "DOE", "status": "DOE"}) == {"method": OTHER, "status": OTHER}
