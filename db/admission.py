"""Admission: which of the waiting jobs start now. Pure: no table, and no clock but the one it is given.

Jobs alike in project, version, what they ask for and the tags that limits look at are one kind; each kind
offers its first by priority and age. Turns go by priority, then to the project with the least share of the
backend (of what it holds most of: its dominant share), then by age. What does not fit may be passed by what
does, so that a large job leaves no room idle; but only for a while: passed `MOST_PASSES` times or for
`LONGEST`, a job holds its place. Then it goes first among its priority, and whatever is not more urgent
starts only beside what is kept free for it, so every job that fits starts at last.

A limit is a room like the backend, with a place of its own. A job needs room in all of its limits, in their
order, and then on the backend; a place is held only by who fits into every room before it, so that two who
wait for each other's rooms cannot both hold on to what the other needs.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

AMOUNTS = ("slots", "cpus", "memory_bytes", "gpus")
"""What a job takes of a backend while it runs; each worker takes a slot."""
MOST_PASSES = 64
LONGEST = timedelta(seconds=60)

_LEAST = 1e-9
"""What sums of fractions of a core may be off by."""
_WORDS = {
    "jobs": "jobs",
    "slots": "workers",
    "cpus": "CPUs",
    "memory_bytes": "bytes of memory",
    "gpus": "GPUs",
}


@dataclass(frozen=True, slots=True)
class Place:
    """The one job of a room that others have passed: how often, and since when."""

    job_id: bytes
    passes: int
    since: datetime

    def is_held(self, now: datetime) -> bool:
        """Whether it has been passed often or long enough."""
        return self.passes >= MOST_PASSES or now - self.since >= LONGEST


@dataclass(slots=True, eq=False)
class Room:
    """What holds only so much: a backend, or what a limit allows. `owner` is the limit's id, None for a backend.

    A limit that counts each value of a tag by itself has a room a value; its place is one for all of them.
    """

    whole: Mapping[str, float]
    free: Mapping[str, float]
    place: Place | None = None
    owner: bytes | None = None


def asked(row: Any) -> dict[str, float]:
    """What all workers of a job ask for together."""
    return {
        "jobs": 1,
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


def shortage(row: Any, free: Mapping[str, float]) -> str | None:
    """What of a job does not fit into what is free, in words."""
    short = [
        f"asks for {amount:g} {_WORDS[what]}, {max(0.0, free[what]):g} free"
        for what, amount in asked(row).items()
        if what in free and not _within({what: amount}, {what: free[what]})
    ]
    return "; ".join(short) or None


def stated(bounds: Mapping[str, float]) -> str:
    """Bounds in words."""
    return ", ".join(f"{bounds[what]:g} {word}" for what, word in _WORDS.items() if what in bounds)


class Line:
    """The waiting jobs of a backend while one claim lasts. Rows have the columns of `queues.HEADS`.

    `held` is what each project holds of the backend; `limits` are the rooms of each kind's limits, in order.
    `elsewhere` are jobs of other backends that have a place in one of these rooms, each with its own.
    """

    def __init__(
        self,
        backend: Room,
        held: Mapping[bytes, Mapping[str, float]],
        now: datetime,
        limits: Mapping[int, Sequence[Room]] | None = None,
        elsewhere: Iterable[tuple[Any, Sequence[Room]]] = (),
    ) -> None:
        self._backend = backend
        self._held = {project: dict(amounts) for project, amounts in held.items()}
        self._limits = limits or {}
        self._now = now
        self._elsewhere = {row.id: (row, rooms) for row, rooms in elsewhere}
        self._kinds: dict[int, deque[Any]] = {}
        self._turns: list[tuple[Any, ...]] = []
        """A heap: turns only ever become later, so that one found too early is put back."""
        self._chosen: list[Any] = []
        self._holders: dict[bytes, int] = {}
        """The kinds of the jobs that hold a place."""
        self._asked: set[int] = set()
        """The rooms whose holder is being looked for: two jobs may each hold what the other needs before."""
        rooms = [backend, *(room for some in self._limits.values() for room in some)]
        self._places = {room.place.job_id for room in rooms if room.place and room.place.is_held(now)}

    def offer(self, rows: Iterable[Any]) -> None:
        """Add waiting jobs; those of one kind come by priority and age."""
        for row in rows:
            queue = self._kinds.setdefault(row.kind, deque())
            queue.append(row)
            if row.id in self._places:
                self._holders[row.id] = row.kind
            if len(queue) == 1:
                heapq.heappush(self._turns, (*self._turn(row), row.kind))

    def next(self) -> Any | None:
        """The job whose turn it is and that fits; None when nothing more does."""
        while self._turns and self._backend.free["slots"] > 0:
            kind = heapq.heappop(self._turns)
            row = self._kinds[kind[-1]][0]
            if (turn := (*self._turn(row), row.kind)) > kind:
                heapq.heappush(self._turns, turn)
            elif self._fits(row):
                self._take(row)
                return row
        return None

    def is_exhausted(self, kind: int) -> bool:
        """Whether nothing of a kind is left that was offered."""
        return not self._kinds.get(kind)

    def places(self) -> dict[bytes | None, Place | None]:
        """Who has been passed in each room after this claim: as long as it waits the same, else who waits longest.

        A job of a higher priority that was passed takes it over: its turn comes first anyway.
        """
        places = {room.owner: room.place for room in self._all()}
        if not self._chosen and not any(places.values()) and not self._limits:
            return places
        waiting: dict[bytes | None, list[tuple[Any, Room]]] = {}
        for row in (*(kind[0] for kind in self._kinds.values() if kind), *self._foreign()):
            for room in self._awaited(row):
                waiting.setdefault(room.owner, []).append((row, room))
        return {owner: self._place(place, waiting.get(owner, ())) for owner, place in places.items()}

    def _foreign(self) -> list[Any]:
        return [row for row, _ in self._elsewhere.values()]

    def _all(self) -> Iterable[Room]:
        return (self._backend, *(room for rooms in self._limits.values() for room in rooms))

    def _rooms(self, row: Any) -> Sequence[Room]:
        """All that a job needs room in, in the order in which places are held."""
        if row.id in self._elsewhere:
            return self._elsewhere[row.id][1]
        return (*self._limits.get(row.kind, ()), self._backend)

    def _turn(self, row: Any) -> tuple[Any, ...]:
        return (-row.priority, row.id not in self._places, self._share(row.project_id), row.id)

    def _share(self, project: bytes) -> float:
        """The largest part of anything of the backend that a project holds."""
        held, whole = self._held.get(project, {}), self._backend.whole
        return max((held[what] / whole[what] for what in AMOUNTS if held and whole[what] > 0), default=0.0)

    def _fits(self, row: Any) -> bool:
        return all(self._has_room(room, row) for room in self._rooms(row))

    def _has_room(self, room: Room, row: Any) -> bool:
        """Whether a job fits beside what is kept free for the one that holds its place there."""
        holder = self._holder(room)
        if holder is None or row.id == holder.id or row.priority > holder.priority:
            return _within(asked(row), room.free)
        kept = asked(holder)
        return _within(asked(row), {what: amount - kept[what] for what, amount in room.free.items()})

    def _holder(self, room: Room) -> Any | None:
        """The job that holds its place in a room: first of its kind, and it fits into every room before."""
        if room.place is None or room.place.job_id not in self._places or id(room) in self._asked:
            return None
        row = self._placed(room.place.job_id)
        if row is None or not _within(asked(row), room.whole):
            return None
        self._asked.add(id(room))
        try:
            before = itertools.takewhile(lambda other: other is not room, self._rooms(row))
            # It may also be in another room of the same limit.
            fits = all(self._has_room(other, row) for other in before) and room in self._rooms(row)
        finally:
            self._asked.discard(id(room))
        return row if fits else None

    def _placed(self, job_id: bytes) -> Any | None:
        if job_id in self._holders:
            kind = self._kinds[self._holders[job_id]]
            return kind[0] if kind and kind[0].id == job_id else None
        return self._elsewhere[job_id][0] if job_id in self._elsewhere else None

    def _take(self, row: Any) -> None:
        queue = self._kinds[row.kind]
        queue.popleft()
        wanted = asked(row)
        for room in self._rooms(row):
            room.free = {what: amount - wanted[what] for what, amount in room.free.items()}
        held = self._held.setdefault(row.project_id, dict.fromkeys(AMOUNTS, 0.0))
        for what in AMOUNTS:
            held[what] += wanted[what]
        self._chosen.append(row)
        if queue:
            heapq.heappush(self._turns, (*self._turn(queue[0]), row.kind))

    def _awaited(self, row: Any) -> Iterable[Room]:
        """Where a job may be passed: in the first room that is too full for it, and where it has a place before.

        Nowhere when there is a room that it could never have: nothing is kept free in vain.
        """
        wanted, rooms = asked(row), self._rooms(row)
        if not all(_within(wanted, room.whole) for room in rooms):
            return
        for room in rooms:
            if not (free := _within(wanted, room.free)) or _is_of(room.place, row):
                yield room
            if not free or not self._has_room(room, row):
                return

    def _place(self, place: Place | None, waiting: Sequence[tuple[Any, Room]]) -> Place | None:
        """Who is passed of those who wait for a room, or for any of a limit's."""
        placed = None if place is None else place.job_id
        for row, room in sorted(waiting, key=lambda one: (-one[0].priority, one[0].id != placed, one[0].id)):
            passes = self._passes(row, room)
            if place is not None and _is_of(place, row):
                return Place(row.id, place.passes + passes, place.since)
            if passes or room.owner is not None:  # of a limit's room, others may take on other backends
                return Place(row.id, passes, self._now)
        return None

    def _passes(self, row: Any, room: Room) -> int:
        """How many that came later, and are not more urgent, were chosen now and took of the same room."""
        return sum(
            other.id > row.id and other.priority <= row.priority and room in self._rooms(other)
            for other in self._chosen
        )


def _is_of(place: Place | None, row: Any) -> bool:
    return place is not None and place.job_id == row.id


def _within(wanted: Mapping[str, float], free: Mapping[str, float]) -> bool:
    return all(not wanted[what] or wanted[what] <= amount + _LEAST for what, amount in free.items())
