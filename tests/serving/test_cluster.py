from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.kubernetes_server import write_kubeconfig
from tests.serving.rollout_team import Team, new_team


@pytest.fixture
def team(tmp_path: Path, bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Team]:
    with new_team(tmp_path, bundle_folder, capsys) as team:
        yield team


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "it does not know you"),
        (403, "it does not let you: a 403 was asked for"),
        (409, "another field manager has set what a rollout sets: a 409"),
        (422, "it refuses the object: a 422"),
        (429, "it refuses with 429"),
        (503, "it failed with 503, 4 times: a 503"),
    ],
)
@pytest.mark.parametrize("command", ["start", "status"])
def test_what_the_cluster_refuses_is_told_in_a_line(
    team: Team, status: int, message: str, command: str
) -> None:
    team.server.fail(status, "inferenceservices")
    error = team.refused(command)
    assert message in error
    assert f"{team.server.url}: InferenceService radiology/bonexray: " in error


def test_a_cluster_that_knows_neither_you_nor_kserve_nor_the_namespace_says_which(
    team: Team,
) -> None:
    team.server.namespaces.clear()
    assert "there is no namespace 'radiology'" in team.refused("start")
    team.server.kinds.remove("inferenceservices")
    assert "KServe (0.20 or later) is not installed: 404 page" not in team.refused("status")
    assert "KServe (0.20 or later) is not installed" in team.refused("status")
    write_kubeconfig(team.folder / "kubeconfig", team.server.url, "another-token")
    error = team.refused("status")
    assert "it does not know you" in error
    assert "another-token" not in error


def test_a_cluster_that_stumbles_is_asked_again(team: Team) -> None:
    team.server.fail(500, times=3)
    team.call("start")
    assert team.served() == ("3", None)


def test_a_cluster_that_is_silent_away_or_unnamed_is_told_in_a_line(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.server.hang_s = 1.5
    assert "no answer in 0.3 s (--timeout)" in team.refused("status", "--timeout", "0.3")
    write_kubeconfig(team.folder / "kubeconfig", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9: cannot be reached: " in team.refused("status")
    assert "no cluster to roll out to: " in team.refused("status", "--context", "elsewhere")
    monkeypatch.setenv("KUBECONFIG", str(team.folder / "nothing"))
    assert "no cluster to roll out to: " in team.refused("status")


def test_what_another_manager_has_set_is_not_taken_from_it(team: Team) -> None:
    team.call("start")
    (path,) = (path for path in team.server.objects if "inferenceservices" in path)
    theirs = {"spec": {"predictor": {"minReplicas": 9}}}
    team.server.applied[path, "kubectl-edit"] = theirs
    error = team.refused("promote")
    assert 'conflict with "kubectl-edit": .spec.predictor.minReplicas' in error


def test_a_canary_that_another_manager_holds_on_to_is_not_called_ended(team: Team) -> None:
    team.call("start")
    team.approve("4")
    team.call("start")
    (path,) = (path for path in team.server.objects if "inferenceservices" in path)
    del team.server.applied[path, "bonexray"]["spec"]["canary"]
    assert "another field manager holds on to its canary" in team.refused("abort")


def test_a_service_of_somebody_else_is_left_alone(team: Team) -> None:
    team.call("start")
    del team.server.service()["spec"]["predictor"]["annotations"]
    team.approve("4")
    for command in ("start", "abort", "status"):
        assert "was not put there by `python -m serving.rollout`" in team.refused(command)


def test_what_kserve_itself_refuses_is_told_as_a_refusal_of_the_object(team: Team) -> None:
    team.call("start")
    environment = team.server.service()["spec"]["predictor"]["containers"][0]["env"]
    environment[:] = [each for each in environment if each["name"] != "STORAGE_URI"]
    team.approve("4")
    error = team.refused("start")
    assert "it refuses the object: admission webhook" in error
    assert "canary requires a stable predictor with a model" in error


def test_the_schema_refuses_what_is_no_service_and_its_words_are_passed_on(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    if team.server.validator is None:
        pytest.skip("the published schemas are not beside this checkout")
    from serving import pods

    probe = pods._probe
    monkeypatch.setattr(pods, "_probe", lambda *a, **k: {**probe(*a, **k), "unheard": 1})
    error = team.refused("start")
    assert "it refuses the object: InferenceService is invalid" in error
    assert "'unheard' was unexpected" in error
