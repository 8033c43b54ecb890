"""A team's registry: MLflow with passwords, on PostgreSQL and S3, and what goes wrong with it."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.server.auth.client import AuthServiceClient

from tests.conftest import TINY
from tests.e2e.desk import BOUND, IN_THE_PAST, ON_A_FULL_DISK, PAUSED, WHY, Desk
from tests.servers import ADMIN, ADMIN_PASSWORD, BUCKET, KEYS, Team, team_server

pytestmark = pytest.mark.slow

MEMBERS = {"author": "an author's password", "reader": "a reader's password"}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team_server(tmp_path_factory.mktemp("team-server"), "READ") as team:
        patch = pytest.MonkeyPatch()
        patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
        users = AuthServiceClient(team.url)
        for name, password in MEMBERS.items():
            users.create_user(name, password)
        yield team
        patch.undo()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "params.yaml").write_text(yaml.safe_dump(TINY))
    Desk(folder, environment, "").release("keys").well()
    return folder / "keys"


@pytest.fixture
def local(tmp_path: Path, environment: dict[str, str], keys: Path, request: Any) -> Desk:
    """A desk with a registry of its own in its folder."""
    model = request.node.name.translate(str.maketrans("[] ", "---"))[-60:]
    shutil.copytree(keys, tmp_path / "keys")
    params = TINY | {"register": {"experiment": "tiny", "model_name": model}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return Desk(tmp_path, environment, model)


@pytest.fixture
def desk(local: Desk, team: Team, environment: dict[str, str]) -> Desk:
    """A desk at the team's server."""
    return replace(local, env=team.member(environment, "author", MEMBERS["author"]))


@pytest.fixture
def registered(desk: Desk, tiny_workspace: Path) -> Desk:
    """A desk whose model has the tiny bundle as its candidate, version 1."""
    desk.register(tiny_workspace / "bundle", tiny_workspace / "reports/evaluation").well()
    return desk


@pytest.fixture
def client(team: Team) -> MlflowClient:
    """The administrator's, in the tests' own process."""
    return MlflowClient(team.url)


def aliases(client: MlflowClient, desk: Desk) -> dict[str, str]:
    found = client.get_registered_model(desk.model).aliases
    return {name: str(version) for name, version in found.items()}


@pytest.fixture(scope="module")
def other(
    tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Path:
    """Another bundle and its report, of another commit; held against the tiny one."""
    folder, data = tmp_path_factory.mktemp("other"), tiny_workspace / "data"
    script = (
        "import sys; from pathlib import Path; from bonexray.store import BundleStore, Champion\n"
        "store = BundleStore(Path('release')); digest = store.add(Path(sys.argv[1]))\n"
        "store.set_champion(Champion(model_name='bonexray', version='1', digest=digest))"
    )
    for command in (
        ["-c", script, str(tiny_workspace / "bundle")],
        ["-m", "components.evaluate", "--params", str(tiny_workspace / "params.yaml")]
        + ["--dataset", str(data / "dataset"), "--validated", str(data / "validated")]
        + ["--models", str(tiny_workspace / "models"), "--archs", "resnet18"]
        + ["--commit", "f" * 40, "--crossval", "none", "--release", "release"]
        + ["--out", "bundle", "--report", "report"],
    ):
        subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True)
    return folder


@pytest.fixture
def both(registered: Desk, other: Path) -> Desk:
    """The other bundle is version 2."""
    registered.register(other / "bundle", other / "report").well()
    return registered


def test_one_setting_puts_the_team_s_server_in_place_of_the_file(
    local: Desk, both: Desk, client: MlflowClient, tiny_workspace: Path, tmp_path: Path
) -> None:
    alone = replace(local, folder=tmp_path / "alone")
    shutil.copytree(tmp_path, alone.folder, ignore=shutil.ignore_patterns("registration", "alone"))
    alone.register(tiny_workspace / "bundle", tiny_workspace / "reports/evaluation").well()
    for desk in (alone, both):
        desk.approve("1").well()
    of_alone, of_team = alone.records()[0], both.records()[0]
    assert of_alone["bundle_digest"] == of_team["bundle_digest"]
    assert of_alone["pack_sha256"] == of_team["pack_sha256"]
    assert alone.state() == both.state()
    both.approve("2").well()
    both.release("rollback", "--by", "B. Reader", "--reason", "reads shoulders wrongly").well()
    assert "version 1" in both.release("status").well()
    assert "holds 3 decisions, none altered" in both.release("history").well()
    assert aliases(client, both) == {"candidate": "2", "champion": "1", "previous": "2"}


@pytest.mark.parametrize(
    ("name", "password"), [("author", "a wrong password"), ("nobody", "none"), ("", "")]
)
def test_a_wrong_password_or_none_is_one_line_and_no_record(
    registered: Desk,
    tiny_workspace: Path,
    team: Team,
    environment: dict[str, str],
    name: str,
    password: str,
) -> None:
    stranger = replace(registered, env=team.member(environment, name, password))
    assert "not authenticated" in stranger.approve().line()
    tiny = tiny_workspace / "bundle", tiny_workspace / "reports/evaluation"
    assert "not authenticated" in stranger.register(*tiny).line()
    assert stranger.state() == []


def test_one_who_may_only_read_cannot_approve_and_nothing_is_changed(
    registered: Desk, team: Team, environment: dict[str, str], client: MlflowClient
) -> None:
    reader = replace(registered, env=team.member(environment, "reader", MEMBERS["reader"]))
    assert "permission" in reader.approve().line().lower()
    assert reader.state() == []
    assert aliases(client, reader) == {"candidate": "1"}


@pytest.mark.parametrize("moment", ["before the fetch", "after the record"])
def test_a_server_that_is_killed_in_an_approval_leaves_before_or_after(
    registered: Desk, team: Team, client: MlflowClient, moment: str
) -> None:
    approval = ["approve", "1", "--by", "A. Reader", *WHY, "--yes"]
    begun = registered.begin(*approval, script=(PAUSED, moment)).until_it_pauses()
    team.server.kill()
    ended = begun.end()
    ended.line()
    down = registered.approve("1", by="B. Reader")
    assert down.line()
    assert down.seconds < BOUND / 2
    team.server.start()
    decided = moment == "after the record"
    assert len(registered.records()) == decided
    said = registered.release("status").well()
    assert ("it is finished now" in said) == decided
    assert registered.champion() == ("1" if decided else None)
    assert ("champion" in aliases(client, registered)) == decided
    registered.approve("1").well()
    assert aliases(client, registered) == {"candidate": "1", "champion": "1"}
    assert len(registered.records()) == 1


def test_a_server_that_is_not_there_is_a_line_within_seconds(
    local: Desk, tiny_workspace: Path
) -> None:
    nowhere = replace(local, env={**local.env, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    tiny = tiny_workspace / "bundle", tiny_workspace / "reports/evaluation"
    for ended in (nowhere.register(*tiny), nowhere.approve()):
        assert "127.0.0.1:9" in ended.line()
        assert ended.seconds < BOUND / 2
    assert nowhere.state() == []


def test_a_store_that_holds_other_bytes_is_refused_without_a_record(
    registered: Desk, team: Team, client: MlflowClient
) -> None:
    model = client.get_model_version(registered.model, "1").source.removeprefix("models:/")
    names = {"aws_access_key_id": "test", "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    s3 = boto3.client("s3", endpoint_url=team.s3, region_name=KEYS["AWS_REGION"], **names)
    listed = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET).search("Contents[].Key")
    (key,) = [key for key in listed if model in key and key.endswith("/model.onnx")]
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"another graph")
    assert "model.onnx: SHA-256 is" in registered.approve().line()
    assert registered.state() == []
    s3.delete_object(Bucket=BUCKET, Key=key)
    registered.approve().line()
    assert registered.state() == []


def test_a_file_that_another_holds_locked_is_waited_for_and_then_given_up(
    local: Desk, tiny_workspace: Path
) -> None:
    local.register(tiny_workspace / "bundle", tiny_workspace / "reports/evaluation").well()
    approval = ["approve", "1", "--by", "A. Reader", *WHY, "--yes"]
    begun = local.begin(*approval, script=(PAUSED, "after the record")).until_it_pauses()
    other = sqlite3.connect(local.folder / "mlflow.db")
    other.execute("BEGIN EXCLUSIVE")
    assert "locked" in begun.end().line()
    other.close()
    assert local.champion() == "1"
    assert "it is finished now" in local.release("status").well()
    local.approve("1").well()
    assert len(local.records()) == 1


def test_an_alias_whose_version_was_deleted_is_a_line(both: Desk, client: MlflowClient) -> None:
    both.approve("1").well()
    client.delete_model_version(both.model, "1")
    both.approve("2").well()
    assert both.champion() == "2"
    client.delete_model_version(both.model, "2")
    assert "candidate" in both.approve().line()
    assert len(both.records()) == 2


def test_of_two_approvals_at_once_the_records_hold_each_that_was_made(
    registered: Desk, client: MlflowClient
) -> None:
    begun = [
        registered.begin("approve", "1", "--by", by, *WHY, "--yes")
        for by in ("A. Reader", "B. Reader")
    ]
    ended = [each.end() for each in begun]
    made = [each for each in ended if each.status == 0]
    for refused in (each for each in ended if each.status):
        assert "another decision is under way" in refused.line()
    assert len(registered.records()) == len(made) >= 1
    said = registered.release("history").well()
    assert f"holds {len(made)} decisions, none altered" in said
    assert aliases(client, registered) == {"candidate": "1", "champion": "1"}


@pytest.mark.parametrize("moment", ["fetch", "add"])
def test_a_disk_that_fills_is_one_line_and_leaves_nothing_half_written(
    registered: Desk, moment: str
) -> None:
    ended = registered.approve(script=(ON_A_FULL_DISK, moment))
    assert "File too large" in ended.line()
    assert registered.state() == []
    registered.approve().well()
    assert registered.champion() == "1"


def test_a_clock_that_goes_back_leaves_the_order_of_the_file(registered: Desk) -> None:
    registered.approve("1").well()
    registered.approve("1", by="B. Reader", script=(IN_THE_PAST,)).well()
    now, past = registered.records()
    assert past["at"] < now["at"]
    assert (now["number"], past["number"]) == (1, 2)
    assert "approved by B. Reader at 2001" in registered.release("status").well()
    assert "holds 2 decisions, none altered" in registered.release("history").well()
