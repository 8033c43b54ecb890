import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from bonexray.store import BundleStore
from serving import fetch
from tests.serving.rollout_team import Team, new_team


@pytest.fixture
def team(tmp_path: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Team]:
    with new_team(tmp_path, bundle_folder, capsys) as team:
        yield team


def test_the_first_champion_is_the_stable_version(team: Team) -> None:
    digest = team.approve("3").digest
    stable, by_hand = team.call("start").splitlines()
    name = "rollout: bonexray in radiology:"
    assert stable == f"{name} version 3 ({digest[:12]}) is the stable version"
    assert by_hand.startswith("rollout: pvc://claim/release is filled by hand")
    assert team.served() == ("3", None)
    assert {path.split("/")[-2] for path in team.server.objects} == team.server.kinds


def test_the_next_champion_is_a_canary_until_it_is_promoted(team: Team) -> None:
    team.call("start")
    stable = team.server.service()["spec"]["predictor"]
    team.approve("4")
    team.configure(cpu=8)  # what params.yaml says now does not change what is measured against
    assert "version 4" in team.call("start")
    assert team.served() == ("3", "4")
    spec = team.server.service()["spec"]
    assert spec["canary"][0]["trafficPercent"] == 10
    assert spec["predictor"] == stable
    said = team.call("promote")
    assert "version 4" in said
    assert "is the stable version" in said
    assert team.served() == ("4", None)
    spec = team.server.service()["spec"]
    assert spec["predictor"]["containers"][0]["resources"]["limits"]["cpu"] == "8"


def test_an_aborted_canary_leaves_the_stable_version_as_it_was(team: Team) -> None:
    team.call("start")
    before = team.server.service()
    team.approve("4")
    team.call("start", "--percent", "25")
    assert team.server.service()["spec"]["canary"][0]["trafficPercent"] == 25
    assert "the canary version 4" in team.call("abort")
    assert team.server.service() == before
    assert "no canary to end; version 3" in team.call("abort")
    assert team.server.service() == before


def test_a_rollback_is_put_on_the_cluster_by_promote_alone(team: Team) -> None:
    team.call("start")
    team.approve("4")
    team.call("start")
    team.call("promote")
    team.approve("3")
    assert "version 3" in team.call("promote")
    assert team.served() == ("3", None)


def test_a_rollback_while_its_successor_is_a_canary_ends_the_canary(team: Team) -> None:
    team.call("start")
    team.approve("4")
    team.call("start")
    team.approve("3")
    team.call("promote")
    assert team.served() == ("3", None)


def test_the_share_of_a_canary_can_be_changed_to_none_and_back(team: Team) -> None:
    team.call("start")
    team.approve("4")
    for percent in (10, 0, 50):
        team.call("start", "--percent", str(percent))
        (canary,) = team.server.service()["spec"]["canary"]
        assert (canary["trafficPercent"], canary["predictor"]["minReplicas"]) == (percent, 1)


def test_a_newer_champion_takes_the_place_of_a_canary_and_is_not_promoted_unseen(
    team: Team,
) -> None:
    team.call("start")
    team.approve("4")
    team.call("start")
    team.approve("5")
    error = team.refused("promote")
    assert "the canary is version 4" in error
    assert "the champion version 5" in error
    team.call("start")
    assert team.served() == ("3", "5")


def test_the_stable_version_is_no_canary_of_itself(team: Team) -> None:
    team.call("start")
    asked = len(team.server.asked)
    assert "version 3" in (error := team.refused("start"))
    assert "is the stable version already" in error
    assert not any(line.startswith("PATCH") for line in team.server.asked[asked:])


def test_nothing_is_promoted_or_aborted_before_there_is_something(team: Team) -> None:
    for command in ("promote", "abort"):
        assert "nothing is served yet; `start`" in team.refused(command)
    assert "nothing is served yet" in team.call("status")


def test_the_status_names_versions_shares_conditions_and_what_is_not_served(team: Team) -> None:
    first = team.approve("3")
    team.call("start")
    assert "KServe has not said yet" in team.call("status")
    second = team.approve("4")
    team.call("start")
    team.server.service()["status"] = {
        "conditions": [
            {"type": "PredictorReady", "status": "True"},
            {"type": "CanaryPredictorReady", "status": "False", "reason": "CanariesNotReady"},
            {"type": "Ready", "status": "Unknown", "reason": "Slow", "message": "two\nlines"},
        ]
    }
    team.approve("5")
    name = "rollout: bonexray in radiology:"
    assert team.call("status").splitlines()[:5] == [
        f"{name} version 3 ({first.digest[:12]}) is the stable version",
        f"{name} version 4 ({second.digest[:12]}) gets 10 %",
        "rollout: PredictorReady is True",
        "rollout: CanaryPredictorReady is False: CanariesNotReady",
        "rollout: Ready is Unknown: Slow: two lines",
    ]
    assert "the champion is version 5" in team.call("status").splitlines()[5]


@pytest.mark.parametrize("percent", ["100", "-1"])
def test_a_share_that_is_none_is_refused(team: Team, percent: str) -> None:
    team.call("start")
    team.approve("4")
    assert f"a canary of {percent} %, expected 0 to 99" in team.refused(
        "start", f"--percent={percent}"
    )
    assert team.served() == ("3", None)


def unsigned(team: Team) -> None:
    shutil.rmtree(team.folder / "release/signatures")


def altered(team: Team) -> None:
    (model,) = (team.folder / "release/bundles").glob("*/model.onnx")
    model.write_bytes(b"altered")


def not_approved(team: Team) -> None:
    (team.folder / "release/champion.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unsigned, "no such signature"),
        (altered, "model.onnx: SHA-256 is"),
        (not_approved, "approve a candidate first"),
    ],
)
def test_what_a_pod_would_refuse_never_reaches_the_cluster(
    team: Team, spoil: Callable[[Team], None], message: str
) -> None:
    spoil(team)
    for command, more in (("start", []), ("promote", []), ("render", ["--out", "never"])):
        assert message in team.refused(command, *more)
    assert team.server.asked == []


def test_the_rendered_files_are_what_start_applies(team: Team) -> None:
    out = team.folder / "cluster"
    team.call("render", "--out", str(out))
    assert team.server.asked == []
    team.call("start")
    names = yaml.safe_load((out / "kustomization.yaml").read_text())["resources"]
    rendered = [yaml.safe_load((out / name).read_text()) for name in names]
    assert list(team.server.objects.values()) == rendered


@pytest.mark.parametrize("plural", ["networkpolicies", "poddisruptionbudgets", "inferenceservices"])
def test_a_start_that_was_cut_off_is_finished_by_the_next(team: Team, plural: str) -> None:
    team.server.fail(403, plural)
    team.refused("start")
    assert not any(plural in path for path in team.server.objects)
    team.server.fault = None
    team.call("start")
    assert team.served() == ("3", None)
    team.approve("4")
    team.server.fail(403, plural)
    team.refused("start")
    assert team.served() == ("3", None)
    team.server.fault = None
    team.call("start")
    assert team.served() == ("3", "4")


@pytest.mark.usefixtures("bucket")
def test_the_pods_of_both_versions_fetch_what_start_published(team: Team) -> None:
    team.configure(store="s3://hospital/bonexray")
    champions = [team.approve("3")]
    team.call("start")
    champions.append(team.approve("4"))
    team.call("start")
    spec = team.server.service()["spec"]
    pods = [spec["predictor"], spec["canary"][0]["predictor"]]
    for pod, champion in zip(pods, champions, strict=True):
        (container,) = pod["initContainers"]
        assert container["command"] == ["python", "-m", "serving.fetch"]
        out = team.folder / f"pod-{champion.version}"
        places = ["--trust", str(team.folder / "release.pub"), "--out", str(out)]
        fetch.main([*container["args"], *places])
        assert BundleStore(out).champion() == champion


def test_a_start_that_is_killed_between_two_objects_is_finished_by_the_next(team: Team) -> None:
    team.server.hang_s = 0.5
    command = [sys.executable, "-m", "serving.rollout", "start", *team.flags("start")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    while not any("poddisruptionbudgets" in line for line in team.server.asked):
        assert process.poll() is None
    process.kill()
    process.wait(timeout=20)
    team.server.hang_s = 0
    assert not any("inferenceservices" in path for path in team.server.objects)
    team.call("start")
    assert team.served() == ("3", None)
