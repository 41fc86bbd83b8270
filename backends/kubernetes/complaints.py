"""What the cluster's events say of pods that have a node and do not begin there: volumes, networks, devices.

A pod's status tells nothing of these, and its events are gone after an hour. So they are asked for only while there
is such a pod, all in one question however many there are. Who gives us no right to it has the status' words alone.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog

from backends.base import BackendUnavailable
from backends.kubernetes.cluster import Cluster, Refused

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
REST_SECONDS = 10.0
"""Between two questions."""
MOST_CHARACTERS = 1000
_PAGE, _MOST_PAGES = 500, 20
_TOLD_OTHERWISE = {"FailedScheduling"}
"""Of a time when the pod had no node."""
_VAGUE = "timed out waiting for the condition"
"""What a kubelet says every other minute, beside the reason."""


async def watch(
    cluster: Cluster,
    is_needed: Callable[[], bool],
    tell: Callable[[Mapping[str, str]], None],
    *,
    look_seconds: float = LOOK_SECONDS,
    rest_seconds: float = REST_SECONDS,
) -> None:
    """Tell what is said of pods, by their uids, whenever that is needed, until there is no right to know."""
    while True:
        await asyncio.sleep(look_seconds)
        if not is_needed():
            continue
        try:
            tell(latest(await _warnings(cluster)))
        except Refused as error:
            log.info("why pods wait on their nodes cannot be seen", error=str(error))
            return
        except BackendUnavailable:
            continue
        await asyncio.sleep(rest_seconds)


def latest(events: Collection[Mapping[str, Any]]) -> dict[str, str]:
    """The last that is said of each pod, by its uid; what names a reason before what names none."""
    found: dict[str, tuple[bool, str, str]] = {}
    for event in events:
        reason, message = event.get("reason") or "", event.get("message") or ""
        if reason in _TOLD_OTHERWISE:
            continue
        uid = str(event["involvedObject"].get("uid", ""))
        words = f"{reason}: {message}".strip(": ")[:MOST_CHARACTERS]
        found[uid] = max(found.get(uid, (False, "", "")), (_VAGUE not in message, _at(event), words))
    return {uid: words for uid, (_, _, words) in found.items()}


def _at(event: Mapping[str, Any]) -> str:
    """When it was seen last; times of one form, so that they compare as they are written."""
    series = event.get("series") or {}
    told = (event.get("lastTimestamp"), series.get("lastObservedTime"), event.get("eventTime"))
    return next((str(each)[:19] for each in told if each), "")


async def _warnings(cluster: Cluster) -> list[Mapping[str, Any]]:
    """Those of pods, of the whole namespace."""
    found: list[Mapping[str, Any]] = []
    token = ""
    for _ in range(_MOST_PAGES):
        query = [("fieldSelector", "involvedObject.kind=Pod,type=Warning"), ("limit", str(_PAGE))]
        page = await cluster.json("GET", cluster.path("events"), query=[*query, ("continue", token)])
        found += page["items"] or ()
        token = page["metadata"].get("continue") or ""
        if not token:
            break
    return found
