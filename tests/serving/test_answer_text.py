import json
from typing import get_args

from serving.answer_text import as_document, in_words, plain, render
from serving.answers import Origin, StudyReading, ViewReading
from serving.dicom.refusal import DicomRefusal

ORIGIN = Origin(
    answer_id="1a2b3c4d5e6f7081-0123456789abcdef0123456789abcdef",
    trace_id="c" * 32,
    model_version="3",
    bundle_digest="1a2b3c4d5e6f" + "0" * 52,
    precision="int8",
    negative_below=0.31,
    positive_from=0.72,
    queue_ms=0.26,
    decode_ms=12.0,
    infer_ms=18.34,
    total_ms=33.1,
    round_trip_ms=41.26,
    disclaimer="Research use only.",
)


def view(**values):
    said = {
        "probability": 0.912,
        "category": ("positive", "positive"),
        "claimed_part": "",
        "body_part": "XR_WRIST",
        "refusal": "",
        "note": "",
        "sha256": "1" * 64,
        "instance_uid": "",
        "heatmap": b"PNG",
    }
    return ViewReading(**said | values)


READING = StudyReading(
    verdict="doubtful",
    probability=0.5125,
    category=("positive", "negative"),
    body_part="XR_WRIST",
    refusal="",
    views=(
        view(claimed_part="XR_WRIST"),
        view(probability=0.713, body_part="XR_HUMERUS", refusal="other_part"),
        view(probability=-1.0, body_part="", refusal="colour"),
    ),
    origin=ORIGIN,
)
NAMES = ["image1.png", "image10.png", "IM3"]

RENDERED = """\
verdict      doubtful
labelled     abnormal
abnormal     0.512  (negative below 0.310, positive from 0.720)
category     positive at high sensitivity, negative at high specificity
body part    XR_WRIST

  view         said to show  looks like  abnormal
  image1.png   XR_WRIST      XR_WRIST       0.912
  image10.png  -             XR_HUMERUS         -  not read: of another body part than it is said \
to show
  IM3          -             -                  -  not read: PhotometricInterpretation: expected \
MONOCHROME1 or MONOCHROME2 of one sample

model        version 3, bundle 1a2b3c4d5e6f, int8
answer       1a2b3c4d5e6f7081-0123456789abcdef0123456789abcdef
             python -m serving.release trace ANSWER_ID says where it comes from
time         41.3 ms round trip, 33.1 at the server
             0.3 waiting; summed over the views, 12.0 decoding and 18.3 in the network

Research use only."""


def test_a_reading_is_laid_out_for_a_person():
    assert render(READING, NAMES, truth="abnormal") == RENDERED


def test_the_label_is_left_out_where_it_is_not_known():
    assert "labelled" not in render(READING, NAMES)


def test_a_study_that_is_not_analysed_is_told_why_and_without_a_probability():
    study = READING.model_copy(update={"verdict": "not_analysed", "refusal": "mixed"})
    lines = render(study, NAMES).splitlines()
    assert lines[0] == "verdict      not analysed"
    assert lines[1].startswith("because      no view could be read")
    assert lines[2].startswith("abnormal     -  (")
    assert not any(line.startswith("category") for line in lines)


def test_every_refusal_has_words_and_one_of_a_later_server_is_told_as_it_is():
    for code in ("unlike", "other_part", "mixed", *get_args(DicomRefusal)):
        assert " " in in_words(code)
    assert in_words("too_tilted") == "too_tilted"
    assert in_words("") == ""


def test_a_note_stands_behind_a_view_that_was_read_and_no_other():
    noted = (
        view(note="no_window"),
        view(note="of_a_later_server"),
        view(note="no_window", refusal="unlike"),
    )
    rows = render(READING.model_copy(update={"views": noted}), NAMES).splitlines()[6:9]
    assert rows[0].endswith("0.912  note: the file says no window; its greys were spread")
    assert rows[1].endswith("0.912  note: of_a_later_server")
    assert rows[2].endswith("-  not read: unlike the limb radiographs it learned from")


def test_a_name_that_a_terminal_would_act_on_is_shown_harmless():
    text = render(READING, ["a\x1b[31m.png", "b\n.png", "c\udcff.png"])
    assert "  a?[31m.png" in text
    assert "  b?.png" in text
    assert "  c?.png" in text
    assert plain("Handgelenk-Ü.png") == "Handgelenk-Ü.png"


def test_a_script_gets_every_view_by_its_file_and_no_probability_as_null():
    document = json.loads(json.dumps(as_document(READING, "wrist", NAMES)))
    assert document["study"] == "wrist"
    assert [each["file"] for each in document["views"]] == NAMES
    assert [each["probability"] for each in document["views"]] == [0.912, 0.713, None]
    assert document["category"] == ["positive", "negative"]
    assert document["origin"]["bundle_digest"] == ORIGIN.bundle_digest
    assert all("heatmap" not in each for each in document["views"])
