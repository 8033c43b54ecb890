import io
import json
import logging
import subprocess
import sys
import threading
import warnings

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from bonexray.errors import ConfigError, ImageError
from serving.watch.logs import JsonLines, tell, tell_defect, tell_problem

PHI = ("DOE^JANE", "DOE", "PATIENT-ID-4711", "19700131", "bonexray_c2VjcmV0")
SENTENCE = " ".join(PHI)


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def assert_no_phi(text):
    assert [planted for planted in PHI if planted in text] == []


def test_an_event_is_one_line_of_json_with_its_fields(log_text):
    tell("request", client="pacs", route="/v2/models/{model_name}/infer", status=200, total_ms=3.5)
    (line,) = lines(log_text())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "event": "request",
        "client": "pacs",
        "route": "/v2/models/{model_name}/infer",
        "status": "200",
        "total_ms": 3.5,
    }


def test_no_field_of_an_event_repeats_what_it_must_not(log_text):
    tell("request", logging.ERROR, patient=SENTENCE, route=SENTENCE, code=SENTENCE, views=SENTENCE)
    assert_no_phi(log_text())
    assert lines(log_text())[0]["route"] == "other"


@pytest.mark.parametrize(
    "name", ["uvicorn.error", "grpc._cython", "onnxruntime", "PIL", "httpcore"]
)
def test_a_library_is_told_by_name_and_level_and_never_by_its_words(log_text, name):
    logger = logging.getLogger(name)
    logger.error("cannot read %s", SENTENCE)
    logger.warning(SENTENCE)
    logger.info(SENTENCE)
    try:
        raise ValueError(SENTENCE)
    except ValueError:
        logger.exception("of %s", SENTENCE, stack_info=True)
    told = lines(log_text())
    assert [(line["event"], line["logger"], line["level"]) for line in told] == [
        ("library", name, level) for level in ("ERROR", "WARNING", "ERROR")
    ]
    assert told[-1]["exception"] == "ValueError"
    assert told[-1]["meaning"] == "a library or the program failed"
    assert_no_phi(log_text())


def test_a_logger_that_is_named_for_a_patient_is_not_told(log_text):
    logging.getLogger("PIL.DOE^JANE").error("x")
    assert lines(log_text())[0]["logger"] == "unnamed"


def fail(depth, patient):
    if depth:
        fail(depth - 1, patient)
    try:
        raise KeyError(patient)
    except KeyError as error:
        raise ImageError(f"of {patient}") from error


def test_a_defect_is_told_by_types_and_places_and_not_by_values(log_text):
    try:
        fail(2, SENTENCE)
    except ImageError as error:
        tell_defect(error, trace_id="ab" * 16, route="ModelInfer")
    (line,) = lines(log_text())
    assert line["event"] == "defect"
    assert line["trace_id"] == "ab" * 16
    assert line["exception"] == "ImageError"
    assert line["causes"] == ["KeyError"]
    places = [place.split(":") for place in line["frames"]]
    assert [(file, function) for file, _, function in places][1:] == [
        ("watch/test_logs.py", "fail")
    ] * 3
    assert all(number.isdigit() for _, number, _ in places)
    assert_no_phi(log_text())


def test_a_defect_that_recursed_is_told_by_its_last_places(log_text):
    def recurse():
        recurse()

    try:
        recurse()
    except RecursionError as error:
        tell_defect(error)
    (line,) = lines(log_text())
    assert len(line["frames"]) == 40


def test_exceptions_that_cause_each_other_end(log_text):
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    tell_defect(one)
    assert len(lines(log_text())[0]["causes"]) == 8


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ConnectionResetError(SENTENCE), "the other side left"),
        (TimeoutError(SENTENCE), "waited too long"),
        (MemoryError(SENTENCE), "no memory is left"),
        (FileNotFoundError(2, "x", SENTENCE), "the system refused"),
        (
            UnicodeDecodeError("utf-8", SENTENCE.encode(), 0, 1, SENTENCE),
            "a library or the program failed",
        ),
        (SystemExit(SENTENCE), "ended"),
    ],
)
def test_an_exception_has_fixed_words_by_its_type(log_text, error, meaning):
    tell_defect(error)
    assert lines(log_text())[0]["meaning"] == meaning
    assert_no_phi(log_text())


def test_a_problem_of_our_own_file_is_told_in_its_words_and_of_nothing_else(log_text):
    tell_problem("file_refused", ConfigError("clients.json: clients.0.name: expected a name"))
    tell("file_refused", problem=SENTENCE)
    logging.getLogger("elsewhere").error("x", extra={"problem": ConfigError(SENTENCE)})
    told = lines(log_text())
    assert told[0]["problem"] == "clients.json: clients.0.name: expected a name"
    assert [line for line in told if "problem" in line] == told[:1]


def test_a_record_that_cannot_be_told_is_dropped_silently(log_text, capsys):
    (handler,) = [one for one in logging.root.handlers if isinstance(one.formatter, JsonLines)]
    handler.handle(logging.makeLogRecord({"name": SENTENCE, "msg": SENTENCE, "created": "never"}))
    assert log_text() == ""
    assert capsys.readouterr() == ("", "")
    assert_no_phi(log_text())


def test_warnings_are_neither_shown_nor_remembered(log_text, capsys):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    written = Dataset()
    written.file_meta = meta
    written.SOPClassUID, written.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    written.PatientBirthDate = "19700131"
    stored = io.BytesIO()
    written.save_as(stored, enforce_file_format=True)
    stored = stored.getvalue().replace(b"19700131", b"DOE^JANE")
    assert dcmread(io.BytesIO(stored)).PatientBirthDate == "DOE^JANE"
    warnings.warn(SENTENCE, stacklevel=1)
    assert log_text() == ""
    assert capsys.readouterr() == ("", "")


def test_what_a_thread_does_not_catch_is_told_without_its_words(log_text, capsys):
    thread = threading.Thread(target=fail, args=(0, SENTENCE))
    thread.start()
    thread.join()
    (line,) = lines(log_text())
    assert (line["event"], line["exception"]) == ("defect", "ImageError")
    assert capsys.readouterr().err == ""


_DYING = """
import logging, sys, warnings
logging.getLogger("early").addHandler(logging.StreamHandler())
from serving.watch.logs import configure_logs
configure_logs(sys.stderr)
logging.getLogger("early").error("DOE^JANE")
warnings.warn("DOE^JANE")
with warnings.catch_warnings():
    warnings.simplefilter("always")  # as a library may
    warnings.warn("DOE^JANE")
class Tomb:
    def __del__(self):
        raise ValueError("DOE^JANE")
Tomb()
raise RuntimeError("PATIENT-ID-4711")
"""


def test_a_process_that_dies_of_a_defect_leaves_only_lines_of_json(repository):
    done = subprocess.run(
        [sys.executable, "-c", _DYING], cwd=repository, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert_no_phi(done.stderr)
    told = lines(done.stderr)
    assert [line["event"] for line in told] == ["library", "library", "defect", "defect"]
    assert [line.get("logger") for line in told[:2]] == ["early", "py.warnings"]
    assert [line["exception"] for line in told[2:]] == ["ValueError", "RuntimeError"]


def test_a_line_stays_one_line_whatever_it_holds():
    record = logging.makeLogRecord({"name": "a\nb", "levelname": "x\ny", "msg": "\n"})
    assert "\n" not in JsonLines().format(record)
