"""The V1 protocol says of a study what v2 says of it."""

import base64

import pytest


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def predict(server, instances):
    return server.post("/v1/models/bonexray:predict", json={"instances": instances})


def test_an_instance_is_a_study_and_told_as_by_v2(server, png):
    instances = [
        {"views": [b64(png(60)), b64(png(200))], "body_part": "XR_ELBOW"},
        b64(png(100)),
    ]
    answer = predict(server, instances).json()
    alone = server.infer(png(60), png(200), parameters={"body_part": "XR_ELBOW"}).json()
    told = {output["name"]: output for output in alone["outputs"]}
    first, second = answer["predictions"]
    assert set(first) == set(told) - {"view_cam"}
    for name, value in first.items():
        data = told[name]["data"]
        if name.endswith("_category"):
            data = [data[at : at + 2] for at in range(0, len(data), 2)]
        assert value == (data[0] if name.startswith("study_") else data)
    assert second["view_refusal"] == [""]
    assert set(answer["parameters"]) == set(alone["parameters"])


@pytest.mark.parametrize(
    ("instances", "sentence"),
    [
        ([], "instances: expected a list of one study or more"),
        (None, "instances: expected a list"),
        (["MARKER"], "instances[0]: expected an object"),
        ([{}], "instances[0].views: expected a list"),
        ([{"views": []}], "instances[0].views: expected a list"),
        ([{"views": [{"b64": "MARKER!"}]}], "instances[0].views[0].b64: not base64"),
        ([{"views": [7]}], "instances[0].views[0].b64: not base64"),
        ([{**b64(b"x"), "body_part": 7}], "instances[0].body_part: expected a text"),
        ([{**b64(b"x"), "body_part": "MARKER"}], "body_part[0]: expected one of XR_ELBOW"),
        ([b64(b"MARKER")], "view 1: 6 bytes that are neither PNG nor JPEG"),
    ],
)
def test_a_bad_instance_is_told_by_its_place(server, instances, sentence):
    response = predict(server, instances)
    assert response.status_code == 400
    assert response.json()["error"].startswith(sentence)
    assert "MARKER" not in response.text


def test_the_model_is_listed_and_ready(server):
    assert server.get("/v1/models").json() == {"models": ["bonexray"]}
    assert server.get("/v1/models/bonexray").json() == {"name": "bonexray", "ready": True}
    assert server.get("/v1/models/other").status_code == 404
