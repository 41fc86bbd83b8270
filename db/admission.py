"""Admission: which of the waiting jobs start now. Pure: no table, and no clock but the one it is given.

Jobs alike in project, version and what they ask for are one kind; each kind offers its first by priority and
age. Turns go by priority, then to the project with the fewest jobs running, then by age. What does not fit
may be passed by what does, so that a large job leaves no room idle; but only for a while: passed `MOST_PASSES`
times or for `LONGEST`, a job holds its place. Then it goes first among its priority, and whatever is not
more urgent starts only beside what is kept free for it, so every job that fits its backend starts at last.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

AMOUNTS = ("slots", "cpus", "memory_bytes", "gpus")
"""What a job takes of a backend while it runs; each worker takes a slot."""
MOST_PASSES = 64
LONGEST = timedelta(seconds=60)

_LEAST = 1e-9
"""What sums of fractions of a core may be off by."""


@dataclass(frozen=True, slots=True)
class Place:
    """The one job of a backend that others have passed: how often, and since when."""

    job_id: bytes
    passes: int
    since: datetime

    def is_held(self, now: datetime) -> bool:
        """Whether it has been passed often or long enough."""
        return self.passes >= MOST_PASSES or now - self.since >= LONGEST


def asked(row: Any) -> dict[str, float]:
    """What all workers of a job ask for together."""
    return {
        "slots": row.workers,
        "cpus": (row.cpus or 0.0) * row.workers,
        "memory_bytes": (row.memory_bytes or 0) * row.workers,
        "gpus": row.gpus * row.workers,
    }


def excess(name: str, bounds: Mapping[str, float], row: Any) -> str | None:
    """Why a job can never run on a backend of this name and bounds, whatever else is free there, in words."""
    over = [
        f"asks for {amount:g} {_WORDS[what]}, backend {name} has {bounds[what]:g}"
        for what, amount in asked(row).items()
        if what in bounds and amount > bounds[what]
    ]
    return "; ".join(over) or None


def shortage(row: Any, room: Mapping[str, float]) -> str | None:
    """What of a job does not fit into what is free, in words."""
    short = [
        f"asks for {amount:g} {_WORDS[what]}, {max(0.0, room[what]):g} free"
        for what, amount in asked(row).items()
        if not _within({what: amount}, room)
    ]
    return "; ".join(short) or None


_WORDS = {"slots": "workers", "cpus": "CPUs", "memory_bytes": "bytes of memory", "gpus": "GPUs"}


class Line:
    """The waiting jobs of a backend while one claim lasts. Rows have the columns of `claims._HEADS`."""

    def __init__(
        self, free: Mapping[str, float], running: Mapping[bytes, int], place: Place | None, now: datetime
    ) -> None:
        self._free = dict(free)
        self._running = Counter(running)
        self._place = place
        self._now = now
        self._held = place.job_id if place is not None and place.is_held(now) else None
        self._kinds: dict[int, deque[Any]] = {}
        self._refused: set[int] = set()
        self._chosen: list[Any] = []

    def offer(self, rows: Iterable[Any]) -> None:
        """Add waiting jobs; those of one kind come by priority and age."""
        for row in rows:
            self._kinds.setdefault(row.kind, deque()).append(row)

    def next(self) -> Any | None:
        """The job whose turn it is and that fits; None when nothing more does."""
        while self._free["slots"] > 0:
            heads = [kind[0] for key, kind in self._kinds.items() if kind and key not in self._refused]
            if not heads:
                return None
            row = min(heads, key=self._turn)
            if self._fits(row):
                self._take(row)
                return row
            self._refused.add(row.kind)
        return None

    def is_exhausted(self, kind: int) -> bool:
        """Whether nothing of a kind is left that was offered."""
        return not self._kinds.get(kind)

    def place(self) -> Place | None:
        """Who has been passed after this claim: as long as it waits the same, else who waits longest.

        A job of a higher priority that was passed takes it over: its turn comes first anyway.
        """
        passed = {row.id: row for row in self._waiting() if self._passes(row) or self._is_placed(row)}
        if not passed:
            return None
        most = max(row.priority for row in passed.values())
        row = min((row for row in passed.values() if row.priority == most), key=self._precedence)
        passes = self._passes(row)
        if self._place is not None and self._is_placed(row):
            return Place(row.id, self._place.passes + passes, self._place.since)
        return Place(row.id, passes, self._now)

    def _turn(self, row: Any) -> tuple[Any, ...]:
        return (-row.priority, row.id != self._held, self._running[row.project_id], row.id)

    def _precedence(self, row: Any) -> tuple[Any, ...]:
        return (not self._is_placed(row), row.id)

    def _fits(self, row: Any) -> bool:
        return _within(asked(row), self._room(row))

    def _room(self, row: Any) -> dict[str, float]:
        """What is free for a job, without what is kept free for the one that holds its place."""
        holder = next((kind[0] for kind in self._kinds.values() if kind and kind[0].id == self._held), None)
        if holder is None or row.id == holder.id or row.priority > holder.priority:
            return self._free
        kept = asked(holder)
        return {what: amount - kept[what] for what, amount in self._free.items()}

    def _take(self, row: Any) -> None:
        self._kinds[row.kind].popleft()
        wanted = asked(row)
        self._free = {what: amount - wanted[what] for what, amount in self._free.items()}
        self._running[row.project_id] += 1
        self._chosen.append(row)

    def _waiting(self) -> list[Any]:
        """The first of each kind that does not fit into what is free."""
        heads = [kind[0] for kind in self._kinds.values() if kind]
        return [row for row in heads if not _within(asked(row), self._free)]

    def _is_placed(self, row: Any) -> bool:
        return self._place is not None and self._place.job_id == row.id

    def _passes(self, row: Any) -> int:
        """How many that came later, and are not more urgent, were chosen now."""
        return sum(other.id > row.id and other.priority <= row.priority for other in self._chosen)


def _within(wanted: Mapping[str, float], room: Mapping[str, float]) -> bool:
    return all(not amount or amount <= room[what] + _LEAST for what, amount in wanted.items())
