"""What a server says of studies."""

import base64
import hashlib
import json
import re
from io import BytesIO

import httpx
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from bonexray.analysis import judge_study, open_network, run_network
from tests.serving.live import INFER, outputs_of, tensor
from tests.small_bundle import network_input


def test_the_ready_line_names_what_is_served(server, store):
    digest = store.champion().digest[:12]
    expected = f"bonexray version 3 (digest {digest}) is ready on http://127.0.0.1:"
    assert server.ready_line.startswith(expected)
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get("/v2/models/bonexray/ready").json() == {"name": "bonexray", "ready": True}


def test_the_metadata_names_version_and_tensors(server):
    metadata = server.get("/v2/models/bonexray").json()
    assert metadata["versions"] == ["3"]
    assert metadata["inputs"][0] == {"name": "image", "datatype": "BYTES", "shape": [-1]}
    names = [output["name"] for output in metadata["outputs"]]
    assert names[:2] == ["study_probability", "study_verdict"]
    assert server.get("/v2").json()["extensions"] == ["binary_tensor_data"]


def test_the_served_probability_is_the_pure_functions_and_the_networks(server, store, png):
    views = [png(90, noise=30), png(170, noise=30)]
    served = outputs_of(server.infer(*views))

    bundle = store.open(store.champion().digest)
    images = network_input(views, bundle.info.image)
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
    assert 0 < said["decode_ms"] + said["infer_ms"] <= said["total_ms"]
    assert (said["precision"], said["preprocessing"]) == ("fp32", 1)


def test_no_two_answers_have_the_same_name(server, png):
    answers = [server.infer(png(60), id="study-1").json()["parameters"] for _ in range(2)]
    assert answers[0]["answer_id"] != answers[1]["answer_id"]


def test_studies_are_counted_for_prometheus(server, png):
    server.infer(png(60))
    told = httpx.get(server.metrics, trust_env=False).text
    assert 'bonexray_verdicts_total{verdict="negative"}' in told
    assert server.get("/metrics").status_code == 404  # a port of its own


def test_only_the_outputs_that_were_asked_for_are_sent(server, png):
    wanted = [{"name": "view_sha256"}, {"name": "study_verdict"}]
    outputs = outputs_of(server.infer(png(60), outputs=wanted))
    assert list(outputs) == ["view_sha256", "study_verdict"]
    assert outputs["view_sha256"]["data"] == [hashlib.sha256(png(60)).hexdigest()]


def test_a_request_in_the_dress_of_a_cloud_event_gets_a_plain_answer(server, png):
    headers = {"ce-id": "1", "ce-source": "x", "ce-type": "x", "ce-specversion": "1.0"}
    data = [base64.b64encode(png(60)).decode()]
    response = server.post(INFER, json={"inputs": [tensor(data=data)]}, headers=headers)
    assert response.status_code == 200
    assert outputs_of(response)["study_verdict"]["data"] == ["negative"]


def test_a_view_can_be_sent_as_the_bytes_that_it_is(server, png):
    view = png(60)
    blob = len(view).to_bytes(4, "little") + view
    head = {"name": "image", "datatype": "BYTES", "shape": [1]}
    head |= {"parameters": {"binary_data_size": len(blob)}}
    wanted = {"name": "study_probability", "parameters": {"binary_data": True}}
    text = json.dumps({"inputs": [head], "outputs": [wanted]}).encode()
    length = {"Inference-Header-Content-Length": str(len(text))}
    response = server.post(INFER, content=text + blob, headers=length)
    told = response.content[int(response.headers["Inference-Header-Content-Length"]) :]
    as_json = outputs_of(server.infer(view))["study_probability"]["data"]
    assert np.frombuffer(told, "<f8").tolist() == as_json


def test_several_studies_are_read_as_if_each_had_been_sent_alone(server, png):
    views, study_of = [png(60), png(200), png(100), png(90)], [1, 0, 1, 2]
    parts = ["XR_WRIST", "", "XR_ELBOW"]
    tensors = [
        tensor(data=[base64.b64encode(view).decode() for view in views]),
        tensor(name="study", datatype="INT32", data=study_of),
        tensor(name="body_part", data=parts),
    ]
    together = outputs_of(server.post(INFER, json={"inputs": tensors}))
    for study, part in enumerate(parts):
        own = [at for at, owner in enumerate(study_of) if owner == study]
        claim = {"parameters": {"body_part": part}} if part else {}
        alone = outputs_of(server.infer(*(views[at] for at in own), **claim))
        for name, output in alone.items():
            rows = np.array(together[name]["data"]).reshape(together[name]["shape"])
            expected = np.array(output["data"]).reshape(output["shape"])
            mine = rows[study : study + 1] if name.startswith("study_") else rows[own]
            assert np.array_equal(mine, expected), name


def test_a_study_is_told_at_both_operating_points(server, png):
    for level, verdict, category in [
        (60, "negative", ["negative", "negative"]),
        (127, "doubtful", ["positive", "negative"]),
        (200, "positive", ["positive", "positive"]),
        (255, "not_analysed", ["not_analysed", "not_analysed"]),
    ]:
        told = outputs_of(server.infer(png(level)))
        assert told["study_verdict"]["data"] == [verdict]
        assert told["study_category"]["data"] == category
        assert told["study_refusal"]["data"] == ["unlike" if level == 255 else ""]


def test_a_heatmap_is_a_picture_with_the_views_aspect_and_comes_on_request_only(server):
    file = BytesIO()
    Image.new("L", (120, 60), 200).save(file, "PNG")
    assert "view_heatmap" not in outputs_of(server.infer(file.getvalue()))
    told = outputs_of(server.infer(file.getvalue(), outputs=[{"name": "view_heatmap"}]))
    picture = Image.open(BytesIO(base64.b64decode(told["view_heatmap"]["data"][0])))
    assert (picture.mode, picture.width / picture.height) == ("RGBA", 2)
