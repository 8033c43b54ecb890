"""A DICOM study, sent to a server: read, refused view by view, and never repeated."""

import json

import httpx
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.serving.dicom.files import dicom, radiograph, relabelled
from tests.serving.live import INFER, outputs_of

PHI = ("Doe^Jane", "DOE^JANE", "4711", "19700102")
NAMES = {"PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "19700102"}
SOFT = radiograph(96, 96, top=1500)


def one(server, data, **fields):
    return outputs_of(server.infer(data, **fields))


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless],
)
def test_equal_pixels_in_another_encoding_get_the_same_probability(server, syntax):
    plain = one(server, dicom(SOFT, ExplicitVRLittleEndian))
    other = one(server, dicom(SOFT, syntax))
    difference = plain["view_probability"]["data"][0] - other["view_probability"]["data"][0]
    assert abs(difference) <= 0.001
    assert other["view_refusal"]["data"] == plain["view_refusal"]["data"]


def test_the_body_part_of_the_header_counts_where_the_request_says_none(server):
    for header, claimed, refusal in [
        ("ELBOW", "XR_ELBOW", ""),
        ("WRIST", "XR_WRIST", "other_part"),
        ("CHEST", "other", "other_part"),
        ("EXTREMITY", "", ""),
    ]:
        told = one(server, dicom(SOFT, BodyPartExamined=header))
        assert told["view_claimed_part"]["data"] == [claimed]
        assert told["view_refusal"]["data"] == [refusal]
    told = one(server, dicom(SOFT, BodyPartExamined="CHEST"), parameters={"body_part": "XR_ELBOW"})
    assert told["view_claimed_part"]["data"] == ["XR_ELBOW"]
    assert told["study_verdict"]["data"] != ["not_analysed"]


def test_a_view_outside_of_the_use_is_left_out_and_its_study_goes_on(server):
    good = dicom(SOFT, BodyPartExamined="ELBOW")
    burned = dicom(SOFT, BurnedInAnnotation="YES")
    told = outputs_of(server.infer(burned, good))
    assert told["view_refusal"]["data"] == ["burned_in_text", ""]
    assert told["view_probability"]["data"][0] == -1
    assert told["view_instance_uid"]["data"][1] == "1.2.3.4"
    alone = one(server, good)
    assert told["study_probability"]["data"] == alone["study_probability"]["data"]
    refused = outputs_of(server.infer(burned, dicom(SOFT, NumberOfFrames=2)))
    assert refused["study_verdict"]["data"] == ["not_analysed"]
    assert refused["study_refusal"]["data"] == ["mixed"]
    assert refused["study_category"]["data"] == ["not_analysed", "not_analysed"]


def test_a_view_without_a_window_says_so(server):
    plain = dicom(SOFT, WindowCenter=None, WindowWidth=None)
    assert one(server, plain)["view_note"]["data"] == ["no_window"]
    assert one(server, dicom(SOFT))["view_note"]["data"] == [""]


def test_nothing_of_a_patient_comes_back_or_is_logged(start_server, tmp_path):
    server = start_server("--audit", tmp_path / "audit")
    sound = dicom(SOFT, **NAMES)
    cases = {
        "sound": (sound, 200),
        "refused": (dicom(SOFT, BurnedInAnnotation="YES", **NAMES), 200),
        "cut short": (sound[: len(sound) // 2], 400),
        "lying": (relabelled(sound, JPEG2000Lossless), 400),
        "header alone": (sound[:700], 400),
        "text": (b"Doe^Jane 4711 19700102", 400),
    }
    told = []
    for data, status in cases.values():
        answer = server.infer(data, parameters={"who": "Doe^Jane"})
        assert answer.status_code == status, answer.text
        told.append(answer.text + str(answer.headers))
    for path in ("/v2/models/Doe^Jane", "/Doe^Jane/4711?born=19700102"):
        told.append(server.get(path).text)
    headers = {"traceparent": "Doe^Jane", "tracestate": "a=4711", "X-Request-ID": "Doe^Jane"}
    body = json.dumps({"inputs": [{"name": "Doe^Jane", "datatype": "4711"}]})
    told.append(server.post(INFER, content=body, headers=headers).text)
    told.append(httpx.get(server.metrics, trust_env=False).text)
    assert server.stop() == (0, "")
    told.append(server.stderr.read_text())
    told += [path.read_text() for path in (tmp_path / "audit").glob("*.jsonl")]
    assert len(told) > len(cases) + 5
    for text in told:
        assert not [word for word in PHI if word in text]


def test_files_of_two_visits_are_not_one_study(server):
    first, second = (dicom(SOFT, StudyInstanceUID=uid) for uid in ("1.2.3", "1.2.4"))
    assert server.infer(first, first).status_code == 200
    mixed = server.infer(first, second)
    assert mixed.status_code == 400
    assert mixed.json()["error"].startswith("study 0: its DICOM files have 2 values of StudyInst")
    assert server.infer(first, dicom(SOFT, StudyInstanceUID=None)).status_code == 200
