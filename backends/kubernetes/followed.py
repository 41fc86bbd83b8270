"""What is known of an attempt that is followed, and of each of its workers. Part of `following.py`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from backends import base
from backends.base import BackendUnavailable
from backends.kubernetes import ends, waits
from backends.kubernetes.cluster import Refused
from backends.kubernetes.companions import Companion
from backends.kubernetes.ends import State, WorkerEnd
from backends.kubernetes.statuses import is_running

log = structlog.get_logger(__name__)

AGAIN_SECONDS = (0.1, 2.0)
"""The first and the longest pause between two tries."""
_SEEN_SECONDS = 30.0
"""For pods that were made to be seen."""


@dataclass(slots=True)
class Worker:
    """What is known of one worker, and what of it has been told."""

    rank: int
    pod: Mapping[str, Any] | None = None
    gone: bool = False
    state: State | None = None
    heard: datetime | None = None
    """When its courier last answered."""
    stage: str = ""
    since: datetime | None = None
    """When its pod was first seen at its stage."""
    complaint: str | None = None
    """What the cluster's events say keeps it from starting."""
    end: WorkerEnd | None = None
    size_told: int = 0
    start_told: bool = False

    def look(self) -> None:
        """See how far its pod is, and since when we know."""
        if self.pod is not None and (stage := ends.stage(self.pod)) != self.stage:
            self.stage, self.since = stage, now()

    @property
    def words(self) -> str | None:
        """What keeps it from starting."""
        return None if self.pod is None or self.end else waits.words(self.pod, self.complaint, now())

    @property
    def reachable(self) -> bool:
        """Whether its courier can be asked."""
        pod = self.pod
        return pod is not None and not self.gone and is_running(pod, "courier") and bool(self.address)

    @property
    def address(self) -> str:
        return str(((self.pod or {}).get("status") or {}).get("podIP") or "")


@dataclass(slots=True)
class Followed:
    """An attempt that has not been told to have ended."""

    handle: base.Handle
    workers: list[Worker]
    tasks: dict[Hashable, "asyncio.Task[None]"] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    launched_here: bool = False
    words: str | None = None
    """What was told to keep it from starting."""

    @property
    def name(self) -> str:
        return str(self.handle["name"])

    @property
    def is_new(self) -> bool:
        """Whether its pods, which have just been made, may still be to come."""
        return self.launched_here and time.monotonic() - self.since < _SEEN_SECONDS


@dataclass(frozen=True, slots=True)
class Hands:
    """What following an attempt does besides looking: given by the adapter."""

    companion: Callable[[base.Handle, int], Awaitable[Companion]]
    stage: Callable[[base.Handle], Awaitable[bool]]
    """Take the outputs of a completed attempt; False when they are lost."""
    withdraw: Callable[[base.Handle, int, str], Awaitable[None]]
    patience: ends.Patience
    gang_seconds: float
    host: Callable[[base.Handle, int, str], str]
    """What a gang's worker is called by the others, given its address."""


async def insist(work: Callable[[], Awaitable[None]], until: Callable[[], bool] = lambda: False) -> None:
    """Do what the cluster does not let us do just now, until it is done, or not needed any more."""
    pause = AGAIN_SECONDS[0]
    while not until():
        try:
            await work()
        except (BackendUnavailable, Refused) as error:
            log.info("it will be tried again", error=str(error))
        else:
            return
        await asyncio.sleep(pause)
        pause = min(pause * 2, AGAIN_SECONDS[1])


def now() -> datetime:
    return datetime.now(UTC)
