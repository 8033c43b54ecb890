"""Answers are written down in a chain, and can be given again."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from bonexray.errors import LineageError, RecordsError
from serving import answer_records, audit
from serving.answer_records import Answered, AuditedStudy, AuditedView, AuditLog, read_audit
from tests.serving.live import QUICK

ANSWERED = Answered(
    answer_id="0123456789abcdef-" + "0" * 32,
    client="pacs",
    trace_id="0" * 32,
    model_version="3",
    bundle_digest="0" * 64,
    precision="fp32",
    preprocessing=1,
    studies=(AuditedStudy(probability=0.25, verdict="negative", refusal=""),),
    views=(
        AuditedView(
            study=0, sha256="1" * 64, claimed_part="", seen_part="XR_HAND", probability=0.25,
            refusal="",
        ),
    ),
)  # fmt: skip


def the_file(folder):
    (path,) = folder.glob("answers-*.jsonl")
    return path


def test_every_record_holds_the_hash_of_the_one_before(tmp_path):
    log = AuditLog(tmp_path)
    for _ in range(3):
        log.append(ANSWERED)
    records = read_audit(tmp_path)
    assert [record.number for record in records] == [1, 2, 3]
    assert len({record.before for record in records}) == 3


def spoil(lines, way):
    if way == "altered":
        lines[1] = lines[1].replace("0.25", "0.75")
    elif way == "left out":
        del lines[1]
    elif way == "swapped":
        lines[0], lines[1] = lines[1], lines[0]
    elif way == "put in":
        lines.insert(1, lines[1])
    else:
        lines[2] = lines[2][:-30]
    return lines


@pytest.mark.parametrize("way", ["altered", "left out", "swapped", "put in", "torn"])
def test_records_that_are_not_as_they_were_written_are_told(tmp_path, way):
    log = AuditLog(tmp_path)
    for _ in range(3):
        log.append(ANSWERED)
    path = the_file(tmp_path)
    path.write_text("".join(spoil(path.read_text().splitlines(keepends=True), way)))
    with pytest.raises(RecordsError, match=rf"{path.name}, line \d: "):
        read_audit(tmp_path)


def test_two_processes_write_one_chain(tmp_path):
    first, second = AuditLog(tmp_path), AuditLog(tmp_path)
    for log in (first, second, second, first, second):
        log.append(ANSWERED)
    assert [record.number for record in read_audit(tmp_path)] == [1, 2, 3, 4, 5]


def test_threads_that_write_at_once_keep_the_chain(tmp_path):
    log = AuditLog(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log.append, [ANSWERED] * 200))
    assert len(read_audit(tmp_path)) == 200


def test_processes_that_write_at_once_keep_the_chain(tmp_path, repository):
    code = (
        "import sys; from pathlib import Path; from tests.serving.test_audit import ANSWERED;"
        "from serving.answer_records import AuditLog; log = AuditLog(Path(sys.argv[1]));"
        "[log.append(ANSWERED) for _ in range(200)]"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    writers = [subprocess.Popen(command, cwd=repository) for _ in range(2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert len(read_audit(tmp_path)) == 400


def test_the_half_line_of_a_killed_process_is_no_answer_and_the_chain_goes_on(tmp_path):
    AuditLog(tmp_path).append(ANSWERED)
    with the_file(tmp_path).open("a") as file:
        file.write('{"answer_id": "012')
    AuditLog(tmp_path).append(ANSWERED)
    assert len(read_audit(tmp_path)) == 2


def test_a_record_that_the_disk_takes_a_part_of_leaves_nothing(tmp_path, monkeypatch):
    log = AuditLog(tmp_path)
    log.append(ANSWERED)
    write = os.write
    monkeypatch.setattr(answer_records.os, "write", lambda handle, line: write(handle, line[:20]))
    with pytest.raises(OSError, match="a part of the record"):
        log.append(ANSWERED)
    monkeypatch.undo()
    log.append(ANSWERED)
    assert len(read_audit(tmp_path)) == 2


def test_the_chain_goes_on_the_next_day_and_the_oldest_day_may_be_removed(tmp_path, monkeypatch):
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2999, 1, 2, tzinfo=UTC)

    log = AuditLog(tmp_path)
    log.append(ANSWERED)
    oldest = the_file(tmp_path)
    monkeypatch.setattr(answer_records, "datetime", Tomorrow)
    log.append(ANSWERED)
    AuditLog(tmp_path).append(ANSWERED)
    assert [record.number for record in read_audit(tmp_path)] == [1, 2, 3]
    oldest.unlink()
    assert [record.number for record in read_audit(tmp_path)] == [2, 3]
    AuditLog(tmp_path).append(ANSWERED)
    assert len(read_audit(tmp_path)) == 3


def append(log, times):
    for _ in range(times):
        log.append(ANSWERED)


def test_records_that_are_cut_off_while_the_server_runs_are_missed_ever_after(tmp_path):
    log = AuditLog(tmp_path)
    append(log, 4)
    lines = the_file(tmp_path).read_text().splitlines(keepends=True)
    the_file(tmp_path).write_text("".join(lines[:2]))
    append(log, 1)
    with pytest.raises(RecordsError, match="line 3: it is not what followed the line before"):
        read_audit(tmp_path)


def test_a_last_record_that_is_altered_while_the_server_runs_is_missed_ever_after(tmp_path):
    log = AuditLog(tmp_path)
    append(log, 2)
    text = the_file(tmp_path).read_text()
    begin = text.rindex('"probability":0.25')
    the_file(tmp_path).write_text(text[:begin] + text[begin:].replace("0.25", "0.125"))
    append(log, 1)
    with pytest.raises(RecordsError, match="line 3: it is not what followed the line before"):
        read_audit(tmp_path)


@pytest.mark.parametrize("gone", ["the file", "the folder"])
def test_an_answer_is_never_written_to_a_file_that_was_removed(tmp_path, gone):
    folder = tmp_path / "audit"
    log = AuditLog(folder)
    append(log, 2)
    if gone == "the folder":
        shutil.rmtree(folder)
        with pytest.raises(FileNotFoundError):
            append(log, 1)
        folder.mkdir()
    else:
        the_file(folder).unlink()
    append(log, 1)
    AuditLog(folder).append(ANSWERED)
    append(log, 1)
    assert [record.number for record in read_audit(folder)] == [3, 4, 5]


def test_a_copy_beside_the_records_is_none_of_them(tmp_path):
    log = AuditLog(tmp_path)
    append(log, 1)
    copy = tmp_path / "answers-copy.jsonl"
    copy.write_bytes(the_file(tmp_path).read_bytes())
    append(log, 1)
    assert len(copy.read_text().splitlines()) == 1
    copy.unlink()
    assert len(read_audit(tmp_path)) == 2


def test_files_without_an_answer_are_no_sound_records(tmp_path):
    AuditLog(tmp_path).append(ANSWERED)
    the_file(tmp_path).write_bytes(b"")
    with pytest.raises(RecordsError, match="hold no answer$"):
        read_audit(tmp_path)


def test_nothing_is_written_behind_a_line_that_is_no_record(tmp_path):
    AuditLog(tmp_path).append(ANSWERED)
    with the_file(tmp_path).open("a") as file:
        file.write("a note\n")
    log = AuditLog(tmp_path)
    for _ in range(2):
        with pytest.raises(RecordsError, match="its last line is no record of an answer"):
            append(log, 1)


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "audit").write_text("a file")
    with pytest.raises(RecordsError, match="audit: cannot be written to: "):
        AuditLog(tmp_path / "audit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answered")


@pytest.fixture(scope="module")
def server(start_server, folder):
    return start_server("--audit", folder, config=QUICK)


@pytest.fixture
def answered(server, png):
    """Two views, and what was told of them."""
    views = [png(60), png(200)]
    answer = server.infer(*views, id="PATIENT-NAME-MARKER")
    return views, answer.json()["parameters"]["answer_id"]


def test_every_answer_is_written_down_without_the_names_of_its_request(server, folder, png):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda level: server.infer(png(level)), range(60, 100)))
    ids = {answer.json()["parameters"]["answer_id"] for answer in answers}
    records = {record.answer_id: record for record in read_audit(folder)}
    assert ids <= set(records)
    for answer in answers:
        said = {output["name"]: output["data"] for output in answer.json()["outputs"]}
        record = records[answer.json()["parameters"]["answer_id"]]
        assert record.studies[0].probability == said["study_probability"][0]
        assert record.views[0].sha256 == said["view_sha256"][0]
        assert record.trace_id == answer.headers["traceparent"].split("-")[1]
    assert "PATIENT-NAME-MARKER" not in the_file(folder).read_text()


def test_an_answer_is_given_again_from_the_same_bytes(server, folder, store, answered):
    views, answer_id = answered
    record = audit.find_record(folder, answer_id)
    told = audit.replay(record, views[::-1], store)
    assert re.match(f"{answer_id}: studies 1, views 2, all told as on ", told)


def test_other_bytes_or_another_probability_are_told(server, folder, store, answered, png):
    views, answer_id = answered
    record = audit.find_record(folder, answer_id)
    with pytest.raises(LineageError, match="no file given has the SHA-256"):
        audit.replay(record, [views[0], png(201)], store)
    other = record.views[0].model_copy(update={"probability": 0.123})
    with pytest.raises(LineageError, match="told 0.123000 .* then, .* now"):
        audit.replay(record.model_copy(update={"views": (other, record.views[1])}), views, store)
    with pytest.raises(RecordsError, match="no answer"):
        audit.find_record(folder, "unknown")


def test_the_commands_say_it_in_a_line(server, folder, store, answered, tmp_path, capsys):
    views, answer_id = answered
    audit.main(["verify", "--audit", str(folder)])
    assert re.fullmatch(r"audit: \d+ answers from .* to .*, each followed by the next\n",
                        capsys.readouterr().out)  # fmt: skip
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, view in zip(files, views, strict=True):
        file.write_bytes(view)
    flags = ["--audit", str(folder), "--store", str(store.root)]
    audit.main(["replay", answer_id, *map(str, files), *flags])
    assert capsys.readouterr().out.startswith(f"audit: {answer_id}: studies 1, views 2")
    with pytest.raises(SystemExit):
        audit.main(["verify", "--audit", str(tmp_path)])
    assert capsys.readouterr().err == f"audit: {tmp_path}: holds no {answer_records.AUDIT_FILES}\n"


def test_the_record_is_json_a_line(server, folder, answered):
    lines = the_file(folder).read_text().splitlines()
    assert all(set(json.loads(line)) >= {"answer_id", "before", "number"} for line in lines)
