"""How often something is done: at once when it was not done lately, and after that so often a second.

What the server does by itself is paced where doing it at once would cost more, or keep others from a core, and nobody
would notice when it comes a little later.
"""

import asyncio
import os
import time

_START_SECONDS = 0.02
"""How long a start keeps one core: a watcher's fork, and an interpreter that does next to nothing."""
_STARTS_AT_ONCE = 4
"""Nobody feels so few."""
_STORE_SECONDS = 0.02
_STORES_AT_ONCE = 11


class Pace:
    """Something is done `at_once` times together, and then once each `seconds`."""

    def __init__(self, seconds: float, at_once: int) -> None:
        self._seconds = seconds
        self._early = (at_once - 1) * seconds
        self._due = 0.0
        """When it would be done next if none were early."""

    def spend(self, now: float) -> None:
        """It is done."""
        self._due = max(self._due, now) + self._seconds

    def wait(self, now: float) -> float:
        """The seconds until it may be done again."""
        return max(0.0, self._due - self._early - now)

    async def keep(self) -> None:
        """Wait until it may be done; those who wait are let go in the order in which they came."""
        now = time.monotonic()
        seconds = self.wait(now)
        self.spend(now)
        try:
            if seconds:
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._due -= self._seconds
            raise


def starts() -> Pace:
    """Of jobs on this machine: where there is more than one core, one stays free.

    A start has a core to itself for tens of milliseconds, much of it in the kernel. Many in a row keep all cores busy,
    and whoever is woken meanwhile, this server too, waits for the next tick of a clock, however nice jobs are.
    """
    return Pace(_START_SECONDS / max(1, len(os.sched_getaffinity(0)) - 1), _STARTS_AT_ONCE)


def stores() -> Pace:
    """Of what one attempt prints."""
    return Pace(_STORE_SECONDS, _STORES_AT_ONCE)
