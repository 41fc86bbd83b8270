"""Why a pod that should run does not, in the cluster's words. Pure."""

from datetime import UTC, datetime

from backends.kubernetes import template
from backends.kubernetes.ends import CANNOT_START, IMAGE_PERHAPS
from backends.kubernetes.statuses import Pod, condition, container, image, moment

FETCH_SECONDS = 20.0
"""Until it is told that a job has not got its files yet."""


def words(pod: Pod, now: datetime | None = None) -> str | None:
    """None when nothing keeps it."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return str(scheduled.get("message") or scheduled.get("reason"))
    for name in ("fetch", "courier", template.MAIN):
        waiting = (container(pod, name).get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in IMAGE_PERHAPS | CANNOT_START:
            return f"{image(pod, name)}: {waiting.get('message') or waiting['reason']}"
    fetching = (container(pod, "fetch").get("state") or {}).get("running") or {}
    since = moment(fetching.get("startedAt"))
    if since is not None and ((now or datetime.now(UTC)) - since).total_seconds() > FETCH_SECONDS:
        return "it fetches its files still; or pods do not reach the server at the `url` of the backend"
    return None
