"""docs/serving.md tells the truth: its code prints what it says, and its tables are whole."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from bonexray.studies import BODY_PARTS
from serving.dicom.refusal import DicomRefusal
from serving.guard.clients import read_clients
from serving.oip.errors import RequestError
from serving.studies import INPUTS, MIXED, OUTPUTS
from tests.serving.asked_server import asked_server
from tests.serving.dicom.files import dicom, radiograph

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/serving.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RUNNERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
RUN = [
    # What imports KServe, or loads a network, takes seconds.
    pytest.param(number, marks=pytest.mark.slow if re.search("kserve|replay", code) else ())
    for number, (language, code) in enumerate(BLOCKS)
    if language in RUNNERS
]


@pytest.fixture(scope="module")
def desk(store, png, tmp_path_factory):
    """A folder with the studies that the page asks about, and the places that it names."""
    desk = tmp_path_factory.mktemp("desk")
    for study, levels in (("wrist", (200, 150)), ("elbow", (60, 90))):
        (desk / study).mkdir()
        for number, level in enumerate(levels, start=1):
            (desk / study / f"image{number}.png").write_bytes(png(level, side_px=256))
    (desk / "export").mkdir()
    elbow = dicom(radiograph(256, 192), BodyPartExamined="ELBOW")
    (desk / "export/IM0001").write_bytes(elbow)
    (desk / "export/IM0002").write_bytes(dicom(radiograph(), Modality="CT"))
    (desk / "release").symlink_to(store.root)
    return desk


@pytest.fixture(scope="module")
def run(desk, store):
    """Runs code of the page, with the places that it names replaced by those of a real server."""
    environment = {name: text for name, text in os.environ.items() if "proxy" not in name.lower()}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    with asked_server(store.root, desk / "audit") as server:
        places = {
            "http://127.0.0.1:8080": server.url,
            "127.0.0.1:8080": server.url.removeprefix("http://"),
            "127.0.0.1:8081": server.grpc,
            "http://127.0.0.1:8082/metrics": server.metrics,
            "-m serving.client ": f"-m serving.client --url {server.url} ",
        }

        def run(language, code):
            for named, real in places.items():
                code = code.replace(named, real)
            return subprocess.run(
                [*RUNNERS[language], code],
                cwd=desk,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        yield run


@pytest.mark.parametrize("number", RUN)
def test_code_prints_what_the_page_says(run, number):
    language, code = BLOCKS[number]
    following, expected = BLOCKS[number + 1]
    assert following == "text", "what it prints stands behind it"
    ended = run(language, code)
    assert ended.returncode == 0, ended.stderr
    # The page breaks lines where they are long.
    want, got = (re.sub(r"\s+", "", text) for text in (expected, ended.stdout))
    assert doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS), ended.stdout


def test_the_pages_pictures_are_there(desk, run):
    assert (REPOSITORY / "docs/overlay.png").stat().st_size < 300_000
    run("bash", "python -m serving.client wrist --overlay pictures")
    assert (desk / "pictures/sheet.png").is_file()


def test_every_tensor_and_parameter_is_explained(run):
    said = set(re.findall(r"`(\w+)`", PAGE))
    answer = run("bash", "python -m serving.client wrist --json").stdout
    told = re.search(r'"origin": \{(.*?)\}', answer)[1]
    parameters = set(re.findall(r'"(\w+)":', told)) - {"round_trip_ms"}
    assert "answer_id" in parameters
    assert {spec.name for spec in (*INPUTS, *OUTPUTS)} | parameters <= said
    assert set(BODY_PARTS) <= said


def test_every_refusal_is_explained():
    rows = " ".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))
    for code in (*get_args(DicomRefusal), "unlike", "other_part", MIXED):
        assert f"`{code}`" in rows, code


def test_every_error_has_its_row_with_both_codes():
    for kind in RequestError.__subclasses__():
        assert f"\n| {kind.status} | {kind.grpc_code} |" in PAGE, kind.__name__


def test_the_defaults_are_those_of_params_yaml():
    settings = yaml.safe_load((REPOSITORY / "params.yaml").read_text())["serve"]
    for name, value in settings.items():
        assert f"\n| `{name}` | {value} |" in PAGE, name


def test_the_file_of_clients_is_one(tmp_path):
    (example,) = [code for language, code in BLOCKS if language == "json"]
    (tmp_path / "clients.json").write_text(example)
    read = read_clients(tmp_path / "clients.json")
    assert (read.clients[0].name, read.issuers[0].name) == ("pacs-gateway", "hospital")


def test_every_alert_is_explained():
    alerts = yaml.safe_load((REPOSITORY / "serving/monitoring/alerts.yaml").read_text())
    names = [rule["alert"] for rule in alerts["groups"][0]["rules"] if "alert" in rule]
    assert names
    assert set(names) <= set(re.findall(r"`(\w+)`", PAGE))


@pytest.mark.parametrize("command", ["serving", "serving.client"])
def test_every_flag_that_the_page_gives_is_one(repository, command):
    given = set(re.findall(rf"python -m {re.escape(command)} (?:.* )?(--[a-z-]+)", PAGE))
    asked = [sys.executable, "-m", command, "--help"]
    told = subprocess.run(asked, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert given
    assert given <= set(re.findall(r"--[a-z-]+", told))
