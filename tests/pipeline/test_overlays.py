import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bonexray.kubeflow_config import KubeflowConfig
from pipeline import nodes
from pipeline.overlay import build, check_overlay, name_of
from pipeline.pods import KEYS, PLACES
from tests.pipeline.restricted import breaches

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "pipeline/manifests"
OVERLAYS = ("standalone", "multi-user", "production")
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
CLUSTER = KubeflowConfig.model_validate(PARAMS["kubeflow"])
REGISTRY = "bonexray-registry"

Document = dict[str, Any]

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: it builds the overlays"
)


@cache
def objects(name: str) -> list[Document]:
    return build(MANIFESTS / "overlays" / name)


def of_kind(name: str, kind: str) -> list[Document]:
    return [document for document in objects(name) if document["kind"] == kind]


def one(name: str, kind: str, called: str) -> Document:
    (found,) = (each for each in of_kind(name, kind) if each["metadata"]["name"] == called)
    return found


def workloads(name: str) -> list[Document]:
    return of_kind(name, "Deployment") + of_kind(name, "StatefulSet")


def runs_in(name: str) -> str:
    return "kubeflow" if name == "standalone" else CLUSTER.namespace


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_read_as_kubernetes_reads_it(name: str) -> None:
    said = check_overlay(MANIFESTS / "overlays" / name, pinned=False)
    assert said.endswith(f"{len(objects(name))} objects as Kubernetes 1.33 reads them, 2 images")


def test_nothing_is_fetched_and_no_secret_lies_in_the_manifests() -> None:
    for path in MANIFESTS.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(path.read_text())
        for entry in kustomization.get("resources", []) + kustomization.get("components", []):
            assert (path.parent / entry).exists(), entry
    for name in OVERLAYS:
        assert of_kind(name, "Secret") == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_names_are_those_of_params_yaml(name: str) -> None:
    place = runs_in(name)
    for kind, called in (
        ("ServiceAccount", CLUSTER.service_account),
        ("ConfigMap", CLUSTER.config_map),
    ):
        assert one(name, kind, called)["metadata"]["namespace"] == place
    places = one(name, "ConfigMap", CLUSTER.config_map)["data"]
    assert set(places) <= set(PLACES)
    service = one(name, "Service", "mlflow")
    (port,) = service["spec"]["ports"]
    host = f"mlflow.{service['metadata']['namespace']}.svc.cluster.local:{port['port']}"
    assert places["MLFLOW_TRACKING_URI"] == f"http://{host}"
    allowed = one(name, "ConfigMap", "mlflow-places")["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert host in allowed.split(",")


def test_the_launcher_takes_the_keys_of_the_steps() -> None:
    patch = yaml.safe_load((MANIFESTS / "steps/launcher-patch.yaml").read_text())
    found = yaml.safe_load(patch["data"]["providers"])["s3"]["default"]
    places = one("multi-user", "ConfigMap", CLUSTER.config_map)["data"]
    assert found["endpoint"] == places["AWS_ENDPOINT_URL"]
    secret = found["credentials"]["secretRef"]
    assert secret["secretName"] == CLUSTER.secret
    assert {secret["accessKeyKey"], secret["secretKeyKey"]} <= set(KEYS)


def test_the_secret_and_the_volume_that_the_page_makes_are_those_of_the_steps() -> None:
    page = (ROOT / "docs/kubeflow.md").read_text()
    made = re.search(rf"create secret generic {CLUSTER.secret}((?: \\\n.*| --from.*)+)", page)
    assert made is not None
    assert set(re.findall(r"--from-literal=(\w+)=", made[1])) <= set(KEYS)
    (volume,) = of_kind("production", "PersistentVolumeClaim")
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert f"`{volume['metadata']['name']}`" in page
    # Whatever a workload reads from a Secret, the page says how to make it.
    read = re.findall(
        r"secret(?:Key)?Ref': \{[^}]*'name': '([a-z-]+)'", str(workloads("production"))
    )
    assert set(read) == {"mlflow-keys", "mlflow-passwords", "postgresql-keys"}
    for secret in read:
        assert f"create secret generic {secret}" in page


@pytest.mark.parametrize("name", OVERLAYS)
def test_rights_are_named_one_by_one_and_end_at_the_namespace(name: str) -> None:
    assert {kind for kind in map(kind_of, objects(name)) if kind.startswith("Cluster")} == set()
    for role in of_kind(name, "Role"):
        assert role["metadata"]["namespace"] == runs_in(name)
        for rule in role["rules"]:
            assert "*" not in str(rule)
            assert not {"create", "update", "patch", "list", "watch"} & set(rule["verbs"]) or (
                set(rule["resources"]) <= {"trainjobs", "workflowtaskresults"}
            )
            if "secrets" in rule["resources"]:
                assert CLUSTER.secret in rule["resourceNames"]
    for binding in of_kind(name, "RoleBinding"):
        assert one(name, "Role", binding["roleRef"]["name"])
        (subject,) = binding["subjects"]
        assert subject["name"] == CLUSTER.service_account
        assert subject["namespace"] == binding["metadata"]["namespace"] == runs_in(name)


def test_the_verbs_on_train_jobs_are_those_that_the_step_uses() -> None:
    source = Path(nodes.__file__).read_text()
    used = re.findall(r"\.(\w+?)_namespaced_custom_object\(", source)
    (rule,) = one("production", "Role", "bonexray-nodes")["rules"]
    assert set(rule["verbs"]) == set(used)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_satisfies_the_standard_that_its_namespace_enforces(name: str) -> None:
    for workload in workloads(name):
        pod = workload["spec"]["template"]["spec"]
        assert breaches(pod) == []
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
            assert {"requests", "limits"} <= set(container["resources"])
        assert pod["automountServiceAccountToken"] is False
    for namespace in of_kind(name, "Namespace"):
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_service_and_every_policy_finds_its_pods(name: str) -> None:
    ours = {
        workload["metadata"]["namespace"]: [
            each["spec"]["template"]["metadata"]["labels"]
            for each in workloads(name)
            if each["metadata"]["namespace"] == workload["metadata"]["namespace"]
        ]
        for workload in workloads(name)
    }
    for service in of_kind(name, "Service"):
        labels = ours[service["metadata"]["namespace"]]
        assert any(service["spec"]["selector"].items() <= each.items() for each in labels)
    # What Kubeflow, Argo and JobSet give the pods that they make for us.
    ours[runs_in(name)] = [
        {"pipelines.kubeflow.org/v2_component": "true"},
        {"jobset.sigs.k8s.io/jobset-name": "bonexray-1-resnet18"},
    ]
    for policy in of_kind(name, "NetworkPolicy"):
        labels = ours[policy["metadata"]["namespace"]]
        assert any(selects(policy["spec"]["podSelector"], each) for each in labels), name_of(policy)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_database_is_reached_by_mlflow_alone_and_reaches_nobody(name: str) -> None:
    policy = one(name, "NetworkPolicy", "postgresql")["spec"]
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "mlflow"}}}]
    denied = [
        each["metadata"]["namespace"]
        for each in of_kind(name, "NetworkPolicy")
        if each["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ]
    # Kubeflow's own namespace is not ours to close.
    assert set(denied) == {REGISTRY, runs_in(name)} - {"kubeflow"}


def test_what_a_training_asks_for_is_in_the_quota() -> None:
    quota = one("multi-user", "ResourceQuota", "bonexray")["spec"]["hard"]
    assert f"requests.{CLUSTER.gpu_type}" in quota
    assert int(quota["requests.cpu"]) >= CLUSTER.cpu * len(PARAMS["networks"]["archs"])
    assert not [key for key in quota if key.startswith("limits.")]
    (limits,) = one("multi-user", "LimitRange", "bonexray")["spec"]["limits"]
    # A default limit would refuse a step that asks for more than it.
    assert set(limits) == {"type", "defaultRequest"}


def kind_of(document: Document) -> str:
    return str(document["kind"])


def selects(selector: Document, labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(fits(each, labels) for each in selector.get("matchExpressions", []))


def fits(expression: Document, labels: dict[str, str]) -> bool:
    assert expression["operator"] in ("Exists", "In")
    found = labels.get(expression["key"])
    return found is not None and found in expression.get("values", [found])
