"""Points told together, so often and so many as a watcher wants them.

Between two messages what comes is held and put together, a series a metric. Nothing else is held back: a state
that changes, lines, an end or a gap are told at once, after the points that came before them, so that a number
that was seen still says that everything up to it was seen. What is held is bounded, by being thinned or told.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np

from db import errors
from db.downsampling import LEAST, pick
from db.points import Points
from graph import live

LEAST_HZ, MOST_HZ = 0.1, 60.0
MOST_POINTS = 100_000
HELD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pace:
    """At most so many messages of points a second, at most so many points of a series in each."""

    hz: float | None
    points: int | None


def pace(max_hz: float | None, max_points: int | None) -> Pace | None:
    """The pace that was asked for; raises Invalid for one that cannot be kept."""
    if max_hz is not None and not LEAST_HZ <= max_hz <= MOST_HZ:
        rule = f"maxHz is from {LEAST_HZ:g} to {MOST_HZ:g} a second, not {max_hz:g}"
        raise errors.Invalid(rule, path=("maxHz",))
    if max_points is not None and not LEAST <= max_points <= MOST_POINTS:
        rule = f"maxPoints is from {LEAST} to {MOST_POINTS:,}, not {max_points:,}"
        raise errors.Invalid(rule, path=("maxPoints",))
    return None if max_hz is None and max_points is None else Pace(max_hz, max_points)


async def follow(
    hub: live.Hub,
    feed_id: int,
    after: int,
    paced: Pace,
    keep: Callable[[live.Message], live.Message | None],
    *,
    points: bool = True,
    until: int | None = None,
    remind_seconds: float,
) -> AsyncGenerator[live.Item, None]:
    """What the hub tells past `after`, of which `keep` says what is wanted, at a pace.

    Points up to the number `until` and those past it are never told together.
    """
    now = asyncio.get_running_loop().time
    seconds = 0.0 if paced.hz is None else 1 / paced.hz
    held = _Held(paced.points)
    due = now()

    def remind() -> float:
        return max(due - now(), 0.0) if held.seq else remind_seconds

    async with aclosing(hub.follow(feed_id, after, points=points, remind_seconds=remind)) as items:
        async for item in items:
            wanted = keep(item) if isinstance(item, live.Message) else item
            if wanted is None:
                continue
            if isinstance(wanted, live.Message) and wanted.points and (until is None or item.seq <= until):
                held.add(wanted)
                if held.overflows() or (seconds and due <= now() - seconds):
                    yield held.take()
                    due = now() + seconds
                continue
            is_progress = isinstance(wanted, live.Reached) and (until is None or item.seq < until)
            if held.seq and not (is_progress and now() < due):
                yield held.take()
                due = now() + seconds
            if not held.seq:  # a number past points that are held would have them lost
                yield wanted


class _Held:
    """Points that are held back, and where they come from."""

    def __init__(self, most: int | None) -> None:
        self.first = self.seq = 0
        self._most = most
        self._series: dict[tuple[bytes, int, int, str], list[Points]] = {}
        self._counts: dict[tuple[bytes, int, int, str], int] = {}
        self._bytes = 0

    def overflows(self) -> bool:
        """Whether there is more than may be held, also once it is thinned."""
        if self._bytes > HELD_BYTES and self._most is not None:
            self._series = {key: [self._thinned(parts)] for key, parts in self._series.items()}
            self._bytes = sum(24 * len(parts[0].values) for parts in self._series.values())
        return self._bytes > HELD_BYTES

    def add(self, message: live.Message) -> None:
        self.first = self.first or message.seq
        self.seq = message.seq
        for points in message.points:
            key = (points.job_id, points.attempt, points.rank, points.name)
            self._series.setdefault(key, []).append(points)
            self._counts[key] = self._counts.get(key, 0) + len(points.values)
            self._bytes += 24 * len(points.values)

    def take(self) -> live.Message:
        """All of it as one message, which is under the number of the last."""
        points = tuple(self._thinned(parts) for parts in self._series.values())
        counts = tuple(self._counts.values())
        made = live.Message(self.seq, points=points, first=self.first, counts=counts)
        self.first = self.seq = self._bytes = 0
        self._series, self._counts = {}, {}
        return made

    def _thinned(self, parts: list[Points]) -> Points:
        last = parts[-1]
        if len(parts) > 1:
            steps, times, values = (
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("steps", "times", "values")
            )
            last = replace(last, steps=steps, times=times, values=values)
        count = len(last.values)
        if self._most is None or count <= self._most:
            return last
        size = -(-count // (self._most // LEAST))
        chosen = pick(np.arange(count), last.values, size)
        return replace(last, steps=last.steps[chosen], times=last.times[chosen], values=last.values[chosen])
