"""Garbage: cycles that nothing leads to, which Python finds by going through what lives while everybody waits.

Nearly everything here is free as soon as its last reference goes. For what is not, Python would go through all that
a thousand connections hold (100 ms) while they come, and again and again while many others come and go. So only the
young are searched after so many objects more, which takes a few milliseconds at most; everything is when enough has
grown up for it and the process has little to do, or when so much has that memory matters more than a pause.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

YOUNG = 10_000
"""Objects more, after which these are searched; at Python's 700 each page of a list would be."""
ENOUGH = 50_000
"""Objects that have grown up since all were searched, for it to be worth while where nobody minds."""
MOST = 500_000
"""Objects after which it is done whoever minds: some 100 MB, if all of it is garbage."""
RESTS = 1000
"""How often as long as it took, the last time, everything rests before it is searched for that."""
LOOK_SECONDS = 1.0
IDLE = 0.1
"""The share of a core below which a process has little to do."""
_NEVER = 1 << 30


class Collector:
    """Searches everything, when it is due.

    Its clocks tell the time, and what the process has worked, in seconds of a core.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, work: Callable[[], float] = time.process_time
    ) -> None:
        self.grown = 0
        self._clock, self._work = clock, work
        self._worked = work()
        self._began = self._rests_until = clock()

    def note(self, phase: str, info: dict[str, Any]) -> None:
        """One search, of `gc.callbacks`."""
        if not info["generation"]:
            self.grown += max(0, YOUNG - info["collected"]) if phase == "stop" else 0
        elif phase == "start":
            self._began = self._clock()
        else:
            now = self._clock()
            self.grown, self._rests_until = 0, now + RESTS * (now - self._began)

    def look(self) -> None:
        """Search everything now, if that is due. To be called every LOOK_SECONDS."""
        worked = self._work()
        is_idle = worked - self._worked < IDLE * LOOK_SECONDS and self._clock() >= self._rests_until
        if self.grown >= MOST or (is_idle and self.grown >= ENOUGH):
            gc.collect()
        self._worked = self._work()


@contextmanager
def collecting() -> Iterator[None]:
    """In here, on the running loop; what there is already stays, and is never searched."""
    collector, before = Collector(), gc.get_threshold()
    looking = asyncio.create_task(_keep_looking(collector), name="garbage")
    gc.freeze()
    gc.callbacks.append(collector.note)
    gc.set_threshold(YOUNG, _NEVER, _NEVER)
    try:
        yield
    finally:
        looking.cancel()
        gc.set_threshold(*before)
        gc.callbacks.remove(collector.note)


async def _keep_looking(collector: Collector) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        collector.look()
