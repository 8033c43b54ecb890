"""A run by the clock."""

import pytest

from tests.pipeline.cluster_desk import COMMIT, Drive
from tests.pipeline.kfp_server import KfpServer

pytest_plugins = ["tests.pipeline.cluster_desk"]


def test_it_repeats_the_uploaded_version_one_at_a_time_without_catching_up(
    drive: Drive, server: KfpServer
) -> None:
    drive("schedule", "--cron", "30 2 * * 0")
    (schedule,) = server.recurring.values()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 30 2 * * 0"
    assert (schedule["max_concurrency"], schedule["no_catchup"]) == ("1", True)
    assert schedule["runtime_config"]["parameters"]["commit"] == COMMIT
    assert schedule["pipeline_version_reference"]["pipeline_version_id"] in server.versions


def test_one_of_the_same_name_is_replaced_and_others_stay(drive: Drive, server: KfpServer) -> None:
    drive("schedule", "--cron", "0 2 * * 0")
    drive("schedule", "--cron", "0 4 * * 1", "--name", "another")
    said = drive("schedule", "--cron", "5 0 2 * * 6", "--set", "train.epochs=3")
    assert "in place of the one before" in said
    crons = {
        s["display_name"]: s["trigger"]["cron_schedule"]["cron"] for s in server.recurring.values()
    }
    assert crons == {"bonexray": "5 0 2 * * 6", "another": "0 0 4 * * 1"}


def test_the_same_twice_leaves_one(drive: Drive, server: KfpServer) -> None:
    for _ in range(2):
        drive("schedule", "--cron", "0 2 * * 0")
    assert len(server.recurring) == 1


def test_one_that_was_not_made_is_told_and_the_one_before_stays(
    drive: Drive, refused: Drive, server: KfpServer
) -> None:
    drive("schedule", "--cron", "0 2 * * 0")
    server.fail("POST /apis/v2beta1/recurringruns", 503)
    assert "it failed with 503" in refused("schedule", "--cron", "0 5 * * 1")
    (schedule,) = server.recurring.values()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * 0"


@pytest.mark.parametrize("route", ["POST /apis/v2beta1/recurringruns", "DELETE"])
def test_a_lost_answer_leaves_the_new_one_alone(
    drive: Drive, server: KfpServer, route: str
) -> None:
    drive("schedule", "--cron", "0 2 * * 0")
    server.fail(route, "lost")
    drive("schedule", "--cron", "0 5 * * 1")
    (schedule,) = server.recurring.values()
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 5 * * 1"


def test_one_of_that_name_of_another_pipeline_is_left_alone(
    drive: Drive, refused: Drive, server: KfpServer
) -> None:
    reference = {"pipeline_id": "theirs", "pipeline_version_id": "theirs"}
    theirs = {"recurring_run_id": "theirs", "pipeline_version_reference": reference}
    server.recurring["theirs"] = theirs | {"display_name": "nightly"}
    assert "no schedule 'nightly' of bonexray" in refused("unschedule", "--name", "nightly")
    drive("schedule", "--cron", "0 2 * * 0", "--name", "nightly")
    drive("unschedule", "--name", "nightly")
    assert list(server.recurring) == ["theirs"]


def test_a_schedule_can_be_removed_by_its_name(
    drive: Drive, refused: Drive, server: KfpServer
) -> None:
    drive("schedule", "--cron", "0 2 * * 0")
    assert "no schedule 'nightly' of bonexray, expected one of: bonexray" in refused(
        "unschedule", "--name", "nightly"
    )
    assert "removed" in drive("unschedule")
    assert not server.recurring


@pytest.mark.parametrize("cron", ["", "every day", "0 0 2 * * 0 2027"])
def test_what_is_no_cron_is_refused(refused: Drive, server: KfpServer, cron: str) -> None:
    assert f"--cron {cron!r}" in refused("schedule", "--cron", cron)
    assert not server.asked
