"""Turns at storing: who prints much waits for the others who do, and all of them for everybody else.

What is printed is read, parsed and packed in a thread; the event loop, which also answers requests, is held by
the transaction alone (on SQLite). So what is stored at once is bounded by how long the last ones held the loop.
Those who have more to store than fits a light slice take turns, first come first served; after each the loop is
left alone for longer than it was held, and what comes meanwhile is stored together, in fewer transactions. What
waits is queued in the backend's file, not in memory.
"""

import asyncio
import contextlib
import contextvars
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

LIGHT = 0
"""What a worker of which nothing is known has to store."""
LIGHT_BYTES = 32 << 10
"""Up to here nobody waits: a loop that prints its losses is stored as soon as it printed."""

_SLICE_SECONDS = 0.003
_LEAST_BYTES, _MOST_BYTES = 16 << 10, 1 << 20
_LEFT_ALONE = 1.5
"""For how many times as long as it was held the loop is left alone, by all heavy turns together."""
_IDLE = 0.5
"""The same for the thread, whose core others need too."""
_GATHER_SECONDS = 0.04
"""Between two heavy turns where a slice has all there is: more comes together for the next."""
_REST_SECONDS = 0.1


@dataclass(slots=True)
class Turn:
    """One turn: how much was stored in it, and how long that held the loop."""

    size: int = 0
    held_seconds: float = 0.0


class Turns:
    """The turns of one supervisor."""

    def __init__(self) -> None:
        self.most_bytes = _LEAST_BYTES * 4
        self._lane = asyncio.Semaphore(1)
        self.steps = Steps()

    @contextlib.asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[Turn]:
        """Wait for a turn, if the last one of this worker stored so much that more must follow."""
        turn = Turn()
        if size < LIGHT_BYTES:
            yield turn
            return
        async with self._lane:
            began, most = time.perf_counter(), self.most_bytes
            yield turn
            spent = time.perf_counter() - began
            rest = max(turn.held_seconds * _LEFT_ALONE, spent * _IDLE)
            if 0 < turn.size <= most // 2:
                rest = max(rest, _GATHER_SECONDS - spent)
            await asyncio.sleep(min(rest, _REST_SECONDS))

    def judge(self, size: int, seconds: float) -> None:
        """Learn from how long the loop was held for `size` bytes how many the next slice may have."""
        if size >= _LEAST_BYTES:
            fitting = int(size * _SLICE_SECONDS / max(seconds, 1e-6))
            most = self.most_bytes
            self.most_bytes = min(max(fitting, most // 2, _LEAST_BYTES), most * 2, _MOST_BYTES)


class Steps:
    """Steps of many attempts that come at once, a few in each pass of the event loop: what was begun goes on between.

    Requests go first in any case (precedence.py); this is for transactions, which are not to stay open for as long as
    all that is ready takes. Whoever comes first goes first, so that a writer who comes last finds what all before it
    had to report.
    """

    _PASS_SECONDS = 0.002
    _MOST = 16

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_open = False
        """Whether steps have been let go that this pass of the loop, or the next, runs."""
        self._began = 0.0
        self._let_go = 0
        self._step_seconds = 0.0003

    async def turn(self) -> None:
        """Wait for a turn; none is waited for where nobody else has begun a step just now."""
        loop = asyncio.get_running_loop()
        if not self._is_open:
            self._open(loop, 1)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _open(self, loop: asyncio.AbstractEventLoop, let_go: int) -> None:
        self._is_open, self._let_go, self._began = True, let_go, time.perf_counter()
        loop.call_soon(self._next, loop, context=contextvars.copy_context())

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let go as many more as a pass has time for, by how long the last ones took."""
        took = (time.perf_counter() - self._began) / max(1, self._let_go)
        self._step_seconds += (took - self._step_seconds) / 8
        room = min(self._MOST, max(1, int(self._PASS_SECONDS / max(self._step_seconds, 1e-6))))
        let_go = 0
        while self._waiting and let_go < room:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                let_go += 1
        self._is_open = False
        if let_go:
            self._open(loop, let_go)
