"""Turns at storing: who prints much waits for the others who do, and all of them for everybody else.

What a job prints is parsed, packed and (on SQLite) written in the event loop that also answers requests. So
it is done in slices of a few milliseconds, sized by how long the last ones took; those who have more to store
than fits a light slice take turns, first come first served; and after each such turn the loop is left alone
for as long again and more. What waits meanwhile is queued in the backend's file, not in memory.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

LIGHT = 0
"""What a worker of which nothing is known has to store."""

_LIGHT_BYTES = 32 << 10
"""Up to here nobody waits: a loop that prints its losses is stored as soon as it printed."""
_SLICE_SECONDS = 0.003
_LEAST_BYTES, _MOST_BYTES = 16 << 10, 1 << 20
_SHARE = 0.4
"""Of the loop's time, for all heavy turns together."""
_REST_SECONDS = 0.1


class Turns:
    """The turns of one supervisor."""

    def __init__(self) -> None:
        self.most_bytes = _LEAST_BYTES * 4
        self._lane = asyncio.Semaphore(1)

    @contextlib.asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[None]:
        """Wait for a turn, if the last one of this worker stored so much that more must follow."""
        if size < _LIGHT_BYTES:
            yield
            return
        async with self._lane:
            began = time.perf_counter()
            yield
            spent = time.perf_counter() - began
            await asyncio.sleep(min(spent / _SHARE - spent, _REST_SECONDS))

    def judge(self, size: int, seconds: float) -> None:
        """Learn from how long the loop was held for `size` bytes how many the next slice may have."""
        if size >= _LEAST_BYTES:
            fitting = int(size * _SLICE_SECONDS / max(seconds, 1e-6))
            most = self.most_bytes
            self.most_bytes = min(max(fitting, most // 2, _LEAST_BYTES), most * 2, _MOST_BYTES)
