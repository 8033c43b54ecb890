"""The command, against real servers."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from serving.client import main
from tests.serving.asked_server import CONFIG, asked_server
from tests.serving.dicom.files import dicom, radiograph


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    with asked_server(store.root, tmp_path_factory.mktemp("audit")) as asked:
        yield asked


@pytest.fixture
def folder(tmp_path, png):
    """Makes the folder of a study, out of the brightness of its views."""

    def make(name, *levels):
        (tmp_path / name).mkdir()
        for number, level in enumerate(levels, start=1):
            (tmp_path / name / f"image{number}.png").write_bytes(png(level))
        return str(tmp_path / name)

    return make


@pytest.fixture
def told(capsys):
    """Runs the command and returns its documents, and what it complains of."""

    def run(*arguments):
        status = 0
        try:
            main([*arguments, "--json"])
        except SystemExit as end:
            status = end.code
        out, complaint = capsys.readouterr()
        assert status == (1 if complaint else 0)
        return [json.loads(line) for line in out.splitlines()], complaint

    return run


def test_the_command_prints_the_reading_for_a_person(server, folder, repository):
    command = [sys.executable, "-m", "serving.client", folder("wrist", 200, 130)]
    command += ["--url", server.url]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("verdict      positive\nabnormal     0.")
    assert "\n  image2.png  " in ended.stdout
    assert ended.stdout.endswith("not a diagnosis of fracture.\n\n")
    assert ended.stderr == ""


def test_studies_that_fit_into_one_request_are_asked_about_in_one(server, folder, told):
    studies = [folder("a", 60, 70), folder("b", 200)]
    documents, _ = told(*studies, "--url", server.url)
    assert [document["study"] for document in documents] == studies
    assert [document["verdict"] for document in documents] == ["negative", "positive"]
    assert len({document["origin"]["answer_id"] for document in documents}) == 1


def test_studies_that_are_too_much_together_are_asked_about_one_by_one(server, folder, told):
    most = CONFIG["max_views"]
    studies = [folder("a", *[60] * most), folder("b", *[200] * most)]
    documents, _ = told(*studies, "--url", server.url)
    assert [document["verdict"] for document in documents] == ["negative", "positive"]
    assert len({document["origin"]["answer_id"] for document in documents}) == 2


def test_studies_beyond_what_the_client_sends_at_once_are_asked_about_one_by_one(
    server, folder, told, monkeypatch
):
    monkeypatch.setattr("serving.client._MAX_VIEWS", 2)
    documents, _ = told(folder("a", 60, 61), folder("b", 200), "--url", server.url)
    assert len({document["origin"]["answer_id"] for document in documents}) == 2


def test_a_damaged_study_costs_no_other_its_answer(server, folder, told, tmp_path):
    studies = [folder("a", 60), folder("damaged", 60), folder("b", 200)]
    (tmp_path / "damaged" / "image1.png").write_bytes(b"text")
    documents, complaint = told(*studies, "--url", server.url)
    assert [document["study"] for document in documents] == [studies[0], studies[2]]
    assert complaint.startswith(
        f"serving.client: {studies[1]}: {server.url}: refused (400): view 1"
    )
    assert complaint.count("\n") == 1


def test_views_given_one_by_one_are_one_study(server, folder, told):
    study = folder("a", 60, 200)
    views = [f"{study}/image2.png", f"{study}/image1.png"]
    (document,), _ = told(*views, "--url", server.url)
    assert [view["file"] for view in document["views"]] == ["image2.png", "image1.png"]
    assert document["views"][0]["probability"] > 0.5 > document["views"][1]["probability"]


def test_a_claimed_body_part_is_sent(server, folder, told):
    (document,), _ = told(folder("a", 140), "--url", server.url, "--body-part", "XR_WRIST")
    assert document["views"][0]["claimed_part"] == "XR_WRIST"


def test_overlays_are_written_beside_the_answer(server, folder, tmp_path, capsys):
    study = folder("a", 200)
    (tmp_path / "a" / "IM2").write_bytes(dicom(radiograph(96, 72), BodyPartExamined=None))
    main([study, "--url", server.url, "--overlay", str(tmp_path / "out")])
    assert f"\npictures     {tmp_path}/out/sheet.png\n" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "01-IM2.png",
        "02-image1.png",
        "sheet.png",
    }
    with Image.open(tmp_path / "out/02-image1.png") as picture:
        red, _, blue = picture.getpixel((16, 16))
    assert red > blue


def test_overlays_of_several_studies_have_folders_of_their_own(server, folder, tmp_path, capsys):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    studies = [folder("first/study1", 200), folder("second/study1", 60)]
    main([*studies, "--url", server.url, "--overlay", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert printed.startswith(f"== {studies[0]} ==\nverdict      positive\n")
    assert f"== {studies[1]} ==\nverdict      negative\n" in printed
    assert (tmp_path / "out/1-study1/sheet.png").is_file()
    assert (tmp_path / "out/2-study1/sheet.png").is_file()


def test_overlays_do_not_go_where_they_would_become_views(server, folder, told, tmp_path):
    study = folder("a", 60)
    for asked in (study, f"{study}/image1.png"):
        documents, complaint = told(asked, "--url", server.url, "--overlay", f"{tmp_path}/./a")
        assert documents == []
        assert "holds views, which pictures in it would become too" in complaint
    assert len(list((tmp_path / "a").iterdir())) == 1


@pytest.mark.parametrize("text", ["", "\n", "two words", "two\nlines", "naïve"])
def test_a_file_that_holds_no_token_is_told_without_what_it_holds(folder, told, tmp_path, text):
    (tmp_path / "token").write_text(text)
    _, complaint = told(folder("a", 60), "--token-file", str(tmp_path / "token"))
    assert complaint == (
        f"serving.client: {tmp_path}/token: expected one token of visible ASCII characters\n"
    )


def test_what_is_missing_is_told_in_one_line(folder, told, tmp_path):
    for arguments in (
        [str(tmp_path / "gone")],
        [folder("a", 60), "--token-file", str(tmp_path / "gone")],
        [str(tmp_path / "a"), "--ca", str(tmp_path / "gone")],
        [str(tmp_path / "a"), "--url", "http://127.0.0.1:1"],
    ):
        documents, complaint = told(*arguments)
        assert documents == []
        assert complaint.startswith("serving.client: ")
        assert complaint.count("\n") == 1
