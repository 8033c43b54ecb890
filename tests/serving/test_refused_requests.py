"""Requests that are not answered, and what they are told."""

import base64
import json
import re

import httpx
import pytest

from tests.serving.live import INFER, tensor

MARKER = "PATIENT-NAME-MARKER"
TEXT = base64.b64encode(f"text: {MARKER}".encode()).decode()


def with_input(**fields):
    return {"inputs": [tensor(**fields)]}


BAD_REQUESTS = {
    "no inputs field": ({}, "inputs: expected a list of objects"),
    "inputs is text": ({"inputs": MARKER}, "inputs: expected a list of objects"),
    "no tensor": ({"inputs": []}, "inputs: no tensor 'image'"),
    "two tensors of a name": (
        {"inputs": [tensor(), tensor()]},
        r"inputs\[1\].name: image a second time",
    ),
    "no datatype": ({"inputs": [{"name": "image"}]}, r"inputs\[0\].datatype: expected a text"),
    "no data field": (
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]},
        r"inputs\[0\].data: expected a list",
    ),
    "empty data": (with_input(data=[]), "image: 0 views, expected 1 to 16"),
    "too many views": (with_input(data=["AAAA"] * 17), "image: 17 views, expected 1 to 16"),
    "another name": (
        with_input(name=MARKER),
        r"inputs\[0\].name: expected one of image, study, body_part",
    ),
    "another datatype": (
        with_input(datatype="FP32", data=[1.0]),
        r"inputs\[0\].datatype: expected BYTES",
    ),
    "a datatype that there is not": (
        with_input(datatype=MARKER),
        r"inputs\[0\].datatype: expected one of BOOL, ",
    ),
    "a shape that is not the data's": (
        with_input(shape=[3]),
        r"inputs\[0\]: 1 elements of data, expected 3 by its shape",
    ),
    "a negative shape": (with_input(shape=[-1]), r"inputs\[0\].shape: a negative length"),
    "a shape of two dimensions": (with_input(shape=[1, 1]), r"inputs\[0\].shape: expected \[-1\]"),
    "a shape beyond all measure": (
        with_input(shape=[2**62, 2**62]),
        r"inputs\[0\].shape: more than 2,147,483,647 elements",
    ),
    "a parameter that is a list": (with_input(parameters={MARKER: []}), r"inputs\[0\].parameters"),
    "a view that is a number": (
        with_input(data=["AAAA", 7]),
        r"inputs\[0\].data\[1\]: not base64",
    ),
    "a view that is not base64": (with_input(data=[MARKER]), r"inputs\[0\].data\[0\]: not base64"),
    "a view that is not ASCII": (
        with_input(data=["é" + MARKER]),
        r"inputs\[0\].data\[0\]: not base64",
    ),
    "text in place of an image": (with_input(data=[TEXT]), "view 1: .* neither PNG nor JPEG"),
    "a body part that there is not": (
        {"inputs": [tensor()], "parameters": {"body_part": MARKER}},
        "parameters.body_part: expected one of XR_ELBOW",
    ),
    "a body part that is a number": (
        {"inputs": [tensor()], "parameters": {"body_part": 3}},
        "parameters.body_part: expected one of XR_ELBOW",
    ),
    "two body parts for one study": (
        {"inputs": [tensor(), tensor(name="body_part", data=["XR_HAND"] * 2)]},
        "body_part: 2 body parts, expected one for each of 1 studies",
    ),
    "a study number for each but one": (
        {"inputs": [tensor(data=["AAAA"] * 2), tensor(name="study", datatype="INT32", data=[0])]},
        "study: expected the number of each view's study, 2 numbers from 0 on",
    ),
    "a study number that is left out": (
        {
            "inputs": [
                tensor(data=["AAAA"] * 2),
                tensor(name="study", datatype="INT32", data=[0, 2]),
            ]
        },
        "study: expected the number of each view's study, 2 numbers from 0 on",
    ),
    "no time": (
        {"inputs": [tensor()], "parameters": {"timeout": 0}},
        "parameters.timeout: expected a number of microseconds above 0",
    ),
    "an unknown output": (
        {"inputs": [tensor()], "outputs": [{"name": MARKER}]},
        r"outputs\[0\].name: expected one of study_probability",
    ),
    "an output named twice": (
        {"inputs": [tensor()], "outputs": [{"name": "view_cam"}] * 2},
        "outputs: one is named a second time",
    ),
    "a list": ([MARKER], "body: not a JSON object"),
    "a text": (MARKER, "body: not a JSON object"),
}


def error_of(response):
    body = response.json()
    assert list(body) == ["error"]
    return body["error"]


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_told_in_one_sentence(server, case):
    body, sentence = BAD_REQUESTS[case]
    response = server.post(INFER, json=body)
    assert response.status_code == 400
    assert re.match(sentence, error_of(response))


def test_a_truncated_png_is_told_by_its_number(server, png):
    response = server.infer(png(60), png(130, noise=60)[:-200])
    assert response.status_code == 400
    assert error_of(response).startswith("view 2: ")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"inputs": [', "body: not JSON, at character 12"),
        (b"", "body: not JSON, at character 0"),
        (b'"\xff"', "body: not JSON"),
        (b"[" * 9_000, "body: not JSON"),
        (b"[" * 100_000, "body: more than 1,000,000 values or 10,000 lists"),
        (b'{"a": [' + b"0," * 1_000_001 + b"0]}", "body: more than 1,000,000 values"),
    ],
)
def test_a_body_that_is_not_json_is_told(server, content, sentence):
    response = server.post(INFER, content=content)
    assert response.status_code == 400
    assert sentence in error_of(response)


def test_an_answer_that_the_client_would_not_wait_for_is_not_made(server, png):
    slow = [png(200, side_px=3000)] * 8
    response = server.infer(*slow, parameters={"timeout": 1000})
    assert response.status_code == 504
    assert "the deadline came" in error_of(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/repository/models/bonexray/unload", 404),
        ("POST", "/v2/repository/models/bonexray/load", 404),
        ("POST", "/v2/models/bonexray/versions/4/infer", 404),
        ("GET", "/v2/models/bonexray/versions/4/ready", 404),
        ("POST", "/v1/models/other:predict", 404),
        ("GET", "/v2/models/bonexray/infer", 405),
    ],
)
def test_what_is_not_there_is_told_as_such(server, method, path, status):
    body = {"json": with_input()} if method == "POST" else {}
    response = httpx.request(method, server.url + path, trust_env=False, **body)
    assert response.status_code == status
    assert error_of(response)


def test_nothing_of_a_request_reaches_an_error_or_the_servers_output(start_server):
    server = start_server()
    for body, _ in BAD_REQUESTS.values():
        assert MARKER not in server.post(INFER, json=body).text
    broken = json.dumps(with_input(data=[MARKER])).encode()[:-3]
    headers = {"Content-Type": "application/json"}
    assert MARKER not in server.post(INFER, content=broken, headers=headers).text
    assert server.stop() == (0, "")
