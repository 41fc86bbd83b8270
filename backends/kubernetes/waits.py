"""Why a pod that should run does not, in the cluster's words. Pure."""

from datetime import UTC, datetime

from backends.kubernetes import template
from backends.kubernetes.ends import CANNOT_START, IMAGE_PERHAPS
from backends.kubernetes.statuses import Pod, condition, container, image, moment

FETCH_SECONDS = 20.0
"""Until it is told that a job has not got its files yet."""
QUIET_SECONDS = 5.0
"""Until it is asked why a node has not begun with a pod."""
SLOW_SECONDS = 30.0
"""Until it is told that it has not, where nobody says why."""
_CONTAINERS = ("fetch", "courier", template.MAIN)


def words(pod: Pod, complaint: str | None = None, now: datetime | None = None) -> str | None:
    """None when nothing keeps it; `complaint` is what the cluster's events say of it."""
    now = now or datetime.now(UTC)
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return str(scheduled.get("message") or scheduled.get("reason"))
    for name in _CONTAINERS:
        waiting = (container(pod, name).get("state") or {}).get("waiting") or {}
        said = waiting.get("message") or waiting.get("reason")
        if waiting.get("reason") in IMAGE_PERHAPS:
            return f"{image(pod, name)}: {said}"
        if waiting.get("reason") in CANNOT_START:
            return f"{waiting['reason']}: {said}"
    if (seconds := _unbegun(pod, now)) is not None:
        node = pod["spec"].get("nodeName")
        return complaint or (f"the node {node} has not begun with it yet" if seconds > SLOW_SECONDS else None)
    fetching = (container(pod, "fetch").get("state") or {}).get("running") or {}
    since = moment(fetching.get("startedAt"))
    if since is not None and (now - since).total_seconds() > FETCH_SECONDS:
        return "it fetches its files still; or pods do not reach the server at the `url` of the backend"
    return None


def is_quiet(pod: Pod, now: datetime | None = None) -> bool:
    """Whether its node should have begun with it, and its status does not say why it has not."""
    now = now or datetime.now(UTC)
    seconds = _unbegun(pod, now)
    return seconds is not None and seconds > QUIET_SECONDS


def _unbegun(pod: Pod, now: datetime) -> float | None:
    """For how many seconds it has a node, where none of its containers has begun; else None."""
    scheduled = condition(pod, "PodScheduled")
    at = moment(scheduled.get("lastTransitionTime"))
    begun = any(
        {"running", "terminated"} & set(container(pod, name).get("state") or {}) for name in _CONTAINERS
    )
    if begun or at is None or scheduled.get("status") != "True" or pod["metadata"].get("deletionTimestamp"):
        return None
    return (now - at).total_seconds()
