"""Precedence in the event loop: who is being answered goes before what the server does by itself.

Claiming, launching, recording and whatever else follows from intent in the database is many short steps. Each ends
soon, but hundreds may be ready at once, and a request that came in between would wait for all of them. So `Loop` keeps
the steps of tasks that are begun `behind()` apart, and takes them in their order while nobody else is ready; however
much else there is, they have a share, so that nothing stands still. On any other loop they are taken as they come.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import TypeVarTuple

import uvloop

Ts = TypeVarTuple("Ts")

_BEHIND: ContextVar[bool] = ContextVar("behind")

SLICE_SECONDS = 0.001
"""For how long such steps are taken before the loop looks again who else has come; a step is never cut short."""
PATIENCE_SECONDS = 0.005
"""How long they wait, at most, while others are ready: they have about a fifth of a loop that is never idle."""


@contextmanager
def behind() -> Iterator[None]:
    """What is done in here, and by tasks that are begun in here, goes behind whoever is being answered."""
    before = _BEHIND.set(True)
    try:
        yield
    finally:
        _BEHIND.reset(before)


def is_behind() -> bool:
    """Whether what runs now goes behind."""
    return _BEHIND.get(False)


class Loop(uvloop.Loop):
    """uvloop with two queues: its own, and that of the steps behind, of which one callback of it takes a few."""

    def __init__(self) -> None:
        super().__init__()
        self._behind: deque[asyncio.Handle] = deque()
        self._is_due = False
        """Whether `_serve` is in the loop's own queue."""
        self._others = 0
        """Callbacks that came after it."""
        self._served_at = 0.0

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call back soon. Tasks say in which context, by which their steps are told; a mere callback goes first."""
        if context is None or not context.get(_BEHIND):
            self._others += 1
            ahead: asyncio.Handle = super().call_soon(callback, *args, context=context)
            return ahead
        handle = asyncio.Handle(callback, args, self, context)
        self._behind.append(handle)
        if not self._is_due:
            self._is_due, self._served_at = True, time.perf_counter()
            self._queue()
        return handle

    def _queue(self) -> None:
        self._others = 0
        super().call_soon(self._serve)

    def _serve(self) -> None:
        """Take steps for a while, unless somebody has come meanwhile: then queue behind them."""
        now = time.perf_counter()
        have_waited = now - self._served_at >= PATIENCE_SECONDS
        if self._others and not have_waited:
            self._queue()
            return
        until = now + SLICE_SECONDS
        try:
            while self._behind and now < until and (have_waited or not self._others):
                handle = self._behind.popleft()
                if not handle.cancelled():
                    handle._run()
                now = time.perf_counter()
        finally:
            self._served_at, self._is_due = now, bool(self._behind)
            if self._is_due:
                self._queue()
