"""One shared subscription: its last answers, and the push of each to all who watch.

The topic's own task sends every answer straight into the transport of each watcher that has caught up: a
thousand watchers are a thousand sends, not a thousand tasks to wake. It does so before whoever wrote is
answered, for as long as a turn of the loop may take. Where answers come faster than all can be sent them, the next
are computed meanwhile, and each watcher in its turn is told the few that it lacks together, which are one write:
the more there is to do, the less each costs. A send that cannot be done at once, because the peer does not read,
is left to the watcher's own task; that watcher is pushed nothing more until it has caught up, from the window or,
further behind, by itself (sharing.py). So one that never reads costs what its connection buffers, and holds
nobody up.
"""

import asyncio
import time
import types
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog

log = structlog.get_logger(__name__)

WINDOW_ANSWERS = 1000
WINDOW_BYTES = 4 << 20
FEW = 16
"""Answers that a watcher holds on to while it is told them."""
_TURN_SECONDS = 0.002
"""How long pushes keep the loop from others."""


class Answer:
    """What is sent for the events of a feed from the place `first` to the place `at` (events.place)."""

    def __init__(self, first: int, at: int, data: bytes) -> None:
        self.first = first
        self.at = at
        self.data = data

    @cached_property
    def sse(self) -> bytes:
        """As a server-sent event, whose id is the feed's number."""
        return b"id: %d\nevent: next\ndata: %s\n\n" % (self.at // 2, self.data)


def _not_now(_answer: Answer) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Tell:
    """How a watcher is told: by `send`, however long the peer takes; by `now`, unless that says that it cannot be."""

    send: Callable[[Answer], Coroutine[Any, Any, None]]
    now: Callable[[Answer], bool] = _not_now


class Watcher:
    """A cursor: everything up to it has been told. `left` comes when its own task has to go on with it."""

    def __init__(self, cursor: int, tell: Tell) -> None:
        self.cursor = cursor
        self.left: asyncio.Future[Coroutine[Any, Any, None] | None] = _future()
        self._tell = tell

    async def tell(self, answer: Answer) -> None:
        """Send an answer, however long the peer takes."""
        await self._tell.send(answer)
        self.cursor = max(self.cursor, answer.at)

    def push(self, answer: Answer) -> None:
        """Send an answer now, or leave."""
        if answer.at <= self.cursor or self.left.done():
            return
        if answer.first <= self.cursor:
            self.leave()  # it has seen a part of this
            return
        try:
            if self._tell.now(answer):
                self.cursor = answer.at
                return
            telling = self._tell.send(answer)
            awaited = telling.send(None)
        except StopIteration:
            self.cursor = answer.at
        except Exception as error:  # noqa: BLE001 - raised where the watcher's own task waits for `left`
            self.left.set_exception(error)
        else:
            self.left.set_result(self._rest(telling, awaited, answer))

    def leave(self) -> None:
        """Have its own task go on with it."""
        if not self.left.done():
            self.left.set_result(None)

    async def _rest(self, telling: Coroutine[Any, Any, None], awaited: Any, answer: Answer) -> None:
        await _resumed(telling, awaited)
        self.cursor = answer.at


class Topic:
    """`floor` < every place of the window <= `head`; all up to the floor may be forgotten."""

    def __init__(self, answers: AsyncGenerator[Answer | int, None]) -> None:
        self.watchers = 0
        self.floor = self.head = 0
        self.done = self.failed = False
        self.ready = asyncio.Event()
        self._live: dict[Watcher, None] = {}
        self._window: deque[Answer] = deque()
        self._bytes = 0
        self._due: deque[Watcher] = deque()
        """Whom this round has not reached yet."""
        self._told = self._reached = 0
        """The places up to which everybody has been told, and is by the end of this round."""
        self._ahead = 0
        """Answers since it began."""
        self._pushed = asyncio.Event()
        """Set while there is nobody to be told anything."""
        self._pushed.set()
        self._turn: float | None = None
        """When the first push of this turn of the loop began."""
        self._task = asyncio.create_task(self._run(answers), name="topic")

    def stop(self) -> None:
        """Nobody watches any more."""
        self._task.cancel()
        del self._task  # It keeps the frames that it was ended in, and those what the window holds.

    def past(self, cursor: int) -> list[Answer]:
        """The next few answers past a cursor that is not before the floor."""
        if not self._window or self._window[-1].at <= cursor:
            return []
        found: deque[Answer] = deque(maxlen=FEW)
        for answer in reversed(self._window):
            if answer.at <= cursor:
                break
            found.appendleft(answer)
        return list(found)

    async def push_to(self, watcher: Watcher) -> None:
        """Have a watcher that has caught up be told what comes, until it has to go on by itself."""
        self._live[watcher] = None
        try:
            rest = await watcher.left
        finally:
            del self._live[watcher]
            if watcher.left.done() and not watcher.left.cancelled():
                watcher.left.exception()  # looked at, also where this task is ended in the same moment
        watcher.left = _future()
        if rest is not None:
            await rest

    async def _run(self, answers: AsyncGenerator[Answer | int, None]) -> None:
        begun = False
        try:
            async with aclosing(answers):
                async for answer in answers:
                    if isinstance(answer, int):
                        self.floor = self.head = self._told = self._reached = answer
                        begun = True
                        self.ready.set()
                    elif answer.at <= self.head:
                        raise RuntimeError(f"a subscription failed after {answer.at}: {answer.data[:500]!r}")
                    else:
                        self._keep(answer)
                        await self._begin_push()
            self.done, self.failed = begun, not begun
        except Exception as error:
            # Whoever watches goes on for itself, and meets the error there if it lasts.
            log.warning("shared subscription failed", error=repr(error), exc_info=error)
            self.failed = True
        finally:
            self.ready.set()
            for watcher in self._live:
                watcher.leave()

    def _keep(self, answer: Answer) -> None:
        self._window.append(answer)
        self._bytes += len(answer.data)
        self.head = answer.at
        while self._is_full() and self._window[0].at <= self._told:
            dropped = self._window.popleft()
            self.floor = dropped.at
            self._bytes -= len(dropped.data)

    def _is_full(self) -> bool:
        return len(self._window) > WINDOW_ANSWERS or self._bytes > WINDOW_BYTES

    async def _begin_push(self) -> None:
        """Return when so much is being pushed that those whose turn is to come lack only a few answers."""
        self._ahead += 1
        if self._pushed.is_set():
            self._pushed.clear()
            self._push()
        elif self._ahead >= FEW or self._is_full():
            await self._pushed.wait()

    def _push(self) -> None:
        """Tell one watcher after the other all that it lacks; those for whom this turn has no time, in the next."""
        began = self._begin_turn()
        # Nearly always a watcher lacks the newest alone.
        newest = [self._window[-1]] if self._window else []
        before = self._window[-2].at if len(self._window) > 1 else self.floor
        while self._due or self._reached < self.head:
            if not self._due:
                self._told, self._reached, self._ahead = self._reached, self.head, 0
                self._due.extend(self._live)
                continue
            watcher = self._due.popleft()
            if watcher in self._live:
                for answer in newest if watcher.cursor >= before else self.past(watcher.cursor):
                    watcher.push(answer)
            if time.perf_counter() - began > _TURN_SECONDS:
                asyncio.get_running_loop().call_soon(self._push)
                return
        self._told = self.head
        self._pushed.set()

    def _begin_turn(self) -> float:
        if self._turn is None:
            self._turn = time.perf_counter()
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self._turn

    def _end_turn(self) -> None:
        self._turn = None


@types.coroutine
def _resumed(telling: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that has begun, and waits for what it has awaited."""
    try:
        yield awaited
    except BaseException:
        telling.close()
        raise
    yield from telling.__await__()


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()
