"""Connections of their own for statements that stand alone, on PostgreSQL.

A short statement by an index takes its pool and its planner longer than the table: so these connections are
handed from one statement to the next at once, and what the driver has prepared on them is planned once, for all
values. A plan that is kept must be good whatever the tables grow to, so it goes by an index wherever there is one.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

MOST = 4
"""They are used for a tenth of a millisecond at a time: more would wait for the event loop, not for these."""

_FAREWELL_SECONDS = 2.0
_SETTINGS = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off"


class Lanes:
    """A few connections, opened when they are needed first, each with one statement at a time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(MOST)
        self._idle: list[Any] = []

    async def fetch(self, text: str, values: Sequence[Any]) -> Sequence[Any]:
        """The rows of a statement, as the driver gives them."""
        async with self._free:
            lane = self._find() or await self._open()
            is_fit = True
            try:
                found: Sequence[Any] = await lane.fetch(text, *values)
                return found
            except Exception:
                # When asyncpg refuses a value, it has sent half of an exchange and not its end.
                is_fit = False
                raise
            finally:
                # Also of a statement that was cancelled: the driver waits for its end before the next one.
                if is_fit:
                    self._idle.append(lane)
                else:
                    lane.terminate()

    async def close(self) -> None:
        """Close all of them."""
        while self._idle:
            with suppress(TimeoutError, OSError):  # it is gone then as well
                await self._idle.pop().close(timeout=_FAREWELL_SECONDS)

    def _find(self) -> Any:
        while self._idle:
            lane = self._idle.pop()
            if not lane.is_closed():
                return lane
        return None

    async def _open(self) -> Any:
        """A connection that the engine has made and knows no more."""
        pooled = await greenlet_spawn(self._engine.sync_engine.raw_connection)
        lane: Any = pooled.driver_connection
        pooled.detach()
        try:
            await lane.execute(_SETTINGS)
        except BaseException:
            lane.terminate()
            raise
        return lane
