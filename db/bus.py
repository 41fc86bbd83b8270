"""Hints: "feed X has reached N" and "there is work" for these, nothing else.

The database is the truth; whoever hears a hint reads from there, so a lost one costs the listener's next
slow poll and no data. Within a process they are handed on at once, whatever becomes of the rest. Between
processes broadcaster carries them on one channel with one subscription a process (carrier.py).
"""

import asyncio
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from db.carrier import Carrier

log = structlog.get_logger(__name__)


class Wake(enum.IntEnum):
    """Whom there is work for: each means those before it too."""

    NOBODY = 0
    CLAIMS = 1
    """Who claims: something has ended, so that there is room for what waits."""
    SUPERVISORS = 2
    """Who supervises: something is to be prepared, launched or stopped."""
    EVERYBODY = 3
    """Whoever looks for work of any kind."""


Listener = Callable[[Mapping[int, int], Wake], None]
"""Called with the sequence numbers that feeds have reached, and whom there is work for."""

_MEMORY = "memory:"


@dataclass(eq=False, slots=True)
class _Ear:
    """Who listens; `missed` is called when hints of other processes may have been lost."""

    listener: Listener
    missed: Callable[[], None] | None


class Bus:
    """One process's ear and mouth."""

    def __init__(self, url: str) -> None:
        self._ears: list[_Ear] = []
        self._reached: dict[int, int] = {}
        self._wake = Wake.NOBODY
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = False
        self._carrier = None if url.startswith(_MEMORY) else Carrier(url, self._hear, self._miss)

    async def open(self) -> None:
        """Begin to carry hints; returns once connected, or after a moment when the other side is away."""
        self._loop = asyncio.get_running_loop()
        self._schedule()
        if self._carrier is not None:
            await self._carrier.open()

    async def close(self) -> None:
        """Stop carrying hints."""
        self._loop = None
        if self._carrier is not None:
            await self._carrier.close()

    @property
    def connected(self) -> bool:
        """Whether hints go to other processes and come from them, as far as is known."""
        return self._carrier is None or self._carrier.connected

    def listen(self, listener: Listener, *, missed: Callable[[], None] | None = None) -> Callable[[], None]:
        """Call `listener` for every hint, also those of this process; returns how to stop it."""
        ear = _Ear(listener, missed)
        self._ears.append(ear)
        return lambda: self._ears.remove(ear)

    def publish(self, reached: Mapping[int, int], *, wake: Wake = Wake.NOBODY) -> None:
        """Tell everyone, soon; hints that have not left yet are folded together."""
        if not reached and not wake:
            return
        for feed, seq in reached.items():
            self._reached[feed] = max(seq, self._reached.get(feed, 0))
        self._wake = max(self._wake, wake)
        if self._carrier is not None:
            self._carrier.send(reached, wake=wake)
        self._schedule()

    def _schedule(self) -> None:
        if self._loop is not None and not self._is_due and (self._reached or self._wake):
            self._is_due = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._is_due = False
        reached, self._reached = self._reached, {}
        wake, self._wake = self._wake, Wake.NOBODY
        self._hear(reached, wake)

    def _hear(self, reached: Mapping[int, int], wake: int) -> None:
        for ear in tuple(self._ears):
            ear.listener(reached, Wake(wake))

    def _miss(self) -> None:
        for ear in tuple(self._ears):
            if ear.missed is not None:
                ear.missed()
        self._hear({}, Wake.EVERYBODY)
