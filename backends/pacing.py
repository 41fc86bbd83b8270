"""How fast jobs are started on this machine.

The start of a job, of an interpreter above all, has a core to itself for tens of milliseconds, much of them in the
kernel. Many in a row keep all cores busy, and whoever is woken meanwhile, this server too, waits for the next tick of
a clock before it gets one, however nice jobs are. So starts leave a core free, wherever there is more than one.
"""

import asyncio
import os
import time

START_SECONDS = 0.02
"""How long one start keeps one core: a watcher's fork, and an interpreter that does next to nothing."""
AT_ONCE = 4
"""Starts that need not wait, as nobody feels so few."""


class Pace:
    """Starts `at_once` together, and then one each `seconds`, in the order in which they come."""

    def __init__(self, seconds: float | None = None, at_once: int = AT_ONCE) -> None:
        cores = len(os.sched_getaffinity(0))
        self._seconds = START_SECONDS / max(1, cores - 1) if seconds is None else seconds
        self._ahead = (at_once - 1) * self._seconds
        self._due = 0.0
        """When the next start would come if none might be early."""

    async def keep(self) -> None:
        """Wait for one's turn."""
        now = time.monotonic()
        due = max(self._due, now)
        self._due = due + self._seconds
        if (wait := due - self._ahead - now) > 0:
            await asyncio.sleep(wait)
