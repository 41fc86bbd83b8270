"""How long attempts have run, and what ends them when they have run too long.

Deadlines are in memory, by what the database and the backend have said, so that nothing has to be asked for while
jobs run; a timeout is recorded before it is carried out, as every other stop.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from db import columns

_LONGEST_SECONDS = 2.0
"""Between two looks at a deadline: the machine's clock may be set, and the machine suspended."""


@dataclass(slots=True)
class Clock:
    """How long an attempt has run: since its process exists, and not while it stands still."""

    allowed_seconds: float | None = None
    started_at: datetime | None = None
    suspended_at: datetime | None = None
    suspended_seconds: float = 0.0
    struck: bool = False
    """Whether it has been stopped for its time already."""

    def ran(self, now: datetime) -> timedelta:
        """Until now; nothing before it has started."""
        if self.started_at is None:
            return timedelta()
        return (self.suspended_at or now) - self.started_at - timedelta(seconds=self.suspended_seconds)

    def left(self, now: datetime) -> float:
        """The seconds until it will have run too long; infinite while nothing brings that nearer."""
        goes = self.started_at is not None and self.suspended_at is None
        if self.allowed_seconds is None or self.struck or not goes:
            return math.inf
        return self.allowed_seconds - self.ran(now).total_seconds()


class Timed(Protocol):
    """Whoever has a clock."""

    @property
    def clock(self) -> Clock: ...


T = TypeVar("T", bound=Timed)


class Deadlines:
    """Waits for the earliest of all clocks."""

    def __init__(self) -> None:
        self._earlier = asyncio.Event()
        self._due_at = math.inf

    def heed(self, clock: Clock) -> None:
        """A clock was set, or set going."""
        if time.monotonic() + clock.left(columns.now()) < self._due_at:
            self._earlier.set()

    async def watch(self, timed: Callable[[], Iterable[T]], strike: Callable[[T], Awaitable[None]]) -> None:
        """Strike each whose clock has run out, until cancelled; whatever it raises, it may be called again."""
        while True:
            self._earlier.clear()
            for each in tuple(timed()):
                if each.clock.left(columns.now()) <= 0:
                    await strike(each)
            left = min((each.clock.left(columns.now()) for each in timed()), default=math.inf)
            self._due_at = time.monotonic() + left
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left == math.inf else min(left, _LONGEST_SECONDS)):
                    await self._earlier.wait()
