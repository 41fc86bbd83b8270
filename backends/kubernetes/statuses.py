"""What a pod says of itself, and of its containers, as the API gives it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Pod = Mapping[str, Any]


def container(pod: Pod, name: str) -> Mapping[str, Any]:
    """What the cluster says of a container; empty when it says nothing yet."""
    status = pod.get("status") or {}
    for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if each.get("name") == name:
            found: Mapping[str, Any] = each
            return found
    return {}


def is_running(pod: Pod, name: str) -> bool:
    """Whether a container runs just now."""
    return "running" in (container(pod, name).get("state") or {})


def condition(pod: Pod, kind: str) -> Mapping[str, Any]:
    """One of the pod's conditions; empty when it has none of this kind."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == kind), {})


def image(pod: Pod, name: str) -> str:
    """What a container runs in."""
    spec = pod["spec"]
    for each in (*(spec.get("initContainers") or ()), *spec["containers"]):
        if each["name"] == name:
            return str(each["image"])
    return name


def moment(text: str | None) -> datetime | None:
    """A time as the API writes it."""
    return datetime.fromisoformat(text) if text else None


def micros(at: datetime) -> int:
    """Since the epoch."""
    return round(at.timestamp() * 1_000_000)
