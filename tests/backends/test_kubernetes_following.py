"""What a watch tells of pods, given what a cluster lists and couriers answer, with no cluster."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from backends import base
from backends.base import Ended, EndReason
from backends.kubernetes import ends, listing
from backends.kubernetes.ends import State
from backends.kubernetes.followed import Hands
from backends.kubernetes.following import Following

DEADLINE_SECONDS = 30


class Couriers:
    """Of jobs that ended by a signal; they answer after some tries."""

    def __init__(self, silent: int) -> None:
        self.silent = silent

    async def companion(self, handle: base.Handle, rank: int) -> Any:
        return self

    async def state(self, known: int, wait_seconds: int) -> State:
        self.silent -= 1
        if self.silent >= 0:
            raise base.BackendUnavailable("the API server says 503")
        return State(3, 0, started_us=1, ended_us=2, exit_code=143)


async def nothing(*_: Any) -> Any:
    raise AssertionError("nothing else is done")


def listed(**states: Mapping[str, Any]) -> listing.Listed:
    """The pod of a job of one worker."""
    ago = (datetime.now(UTC) - timedelta(seconds=300)).isoformat()
    statuses = [{"name": name, "state": state} for name, state in states.items()]
    pod = {
        "metadata": {"name": "job-0", "creationTimestamp": ago},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "job:1"}]},
        "status": {"podIP": "10.0.0.1", "containerStatuses": statuses},
    }
    return listing.Listed((pod,))


async def changes(
    *given: listing.Listed | listing.Changed,
) -> AsyncIterator[listing.Listed | listing.Changed]:
    for each in given:
        yield each
    await asyncio.Event().wait()


async def first_end(following: Following, told: AsyncIterator[listing.Listed | listing.Changed]) -> Ended:
    """How the first attempt ended."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for observation in following.observations(told):
            if isinstance(observation, Ended):
                following.close()
                return observation
    raise AssertionError("it was closed before any had ended")


async def test_an_end_that_came_while_nobody_looked_is_told_when_its_courier_was_asked() -> None:
    ago = (datetime.now(UTC) - timedelta(seconds=200)).isoformat()
    over = {"terminated": {"exitCode": 143, "reason": "Error", "finishedAt": ago}}
    couriers = Couriers(silent=3)
    following = Following(Hands(couriers.companion, nothing, nothing, ends.Patience(60), 60, lambda *_: ""))
    following.add({"name": "job", "uid": "u", "workers": 1})
    ended = await first_end(following, changes(listed(courier={"running": {}}, main=over)))
    assert couriers.silent < 0
    assert (ended.reason, ended.exit_code) == (EndReason.EXIT_CODE, -15)


async def test_what_the_clusters_events_say_is_what_the_job_waits_for() -> None:
    couriers = Couriers(silent=0)
    following = Following(Hands(couriers.companion, nothing, nothing, ends.Patience(60), 60, lambda *_: ""))
    following.add({"name": "job", "uid": "u", "workers": 1})
    told = listed()
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": (datetime.now(UTC) - timedelta(seconds=9)).isoformat(),
    }
    told.pods[0]["status"]["conditions"] = [scheduled]
    told.pods[0]["metadata"]["uid"] = "p"
    words: list[str | None] = []

    async def complained() -> None:
        while not following.has_quiet():  # noqa: ASYNC110
            await asyncio.sleep(0)
        following.complain({"p": "FailedMount: no secret", "another": "x"})

    following.work(complained())
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for observation in following.observations(changes(told)):
            if isinstance(observation, base.Waiting):
                words.append(observation.words)
                break
    following.close()
    assert words == ["FailedMount: no secret"]
