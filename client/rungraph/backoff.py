"""How long to wait before asking again, and when to give up.

Pauses double and are jittered, so that a thousand watchers of a restarted server do not come back in step.
Patience counts from the first failure: whoever makes progress takes fresh `delays()`.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rungraph.errors import ClientError

CHANCE = random.Random()
"""Our own: training is repeatable only while nobody else draws from the numbers that it has seeded."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between tries: from `first_seconds`, at most `most_seconds`, over `patience_seconds` in all."""

    first_seconds: float = 0.1
    most_seconds: float = 5.0
    patience_seconds: float = 1.5

    def delays(self) -> Iterator[float]:
        """Seconds to wait before each further try; ends when patience does, counted from the first `next`."""
        deadline = time.monotonic() + self.patience_seconds
        ceiling = self.first_seconds
        while time.monotonic() < deadline:
            yield CHANCE.uniform(ceiling / 2, ceiling)
            ceiling = min(ceiling * 2, self.most_seconds)


FOR_REQUESTS = Backoff()
"""Long enough for a dropped connection, short enough that a missing server is told at once."""

FOR_FEEDS = Backoff(patience_seconds=60)
"""Long enough for a server's restart: a watcher has nothing better to do."""


async def pause(delays: Iterator[float], failure: ClientError) -> None:
    """Waits before the next try; raises `failure` when there is to be none."""
    delay = next(delays, None)
    if delay is None:
        raise failure
    await asyncio.sleep(delay)
