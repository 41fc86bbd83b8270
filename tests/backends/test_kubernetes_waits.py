"""What a pod is said to wait for: by its status, or by the cluster's events, which a server may not be let see."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from backends import base
from backends.kubernetes import complaints, waits
from backends.kubernetes.cluster import Refused
from tests.backends.podshapes import NOW, at, pod, waiting

DEADLINE_SECONDS = 30
MISSING = 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found'


def placed(seconds: float) -> dict[str, Any]:
    """A pod that has had a node for so long, and nothing else."""
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(-seconds)}
    return pod(*[waiting("PodInitializing")] * 3, conditions=[scheduled])


def said(message: str, reason: str = "FailedMount", uid: str = "u", **more: Any) -> dict[str, Any]:
    return {"reason": reason, "message": message, "involvedObject": {"uid": uid}, **more}


def test_what_keeps_a_pod_from_starting_is_told_in_the_clusters_words() -> None:
    scheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    assert waits.words(pod(conditions=[scheduled]), now=NOW) == "0/3 nodes are available"
    assert waits.words(pod(waiting("ErrImagePull")), now=NOW) == "job:1: ErrImagePull it is"
    for reason in ("CreateContainerConfigError", "CreateContainerError"):
        assert waits.words(pod(waiting(reason)), now=NOW) == f"{reason}: {reason} it is"
    assert waits.words(pod(waiting("ContainerCreating")), now=NOW) is None
    slow = waits.words(pod(fetch={"running": {"startedAt": at(-30)}}), now=NOW)
    assert slow is not None and "`url`" in slow
    assert waits.words(pod(fetch={"running": {"startedAt": at(-3)}}), now=NOW) is None


def test_a_pod_that_its_node_does_not_begin_with_never_waits_without_a_word() -> None:
    assert waits.words(placed(10), "FailedMount: it is not there", NOW) == "FailedMount: it is not there"
    assert waits.words(placed(10), now=NOW) is None
    assert waits.words(placed(31), now=NOW) == "the node n1 has not begun with it yet"
    assert not waits.is_quiet(placed(4), NOW)
    assert waits.is_quiet(placed(6), NOW)


def test_what_was_said_of_a_pod_that_has_begun_since_is_not_told() -> None:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(-60)}
    begun = pod(conditions=[scheduled])
    assert waits.words(begun, "FailedMount: it was not there", NOW) is None
    assert not waits.is_quiet(begun, NOW)


def test_of_what_is_said_of_a_pod_the_last_that_names_a_reason_counts() -> None:
    vague = "Unable to attach or mount volumes: unmounted volumes=[keys]: timed out waiting for the condition"
    told = [
        said("first", lastTimestamp="2026-01-01T11:58:00Z"),
        said(MISSING, lastTimestamp=None, eventTime="2026-01-01T11:59:00.123456Z"),
        said(vague, lastTimestamp="2026-01-01T11:59:30Z"),
        said("0/1 nodes", reason="FailedScheduling", lastTimestamp="2026-01-01T11:59:40Z"),
        said("no network", reason="FailedCreatePodSandBox", uid="other"),
    ]
    for each in (told, told[::-1]):
        found = complaints.latest(each)
        assert found == {"u": f"FailedMount: {MISSING}", "other": "FailedCreatePodSandBox: no network"}


class Events:
    """A cluster that answers lists of events in this order, a page each."""

    namespace = "ns"

    def __init__(self, *answers: Sequence[Mapping[str, Any]] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def path(self, kind: str) -> str:
        return f"/{kind}"

    async def json(self, method: str, path: str, *, query: Sequence[tuple[str, str]]) -> Any:
        self.asked.append(f"{method} {path} {dict(query)['continue']}".strip())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        more = "more" if answer and "more" in answer[-1] else ""
        return {"items": answer, "metadata": {"continue": more}}


async def look(cluster: Any, *needed: bool) -> list[Mapping[str, str]]:
    """What is told of these looks, until the cluster lets us see no more."""
    told: list[Mapping[str, str]] = []
    looks = list(needed)

    def is_needed() -> bool:
        return looks.pop(0)

    async with asyncio.timeout(DEADLINE_SECONDS):
        await complaints.watch(cluster, is_needed, told.append, look_seconds=0, rest_seconds=0)
    return told


async def test_events_are_asked_for_only_while_a_pod_waits_for_its_node() -> None:
    cluster = Events(
        [said("a"), said("b", more=1)], [said(MISSING, uid="v")], Refused(403, "events is forbidden")
    )
    told = await look(cluster, False, True, False, True)
    assert told == [{"u": "FailedMount: b", "v": f"FailedMount: {MISSING}"}]
    assert cluster.asked == ["GET /events", "GET /events more", "GET /events"]


async def test_an_api_server_that_is_away_costs_a_look() -> None:
    cluster = Events(base.BackendUnavailable("away"), [said(MISSING)], Refused(403, "events is forbidden"))
    assert await look(cluster, True, True, True) == [{"u": f"FailedMount: {MISSING}"}]
