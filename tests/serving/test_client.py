import subprocess
import sys

import pytest

from bonexray.errors import DataError
from serving.client import (
    NoAnswerError,
    StudyReading,
    ViewReading,
    ask,
    find_views,
    main,
    render,
)

READING = StudyReading(
    verdict="positive",
    probability=0.8125,
    negative_below=0.31,
    positive_from=0.72,
    views=(
        ViewReading(probability=0.912, body_part="XR_WRIST", refusal=""),
        ViewReading(probability=0.713, body_part="XR_HUMERUS", refusal="other_part"),
    ),
    model_version="3",
    bundle_digest="1a2b3c4d5e6f" + "0" * 52,
    disclaimer="Research use only.",
    round_trip_ms=41.26,
    decode_ms=12.0,
    inference_ms=18.34,
)

RENDERED = """\
verdict      positive
labelled     abnormal
abnormal     0.812  (negative below 0.310, positive from 0.720)

  view         body part    abnormal
  image1.png   XR_WRIST        0.912
  image10.png  XR_HUMERUS      0.713  not read: of another body part than it is said to show

model        version 3, bundle 1a2b3c4d5e6f
time         41.3 ms round trip: 12.0 ms to decode, 18.3 ms in the network

Research use only."""


def test_a_reading_is_laid_out_for_a_person():
    assert render(READING, ["image1.png", "image10.png"], truth="abnormal") == RENDERED


def test_the_label_is_left_out_where_it_is_not_known():
    assert "labelled" not in render(READING, ["a.png", "b.png"])


def test_a_study_is_read_by_a_running_server(server, store, png, expected_probability):
    reading = ask(server.url + "/", [png(60), png(200)])
    expected = [expected_probability(60), expected_probability(200)]
    assert [view.probability for view in reading.views] == pytest.approx(expected, abs=1e-6)
    assert [view.body_part for view in reading.views] == ["XR_ELBOW", "XR_WRIST"]
    assert reading.bundle_digest == store.champion().digest
    assert reading.round_trip_ms > reading.decode_ms + reading.inference_ms


def test_a_studys_folder_is_sent_in_the_order_of_its_views(tmp_path, png):
    for name in ("image10.png", "image9.PNG", "._image1.png", "notes.txt", "image2.jpeg"):
        (tmp_path / name).write_bytes(png(60))
    names = [path.name for path in find_views([tmp_path])]
    assert names == ["image9.PNG", "image10.png", "image2.jpeg"]


def test_a_folder_without_views_and_a_missing_view_are_told(tmp_path):
    with pytest.raises(DataError, match="holds no PNG or JPEG"):
        find_views([tmp_path])
    with pytest.raises(DataError, match="no such file"):
        find_views([tmp_path / "image1.png"])


def test_the_command_prints_the_reading(server, tmp_path, png, repository):
    (tmp_path / "image1.png").write_bytes(png(200))
    command = [sys.executable, "-m", "serving.client", str(tmp_path), "--url", server.url]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("verdict      positive\n")
    assert ended.stderr == ""


def test_a_server_that_is_not_there_is_told_in_one_line(tmp_path, png, capsys):
    (tmp_path / "image1.png").write_bytes(png(200))
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path), "--url", "http://127.0.0.1:1"])
    told = capsys.readouterr().err
    assert told.startswith("serving.client: http://127.0.0.1:1: no answer: ")
    assert told.count("\n") == 1


def test_a_refusal_is_told_in_the_servers_words(server, tmp_path, capsys):
    (tmp_path / "image1.png").write_bytes(b"text")
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path), "--url", server.url])
    told = capsys.readouterr().err
    assert "refused (400): view 1: 4 bytes that are neither PNG nor JPEG" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "http://[", "ftp://127.0.0.1"])
def test_a_url_that_is_none_is_told(url, png):
    with pytest.raises(NoAnswerError, match="no answer"):
        ask(url, [png(60)])
