"""The Pod Security Standard `restricted`, as far as pods of ours touch it."""

from typing import Any

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
VOLUMES |= {"projected", "secret"}
PROFILES = ({"type": "RuntimeDefault"},)


def breaches(pod: dict[str, Any]) -> list[str]:
    """What a namespace that enforces it would refuse this pod's spec for."""
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    for volume in pod.get("volumes", []):
        found += [f"volume {kind}" for kind in set(volume) - {"name"} - VOLUMES]
    for container in pod.get("initContainers", []) + pod["containers"]:
        found += [f"{container['name']}: {why}" for why in _of(container, pod)]
    return found


def _of(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    own, shared = container.get("securityContext", {}), pod.get("securityContext", {})
    both = shared | own
    wrong = {
        "may gain privileges": own.get("allowPrivilegeEscalation") is not False,
        "privileged": own.get("privileged", False),
        "keeps capabilities": own.get("capabilities", {}) != {"drop": ["ALL"]},
        "may be root": both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0,
        "any system call": both.get("seccompProfile") not in PROFILES,
        "a port of the host": any("hostPort" in port for port in container.get("ports", [])),
    }
    return [why for why, is_so in wrong.items() if is_so]
