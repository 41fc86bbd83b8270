"""The pod template of a backend's configuration: what an administrator may add to every pod, and where.

It has the shape of a PodTemplateSpec with one container, `main`. What it may hold is listed, so that nothing that
keeps jobs apart from the cluster, or the attempt together, can be taken away by a key that nobody thought of:
user, capabilities, service account tokens, the host's namespaces and the restart policy are ours.
"""

from collections.abc import Mapping
from typing import Any

from db import texts

PREFIX = "rungraph/"

MAIN = "main"
VOLUMES = frozenset({"job", "courier", "box", "journal", "source", "input", "output", "spool", "client"})
_OURS = ("/rungraph", "/mnt/source", "/mnt/input", "/mnt/output", "/mnt/spool", "/mnt/client")
_METADATA = {"labels", "annotations"}
_SPEC = {
    "activeDeadlineSeconds", "affinity", "containers", "dnsConfig", "dnsPolicy", "hostAliases", "imagePullSecrets",
    "nodeSelector", "overhead", "preemptionPolicy", "priorityClassName", "runtimeClassName",
    "schedulerName", "serviceAccountName", "tolerations", "topologySpreadConstraints", "volumes",
}  # fmt: skip
_CONTAINER = {"name", "volumeMounts", "volumeDevices", "envFrom", "imagePullPolicy"}


def read(value: Any) -> Mapping[str, Any]:
    """A template as configured; raises ValueError, saying where and why."""
    top = _fields(value, "pod", {"metadata", "spec"})
    for kind, given in _fields(top.get("metadata") or {}, "pod.metadata", _METADATA).items():
        for key in _mapping(given, f"pod.metadata.{kind}"):
            if str(key).startswith(PREFIX):
                raise ValueError(f"pod.metadata.{kind}.{key} would change what finds the pods again")
    spec = _fields(top.get("spec") or {}, "pod.spec", _SPEC)
    for number, volume in enumerate(_list(spec.get("volumes"), "pod.spec.volumes")):
        name = _mapping(volume, f"pod.spec.volumes[{number}]").get("name")
        if name in VOLUMES:
            raise ValueError(
                f"pod.spec.volumes[{number}].name: {name} is a volume that every pod has already"
            )
    containers = _list(spec.get("containers"), "pod.spec.containers")
    if len(containers) > 1:
        raise ValueError(f"pod.spec.containers may name one container, {MAIN}, not {len(containers)}")
    for container in containers:
        _check_container(container)
    return top


def _check_container(container: Any) -> None:
    where = "pod.spec.containers[0]"
    given = _fields(container, where, _CONTAINER)
    if given.get("name") != MAIN:
        raise ValueError(f"{where}.name must be {MAIN}, not {texts.shown(given.get('name'))}")
    for number, mount in enumerate(_list(given.get("volumeMounts"), f"{where}.volumeMounts")):
        path = str(_mapping(mount, f"{where}.volumeMounts[{number}]").get("mountPath", ""))
        if any(f"{path.rstrip('/')}/".startswith(f"{ours}/") for ours in _OURS) or path.rstrip("/") in (
            "",
            "/mnt",
        ):
            raise ValueError(
                f"{where}.volumeMounts[{number}].mountPath: {path} would hide what a job is given"
            )


def merge(pod: dict[str, Any], template: Mapping[str, Any] | None) -> dict[str, Any]:
    """A pod of ours with what the template adds; what both say is ours, lists and mappings are joined."""
    if template is None:
        return pod
    metadata, spec = template.get("metadata") or {}, dict(template.get("spec") or {})
    added: dict[str, Any] = dict((spec.pop("containers", None) or [{}])[0])
    main = pod["spec"]["containers"][-1]
    pod["spec"]["containers"][-1] = _joined({**added, **main}, added, main, ("volumeMounts", "volumeDevices"))
    pod["spec"] = _joined({**spec, **pod["spec"]}, spec, pod["spec"], ("volumes",))
    for kind in _METADATA:
        joined = {**(metadata.get(kind) or {}), **(pod["metadata"].get(kind) or {})}
        if joined:
            pod["metadata"][kind] = joined
    return pod


def _joined(
    result: dict[str, Any], one: Mapping[str, Any], two: Mapping[str, Any], lists: tuple[str, ...]
) -> dict[str, Any]:
    for name in lists:
        if one.get(name) or two.get(name):
            result[name] = [*(two.get(name) or ()), *(one.get(name) or ())]
    return result


def _fields(value: Any, where: str, known: set[str]) -> Mapping[str, Any]:
    given = _mapping(value, where)
    for name in given:
        if name not in known:
            close = texts.suggestion(str(name), known)
            raise ValueError(f"{where}.{name} is not among what a template may set{close}")
    return given


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a mapping, not {texts.shown(value)}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, not {texts.shown(value)}")
    return value
