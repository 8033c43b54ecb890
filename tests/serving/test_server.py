import base64
import json
import re

import httpx
import numpy as np
import onnxruntime
import pytest

from bonexray.analysis import judge_study, open_network, read_views, run_network

INFER = "/v2/models/bonexray/infer"
MARKER = "PATIENT-NAME-MARKER"
TEXT = base64.b64encode(f"text: {MARKER}".encode()).decode()


def tensor(**fields):
    data = fields.setdefault("data", ["AAAA"])
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], **fields}


def with_input(**fields):
    return {"inputs": [tensor(**fields)]}


BAD_REQUESTS = {
    "no inputs field": ({}, "inputs: "),
    "inputs is text": ({"inputs": MARKER}, "inputs: "),
    "no tensor": ({"inputs": []}, "inputs: 0 tensors"),
    "two tensors": ({"inputs": [tensor(), tensor()]}, "inputs: 2 tensors"),
    "no data field": ({"inputs": [{"name": "image"}]}, r"inputs\[0\]."),
    "empty data": (with_input(data=[]), r"inputs\[0\].data: 0 views"),
    "too many views": (
        with_input(data=["AAAA"] * 17),
        r"inputs\[0\].data: 17 views, expected 1 to 16",
    ),
    "another name": (with_input(name=MARKER), r"inputs\[0\].name"),
    "another datatype": (with_input(datatype="FP32"), r"inputs\[0\].datatype"),
    "a datatype the SDK refuses": (with_input(datatype="FP16", name=MARKER), "not a request"),
    "a shape that is not the data's": (with_input(shape=[3]), r"inputs\[0\].shape: expected \[1\]"),
    "a negative shape": (with_input(shape=[-1]), r"inputs\[0\].shape"),
    "a shape of two dimensions": (with_input(shape=[1, 1]), r"inputs\[0\].shape"),
    "another content type": (
        with_input(parameters={"content_type": MARKER}),
        r"inputs\[0\].parameters.content_type: expected 'base64'",
    ),
    "a parameter that is a list": (with_input(parameters={MARKER: []}), r"inputs\[0\].parameters"),
    "a view that is a number": (with_input(data=["AAAA", 7]), "view 2: not base64"),
    "a view that is not base64": (with_input(data=[MARKER]), "view 1: not base64"),
    "a view that is not ASCII": (with_input(data=["é" + MARKER]), "view 1: not base64"),
    "text in place of an image": (with_input(data=[TEXT]), "view 1: .* neither PNG nor JPEG"),
    "a body part that there is not": (
        {"inputs": [tensor()], "parameters": {"body_part": MARKER}},
        "parameters.body_part: expected one of XR_ELBOW",
    ),
    "a body part that is a number": (
        {"inputs": [tensor()], "parameters": {"body_part": 3}},
        "parameters.body_part: expected one of XR_ELBOW",
    ),
    "an unknown output": (
        {"inputs": [tensor()], "outputs": [{"name": MARKER}]},
        r"outputs\[0\].name: expected one of study_probability",
    ),
    "a list": ([MARKER], "body: "),
    "a text": (MARKER, "body: expected JSON"),
}


def outputs_of(response):
    return {output["name"]: output for output in response.json()["outputs"]}


def error_of(response):
    body = response.json()
    assert list(body) == ["error"]
    return body["error"]


def test_the_ready_line_names_what_is_served(server, store):
    digest = store.champion().digest[:12]
    expected = f"bonexray version 3 (digest {digest}) is ready on http://127.0.0.1:"
    assert server.ready_line.startswith(expected)
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2/models/bonexray/ready").json() == {"name": "bonexray", "ready": True}


def test_the_metadata_names_version_and_tensors(server):
    metadata = server.get("/v2/models/bonexray").json()
    assert metadata["versions"] == ["3"]
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    names = [output["name"] for output in metadata["outputs"]]
    assert names[:2] == ["study_probability", "study_verdict"]
    assert server.get("/v2").json()["extensions"] == []


def test_the_served_probability_is_the_pure_functions_and_the_networks(server, store, png):
    views = [png(90, noise=30), png(170, noise=30)]
    served = outputs_of(server.infer(*views))

    bundle = store.open(store.champion().digest)
    images = read_views(views, bundle.info.image)
    study = judge_study(run_network(open_network(bundle, threads=1), images), bundle, [None, None])
    assert served["study_probability"]["data"] == [study.study_probability]
    assert served["study_verdict"]["data"] == [study.study_verdict]
    assert served["view_probability"]["data"] == study.view_probabilities.tolist()
    assert served["view_body_part"]["data"] == list(study.view_body_parts)
    assert served["view_cam"]["shape"] == [2, 4, 4]
    cams = np.array(served["view_cam"]["data"], np.float32).reshape(2, 4, 4)
    assert np.array_equal(cams, study.view_cams)

    session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
    logits = session.run(["logit"], {"image": images})[0].astype(np.float64)
    direct = 1 / (1 + np.exp(-logits / bundle.info.calibration.view))
    assert served["view_probability"]["data"] == pytest.approx(direct, abs=1e-7)


def test_a_study_of_two_views_is_told_their_mean(server, png, expected_probability):
    served = outputs_of(server.infer(png(60), png(200)))
    expected = [expected_probability(60), expected_probability(200)]
    assert served["view_probability"]["data"] == pytest.approx(expected, abs=1e-6)
    assert served["study_probability"]["data"][0] == pytest.approx(np.mean(expected), abs=1e-6)


def test_a_view_that_is_not_what_it_is_said_to_be_is_not_read_and_told_why(server, png):
    bright = png(200)  # told to be a wrist
    as_claimed = outputs_of(server.infer(bright, parameters={"body_part": "XR_WRIST"}))
    assert as_claimed["view_refusal"]["data"] == [""]
    assert as_claimed["study_verdict"]["data"] == ["positive"]
    otherwise = outputs_of(server.infer(bright, parameters={"body_part": "XR_ELBOW"}))
    assert otherwise["view_refusal"]["data"] == ["other_part"]
    assert otherwise["study_verdict"]["data"] == ["not_analysed"]


def test_a_view_unlike_any_limb_is_left_out_of_its_study(server, png, expected_probability):
    served = outputs_of(server.infer(png(60), png(255)))
    assert served["view_refusal"]["data"] == ["", "unlike"]
    assert served["study_probability"]["data"][0] == pytest.approx(
        expected_probability(60), abs=1e-6
    )


def test_an_answer_says_where_it_comes_from_and_what_it_took(server, store, png):
    answer = server.infer(png(60), id="study-1").json()
    said = answer["parameters"]
    assert (answer["id"], answer["model_name"]) == ("study-1", "bonexray")
    assert answer["model_version"] == said["model_version"] == "3"
    assert said["bundle_digest"] == store.champion().digest
    assert re.fullmatch(rf"{said['bundle_digest'][:16]}-[0-9a-f]{{32}}", said["answer_id"])
    assert (said["negative_below"], said["positive_from"]) == (0.4, 0.6)
    assert said["disclaimer"].startswith("Research use only; not a medical device.")
    assert 0 < said["decode_ms"] + said["inference_ms"] <= said["total_ms"]


def test_no_two_answers_have_the_same_name(server, png):
    answers = [server.infer(png(60), id="study-1").json()["parameters"] for _ in range(2)]
    assert answers[0]["answer_id"] != answers[1]["answer_id"]


def test_studies_are_counted_for_prometheus(server, png):
    server.infer(png(60))
    assert 'request_predict_seconds_count{model_name="bonexray"}' in server.get("/metrics").text


def test_only_the_outputs_that_were_asked_for_are_sent(server, png):
    wanted = [{"name": "study_verdict", "parameters": {"binary_data": True}}]
    assert list(outputs_of(server.infer(png(60), outputs=wanted))) == ["study_verdict"]


def test_a_request_in_the_dress_of_a_cloud_event_gets_a_plain_answer(server, png):
    headers = {"ce-id": "1", "ce-source": "x", "ce-type": "x", "ce-specversion": "1.0"}
    data = [base64.b64encode(png(60)).decode()]
    response = server.post(INFER, json=with_input(data=data), headers=headers)
    assert response.status_code == 200
    assert outputs_of(response)["study_verdict"]["data"] == ["negative"]


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
        (b'{"inputs": [', "body: not JSON"),
        (b"", "body: field required"),
        (b'"\xff"', "There was an error parsing the body"),
        (b"[" * 100_000, "There was an error parsing the body"),
    ],
)
def test_a_body_that_is_not_json_is_told(server, content, sentence):
    response = server.post(INFER, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert sentence in error_of(response)


def test_a_body_that_is_not_called_json_is_told(server):
    response = server.post(INFER, content=b"{}", headers={"Content-Type": "text/plain"})
    assert response.status_code == 400
    assert "Content-Type: application/json" in error_of(response)


def test_binary_tensors_are_told_to_come_as_json(server, png):
    head = json.dumps(with_input(parameters={"binary_data_size": 4})).encode()
    for content_type in ("application/json", "application/octet-stream"):
        response = server.post(
            INFER,
            content=head + png(60),
            headers={
                "Inference-Header-Content-Length": str(len(head)),
                "Content-Type": content_type,
            },
        )
        assert response.status_code == 400
        assert "send JSON, with each view as base64" in error_of(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/repository/models/bonexray/unload", 404),
        ("POST", "/v2/repository/models/bonexray/load", 404),
        ("POST", "/v1/models/bonexray:predict", 404),
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
