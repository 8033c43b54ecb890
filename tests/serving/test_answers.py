import json

import numpy as np
import orjson
import pytest

from serving.answers import OUTPUTS, read_answer
from serving.oip.errors import RequestError
from serving.oip.tensors import Tensor, to_raw

PARAMETERS = {
    "answer_id": "a" * 16 + "-" + "b" * 32,
    "trace_id": "c" * 32,
    "model_version": "3",
    "bundle_digest": "1a2b3c4d5e6f" + "0" * 52,
    "precision": "fp32",
    "negative_below": 0.31,
    "positive_from": 0.72,
    "queue_ms": 0.5,
    "decode_ms": 12.0,
    "infer_ms": 18.34,
    "total_ms": 33,
    "disclaimer": "Research use only.",
    "of_a_later_server": True,
}
PAIR = [b"positive", b"negative"]
COLUMNS = {
    "study_verdict": [b"doubtful", b"not_analysed"],
    "study_probability": [0.5, -1.0],
    "study_category": [PAIR, [b"not_analysed", b"not_analysed"]],
    "study_body_part": [b"XR_WRIST", b""],
    "study_refusal": [b"", b"colour"],
    "view_probability": [0.25, -1.0, 0.75],
    "view_category": [PAIR, PAIR, PAIR],
    "view_claimed_part": [b"", b"XR_ELBOW", b""],
    "view_body_part": [b"XR_WRIST", b"", b"XR_HAND"],
    "view_refusal": [b"", b"colour", b""],
    "view_note": [b"no_window", b"", b""],
    "view_sha256": [b"1" * 64, b"2" * 64, b"3" * 64],
    "view_instance_uid": [b"", b"1.2.3", b""],
    "view_heatmap": [b"\x89PNG 1", b"", b"\x89PNG 3"],
}
STUDY_OF = [0, 1, 0]


def written(columns=COLUMNS, parameters=PARAMETERS):
    """The body of an answer, and the length of its JSON."""
    tensors = []
    for name, rows in columns.items():
        if isinstance(rows[0], float):
            array = np.array(rows)
            tensors.append(Tensor(name=name, datatype="FP64", shape=array.shape, values=array))
            continue
        pairs = isinstance(rows[0], list)
        flat = [element for row in rows for element in row] if pairs else rows
        shape = (len(rows), 2) if pairs else (len(rows),)
        tensors.append(Tensor(name=name, datatype="BYTES", shape=shape, values=flat))
    blobs = [to_raw(tensor) for tensor in tensors]
    outputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
            "parameters": {"binary_data_size": len(blob)},
        }
        for tensor, blob in zip(tensors, blobs, strict=True)
    ]
    head = orjson.dumps({"model_name": "bonexray", "parameters": parameters, "outputs": outputs})
    return b"".join([head, *blobs]), str(len(head))


def test_each_view_is_told_with_its_own_study():
    first, second = read_answer(*written(), STUDY_OF, 41.26)
    assert [view.sha256[0] for view in first.views] == ["1", "3"]
    assert [view.heatmap for view in first.views] == [b"\x89PNG 1", b"\x89PNG 3"]
    assert (first.verdict, first.probability) == ("doubtful", 0.5)
    assert first.category == ("positive", "negative")
    assert second.views[0].claimed_part == "XR_ELBOW"
    assert second.refusal == "colour"
    assert first.origin == second.origin
    assert (first.origin.total_ms, first.origin.round_trip_ms) == (33, 41.26)


def test_minus_one_is_no_probability():
    _, refused = read_answer(*written(), STUDY_OF, 1)
    assert refused.probability is None
    assert refused.views[0].probability is None


def test_heatmaps_that_were_not_asked_for_are_empty():
    columns = {name: COLUMNS[name] for name in OUTPUTS}
    assert read_answer(*written(columns), STUDY_OF, 1)[0].views[0].heatmap == b""


def test_a_reading_is_documented_without_its_heatmaps():
    document = json.loads(read_answer(*written(), STUDY_OF, 1)[1].model_dump_json())
    assert document["probability"] is None
    assert "heatmap" not in document["views"][0]


def without(name):
    return {key: value for key, value in COLUMNS.items() if key != name}


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"<html>", None),
        (b"[]", None),
        (b"{}", None),
        (b'{"outputs": []}', None),
        (b'{"outputs": [], "parameters": {}}', None),
        (b'{"outputs": [7], "parameters": {}}', "31"),
        (written()[0], "many"),
        (written()[0], "10"),
        (written()[0][:-8], written()[1]),
        written(COLUMNS | {"view_probability": [0.25, 0.5, 7.0]}),
        written(COLUMNS | {"study_probability": [0.5, float("nan")]}),
        written(COLUMNS | {"view_sha256": [b"1", b"2"]}),
        written(COLUMNS | {"view_refusal": [b"\xff", b"", b""]}),
        written(without("view_category")),
        written(without("study_verdict")),
        written(parameters=PARAMETERS | {"negative_below": "low"}),
        written(parameters={"answer_id": "1"}),
        written(parameters=PARAMETERS | {"disclaimer": "a\x1b[31m"}),
        written(parameters=PARAMETERS | {"model_version": "3\n4"}),
        written(COLUMNS | {"study_verdict": [b"doubtful\x1b]0;x\x07", b"not_analysed"]}),
        written(COLUMNS | {"view_category": [[b"\r", b""], PAIR, PAIR]}),
        written(without("study_verdict") | {7: [b"", b""]}),
    ],
)
def test_what_is_no_answer_of_ours_is_refused(body, length):
    with pytest.raises((ValueError, LookupError, TypeError, RequestError)):
        read_answer(body, length, STUDY_OF, 1)


def test_an_answer_about_fewer_studies_than_were_asked_about_is_refused():
    with pytest.raises(ValueError, match="expected 3 rows"):
        read_answer(*written(), [0, 1, 2], 1)
