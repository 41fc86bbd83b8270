"""One `watch` over attempts on a Docker engine: what is followed, and what is still to be told.

One stream of events says that something happened to a container, and the list of all, when the stream begins and
now and then, what a lost event has not; either only makes us inspect the attempt's workers, which is the truth.
Part of `docker.py`.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any

from aiodocker.exceptions import DockerError

from backends import base
from backends.container_usage import Looks
from backends.containers import ATTEMPT, OWNER, RANK, REFUSAL
from backends.docker_logs import Logs
from backends.docker_native import Native, unavailable
from backends.docker_verdicts import TAKEN_ALONG, State, ended, read, rejected
from backends.engines import reachable

LIST_SECONDS = 20.0
GRACE_SECONDS = 10.0
"""What workers are given when another failed."""
DOUBT_SECONDS = 1.0
"""How long after a kill a container is gone that is being removed, or the engine says that it was for memory."""
_TELLING = {"start", "die", "destroy", "oom", "pause", "unpause"}

Stop = Callable[[base.Handle, float], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Followed:
    """An attempt that has not been told to have ended."""

    handle: base.Handle
    states: dict[int, State | None] = field(default_factory=dict)
    starved: set[int] = field(default_factory=set)
    """The ranks of which the engine has said so as it happened: said late, it is in no answer to a question."""
    has_started: bool = False
    is_ending: bool = False
    doubts: bool = True
    """Whether a kill that nobody here asked for may be the first half of a removal, or for memory."""
    looking: bool = False
    again: bool = False


class Following:
    """What one watcher of the adapter is told. Lives in one event loop."""

    def __init__(self, native: Native, logs: Logs, node: str, stop: Stop, usage_seconds: float) -> None:
        self._native = native
        self._logs = logs
        self._node = node
        self._stop = stop
        self._looks = Looks(native.stats, self._use, usage_seconds)
        self._followed: dict[str, Followed] = {}
        self._untold: OrderedDict[Hashable, base.Observation] = OrderedDict()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._closed = False
        self._number = 0
        logs.follow(self._printed)

    async def observations(self) -> AsyncIterator[base.Observation]:
        listening = asyncio.Event()
        self._spawn(self._listen(listening))
        self._spawn(self._list(listening))
        while not self._closed:
            while self._untold:
                yield self._untold.popitem(last=False)[1]
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()

    def add(self, handle: base.Handle) -> None:
        """Follow an attempt, and tell how it stands."""
        name = str(handle["name"])
        if name not in self._followed and not self._closed:
            self._followed[name] = Followed(handle)
        self._look(name)

    def expect_end(self, name: str) -> None:
        """An attempt is being ended by us."""
        if (each := self._followed.get(name)) is not None:
            each.is_ending = True

    async def close(self) -> None:
        """Stop following; whoever iterates ends."""
        self._closed = True
        self._logs.follow(None)
        self._looks.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._news.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failure = self._failure or error
            self._news.set()

    def _tell(self, observation: base.Observation) -> None:
        rank = getattr(observation, "rank", None)
        # Every look at what is used counts; of anything else the latest says it all.
        self._number += isinstance(observation, base.Used)
        number = self._number if isinstance(observation, base.Used) else 0
        self._untold[type(observation), observation.name, rank, number] = observation
        self._news.set()

    def _printed(self, name: str, rank: int) -> None:
        if name in self._followed:
            self._tell(base.HasOutput(name, rank))

    def _use(self, name: str, rank: int, piece: base.Piece) -> None:
        self._tell(base.Used(name, rank, piece))

    async def _listen(self, listening: asyncio.Event) -> None:
        """Hear what happens; the stream has no end but the engine's."""
        asked = {"filters": {"type": ["container"], "label": [f"{OWNER}={self._native.owner}", RANK]}}
        try:
            async with self._native.engine.stream("GET", "events", asked) as response:
                listening.set()
                rest = b""
                with reachable():
                    async for chunk in response.content.iter_any():
                        *events, rest = (rest + chunk).split(b"\n")
                        for event in filter(bytes.strip, events):
                            self._hear(json.loads(event))
        except DockerError as error:
            raise unavailable(error) from error
        raise base.BackendUnavailable("the Docker engine has gone away")

    def _hear(self, event: dict[str, Any]) -> None:
        if event.get("Action") not in _TELLING:
            return
        told = event["Actor"]["Attributes"]
        name = told.get(ATTEMPT, "")
        if event["Action"] == "oom" and (each := self._followed.get(name)) is not None:
            each.starved.add(int(told[RANK]))
        self._look(name)

    async def _list(self, listening: asyncio.Event) -> None:
        """Look at all when events are heard, and at what the list has otherwise than we, now and then."""
        await listening.wait()
        for name in list(self._followed):
            self._look(name)
        while True:
            await asyncio.sleep(LIST_SECONDS)
            listed = {
                (each["Labels"][ATTEMPT], int(each["Labels"][RANK])): each["State"]
                for each in await self._native.all_workers()
            }
            for name, each in list(self._followed.items()):
                known = {rank: state.status if state else None for rank, state in each.states.items()}
                if known != {rank: listed.get((name, rank)) for rank in known}:
                    self._look(name)

    def _look(self, name: str) -> None:
        """Have an attempt inspected, once more if that is under way."""
        each = self._followed.get(name)
        if each is None or self._closed:
            return
        each.again = True
        if not each.looking:
            each.looking = True
            self._spawn(self._inspect(name, each))

    async def _inspect(self, name: str, each: Followed) -> None:
        try:
            while each.again and self._followed.get(name) is each:
                each.again = False
                ranks = range(each.handle["workers"])
                found = await asyncio.gather(*(self._native.inspect(name, rank) for rank in ranks))
                each.states = {
                    rank: read(one, starved=rank in each.starved)
                    for rank, one in zip(ranks, found, strict=True)
                }
                await self._judge(name, each)
        finally:
            each.looking = False

    async def _judge(self, name: str, each: Followed) -> None:
        """Tell what is new of an attempt, and end what must not go on."""
        states = [state for state in each.states.values() if state is not None]
        if not states:
            self._forget(name)
            self._tell(base.Missing(name))
            return
        if (refusal := states[0].labels.get(REFUSAL)) is not None:
            self._forget(name)
            self._tell(rejected(name, refusal, states[0].created_us))
            return
        if len(states) == len(each.states):
            self._tell_starts(name, each)
        running = [rank for rank, state in each.states.items() if state is not None and state.runs]
        forgotten = any(state.is_forgotten(self._native) for state in states)
        is_broken = forgotten or len(states) < len(each.states) or any(state.failed for state in states)
        if running:
            if is_broken and not each.is_ending:
                each.is_ending = True
                await self._stop(each.handle, GRACE_SECONDS)
        elif any(state.was_killed for state in states) and not each.is_ending and each.doubts:
            each.doubts = False
            self._spawn(self._look_later(name))
        elif is_broken or all(state.has_ended for state in states):
            if any(state.was_refused or state.exit_code in TAKEN_ALONG for state in states):
                # An engine that goes down ends what runs, and starts nothing, while it still answers those it knows.
                await self._native.engine.knock()
            for rank in each.states:
                self._logs.end(name, rank)
            self._forget(name)
            self._tell(ended(name, each.states, self._native))

    async def _look_later(self, name: str) -> None:
        await asyncio.sleep(DOUBT_SECONDS)
        self._look(name)

    def _tell_starts(self, name: str, each: Followed) -> None:
        """All have started, or none is told to have."""
        if not all(state is not None and state.started_us for state in each.states.values()):
            return
        for rank, state in each.states.items():
            assert state is not None
            if state.runs:
                self._logs.run(name, rank)
                self._looks.begin(name, rank, paused=state.is_paused)
            else:
                self._looks.end(name, rank)
        if not each.has_started:
            each.has_started = True
            for rank, state in each.states.items():
                assert state is not None
                self._tell(base.WorkerStarted(name, rank, self._node, state.address, state.started_us))

    def _forget(self, name: str) -> None:
        each = self._followed.pop(name, None)
        for rank in each.states if each else ():
            self._looks.end(name, rank)
