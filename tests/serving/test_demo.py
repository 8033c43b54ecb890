import re
import subprocess
import sys
import zipfile

import httpx
import pytest

from bonexray.errors import DataError
from serving.client import NoAnswerError
from serving.demo import find_studies, running_server

ABNORMAL = "valid/XR_WRIST/patient11186/study1_positive"
NORMAL = "valid/XR_ELBOW/patient11187/study1_negative"
LONE = "valid/XR_WRIST/patient11185/study1_positive"


@pytest.fixture(scope="module")
def mura_folder(tmp_path_factory, png):
    root = tmp_path_factory.mktemp("unpacked") / "MURA-v1.1"
    for study, levels in ((LONE, [210]), (NORMAL, [40, 50, 60]), (ABNORMAL, [200, 220])):
        (root / study).mkdir(parents=True)
        for number, level in enumerate(levels, start=1):
            (root / study / f"image{number}.png").write_bytes(png(level))
    rows = [f"MURA-v1.1/{LONE}/,1", f"MURA-v1.1/{NORMAL}/,0", f"MURA-v1.1/{ABNORMAL}/,1"]
    (root / "valid_labeled_studies.csv").write_text("\n".join(rows) + "\n")
    return root.parent


@pytest.fixture(scope="module")
def mura_zip(mura_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "MURA.zip"
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(mura_folder.rglob("*.*")):
            if member.is_file():
                file.write(member, member.relative_to(mura_folder))
    return path


def test_the_first_study_of_each_label_with_two_views_is_shown(mura_zip):
    abnormal, normal = find_studies(mura_zip)
    assert (abnormal.name, abnormal.label) == (ABNORMAL, "abnormal")
    assert (normal.name, normal.label) == (NORMAL, "normal")
    assert [name for name, _ in normal.views] == ["image1.png", "image2.png", "image3.png"]


def test_zip_and_folder_give_the_same_studies(mura_zip, mura_folder):
    assert find_studies(mura_zip) == find_studies(mura_folder)
    assert find_studies(mura_folder / "MURA-v1.1") == find_studies(mura_zip)


def test_an_archive_that_cannot_be_shown_is_told(tmp_path, mura_folder):
    with pytest.raises(DataError, match="cannot be read as MURA"):
        find_studies(tmp_path / "missing.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(DataError, match="cannot be read as MURA"):
        find_studies(tmp_path / "text.zip")
    with pytest.raises(DataError, match="holds no valid_labeled_studies.csv"):
        find_studies(mura_folder / "MURA-v1.1" / "valid")
    rows = f"MURA-v1.1/{NORMAL}/,0\n"
    root = tmp_path / "half"
    (root / NORMAL).mkdir(parents=True)
    (root / "valid_labeled_studies.csv").write_text(rows)
    with pytest.raises(DataError, match="no abnormal and no normal test study"):
        find_studies(root)


def test_the_demo_shows_both_studies_beside_their_labels_and_stops(mura_zip, store, repository):
    command = [sys.executable, "-m", "serving.demo"]
    command += ["--archive", str(mura_zip), "--store", str(store.root)]
    ended = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    for study, verdict, label in (
        (ABNORMAL, "positive", "abnormal"),
        (NORMAL, "negative", "normal"),
    ):
        shown = rf"== {study} ==\nverdict      {verdict}\nlabelled     {label}\n"
        assert re.search(shown, ended.stdout), ended.stdout
    assert "reports/evaluation/report.html" in ended.stdout
    url = re.search(r"ready on (http://\S+:\d+)", ended.stdout)[1]
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_server_that_does_not_start_is_told_with_its_own_words(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    complaint = "did not start: serving: no champion in "
    with pytest.raises(NoAnswerError, match=complaint), running_server(tmp_path):
        pass


def test_the_demo_trusts_whom_it_is_told_to(store, tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    complaint = "nobody.pub: cannot be read, and no bundle is served on trust alone"
    nobody = tmp_path / "nobody.pub"
    with pytest.raises(NoAnswerError, match=complaint), running_server(store.root, nobody):
        pass


@pytest.mark.slow
def test_the_server_is_stopped_when_the_demo_fails(store, monkeypatch, repository):
    monkeypatch.chdir(repository)
    urls = []

    def fail():
        with running_server(store.root) as url:
            urls.append(url)
            assert httpx.get(f"{url}/v2/health/ready", trust_env=False).is_success
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with pytest.raises(httpx.ConnectError):
        httpx.get(urls[0], trust_env=False)
