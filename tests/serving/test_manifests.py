import re
from pathlib import Path
from typing import Any

import kserve
import pytest
import yaml
from kubernetes import client

from bonexray.config import read_section
from bonexray.errors import ConfigError
from bonexray.release_config import ClusterConfig
from bonexray.serve_config import ServeConfig
from bonexray.store import Champion
from serving.manifests import Canary, champion_of, render, write
from tests.conftest import TINY
from tests.serving.kubernetes_server import service_validator

STABLE = Champion(model_name="bonexray", version="3", digest="3" * 64)
NEXT = Champion(model_name="bonexray", version="4", digest="4" * 64)
CANARY = Canary(champion=NEXT, percent=10)
SERVE = ServeConfig.model_validate(TINY["serve"])
TYPES = {
    "InferenceService": "V1beta1InferenceService",
    "NetworkPolicy": "V1NetworkPolicy",
    "PodDisruptionBudget": "V1PodDisruptionBudget",
    "ServiceAccount": "V1ServiceAccount",
}


def config(**fields: Any) -> ClusterConfig:
    return ClusterConfig.model_validate({**TINY["release"]["cluster"], **fields})


def service(**fields: Any) -> dict[str, Any]:
    return render(STABLE, config(**fields), SERVE, CANARY)[-1]


def predictors(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [document["spec"]["predictor"], document["spec"]["canary"][0]["predictor"]]


def flags(container: dict[str, Any]) -> dict[str, str]:
    return dict(zip(container["args"][::2], container["args"][1::2], strict=True))


class SdkClient(client.ApiClient):
    """Kubernetes' own reading of objects, which also knows KServe's types."""

    def _ApiClient__deserialize(self, data: Any, klass: Any) -> Any:  # noqa: N802
        if isinstance(klass, str):
            # What KServe's types call by its Go package, Kubernetes' call by its version alone.
            klass = re.sub(r"^K8sIoApi\w+?(V1[A-Z])", r"\1", klass)
            klass = getattr(kserve, klass, klass)
        return super()._ApiClient__deserialize(data, klass)  # type: ignore[misc]


def through_the_sdk(document: dict[str, Any]) -> Any:
    sdk = SdkClient()
    name = TYPES[document["kind"]]
    return sdk.sanitize_for_serialization(sdk._ApiClient__deserialize(document, name))


@pytest.fixture(scope="module")
def validator() -> Any:
    found = service_validator()
    if found is None:
        pytest.skip("the published schemas are not beside this checkout")
    return found


@pytest.mark.parametrize("store", ["s3://bonexray/release", "pvc://claim/folder", "pvc://claim"])
def test_the_service_is_one_as_published_and_an_unknown_field_is_not(
    validator: Any, store: str
) -> None:
    document = service(store=store)
    assert [error.message for error in validator.iter_errors(document)] == []
    for predictor in predictors(document):
        predictor["containers"][0]["livenessProbe"]["unheard"] = 1
    assert len(list(validator.iter_errors(document))) == 2


@pytest.mark.parametrize("number", range(4))
def test_each_object_comes_through_the_types_of_its_sdk_unchanged(number: int) -> None:
    document = render(STABLE, config(store="pvc://claim/folder"), SERVE, CANARY)[number]
    assert through_the_sdk(document) == document
    strange = {**document, "spec": {**document.get("spec", {}), "unheard": 1}}
    assert through_the_sdk(strange) != strange


def test_a_canary_fetches_its_own_bundle_and_the_stable_version_its_own() -> None:
    document = service()
    fetched = [flags(predictor["initContainers"][0]) for predictor in predictors(document)]
    assert [given["--digest"] for given in fetched] == ["3" * 64, "4" * 64]
    assert [given["--version"] for given in fetched] == ["3", "4"]
    assert [champion_of(predictor) for predictor in predictors(document)] == [STABLE, NEXT]
    assert document["spec"]["canary"][0]["trafficPercent"] == 10


def test_kserve_accepts_a_canary_and_adds_no_download_of_its_own() -> None:
    for predictor, champion in zip(predictors(service()), (STABLE, NEXT), strict=True):
        # What its validation and its pod webhook look at.
        assert [each["name"] for each in predictor["initContainers"]] == ["storage-initializer"]
        environment = {
            each["name"]: each.get("value", "") for each in predictor["containers"][0]["env"]
        }
        assert environment["STORAGE_URI"] == f"s3://bonexray/release/bundles/{champion.digest}"
        assert environment["PROTOCOL"] == "v2"
    canary = predictors(service())[1]
    assert canary["name"]
    assert not {"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"} & set(canary)
    assert service()["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"


def test_no_container_may_do_more_than_it_must() -> None:
    for predictor in predictors(service()):
        pod = predictor["securityContext"]
        assert (pod["runAsNonRoot"], pod["runAsUser"]) == (True, 10001)
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert predictor["automountServiceAccountToken"] is False
        for container in predictor["initContainers"] + predictor["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert "@sha256:" in container["image"]


def test_what_serves_cannot_alter_its_bundle_and_has_no_key_of_the_store() -> None:
    for store in ("s3://bonexray/release", "pvc://claim/folder"):
        for predictor in predictors(service(store=store)):
            (container,) = predictor["containers"]
            writable = [
                each["name"] for each in container["volumeMounts"] if "readOnly" not in each
            ]
            assert writable == ["tmp", "audit"]
            assert "store" not in {each["name"] for each in container["volumeMounts"]}
            assert "envFrom" not in container


SECRETS = {"audit_claim": "records", "clients_secret": "clients", "tls_secret": "tls"}


def test_every_mount_has_its_volume() -> None:
    for more in ({}, SECRETS, {"store": "pvc://claim/folder"}):
        for predictor in predictors(service(**more)):
            volumes = {volume["name"] for volume in predictor["volumes"]}
            containers = predictor["initContainers"] + predictor["containers"]
            mounted = {mount["name"] for each in containers for mount in each["volumeMounts"]}
            assert mounted == volumes


def test_a_store_on_a_volume_is_read_where_it_is_mounted_and_needs_no_way_out() -> None:
    document = service(store="pvc://claim/a/folder")
    init = predictors(document)[0]["initContainers"][0]
    assert flags(init)["--source"] == "/store/a/folder"
    assert "envFrom" not in init
    policy = render(STABLE, config(store="pvc://claim"), SERVE)[1]
    assert policy["spec"]["egress"] == []
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_the_flags_are_those_that_the_commands_know() -> None:
    from serving import __main__, fetch, setup

    predictor = predictors(service(**SECRETS))[0]
    for container, modules in (("initContainers", [fetch]), ("containers", [__main__, setup])):
        source = "".join(Path(module.__file__).read_text() for module in modules)
        for flag in flags(predictor[container][0]):
            assert f'"{flag}"' in source, flag


def test_a_pod_behind_tls_is_asked_by_tls_and_one_that_lingers_is_given_the_time() -> None:
    plain, secret = predictors(service())[0], predictors(service(**SECRETS))[0]
    for predictor, scheme in ((plain, "HTTP"), (secret, "HTTPS")):
        (container,) = predictor["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["scheme"] == scheme
    serve = SERVE.model_copy(update={"lame_duck_s": 7.5})
    pod = render(STABLE, config(), serve)[-1]["spec"]["predictor"]
    assert pod["terminationGracePeriodSeconds"] == 68
    told = read_section(flags(pod["containers"][0])["--params"], ServeConfig)
    assert told == serve


def test_the_stable_version_stays_as_it_stands_when_that_is_asked_for() -> None:
    standing = {**predictors(service())[0], "minReplicas": 7}
    document = render(STABLE, config(), SERVE, CANARY, standing)[-1]
    assert document["spec"]["predictor"] == standing


@pytest.mark.parametrize(
    ("canary", "message"),
    [
        (Canary(champion=NEXT, percent=100), "a canary of 100 %, expected 0 to 99"),
        (Canary(champion=NEXT, percent=-1), "a canary of -1 %"),
        (Canary(champion=STABLE, percent=5), "version 3 cannot be the canary beside itself"),
    ],
)
def test_a_canary_that_makes_no_sense_is_refused(canary: Canary, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render(STABLE, config(), SERVE, canary)


def test_the_files_are_the_objects_and_nothing_else(tmp_path: Path) -> None:
    documents = render(STABLE, config(), SERVE, CANARY)
    for _ in range(2):
        write(tmp_path / "cluster", documents)
    kustomization = yaml.safe_load((tmp_path / "cluster/kustomization.yaml").read_text())
    names = kustomization["resources"]
    read = [yaml.safe_load((tmp_path / "cluster" / name).read_text()) for name in names]
    assert read == documents
    written = {path.name for path in (tmp_path / "cluster").iterdir()}
    assert written == {*names, "kustomization.yaml"}
    assert "&id" not in (tmp_path / "cluster/inferenceservice.yaml").read_text()


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match="holds .'thesis.tex'., expected a place of its own"):
        write(tmp_path, render(STABLE, config(), SERVE))
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_predictor_of_somebody_else_is_no_version_of_ours() -> None:
    with pytest.raises(ConfigError, match="was not put there by"):
        champion_of({"annotations": {"bonexray/version": "3"}})
