"""Admission as a simulation: what fits starts, nothing is overbooked, and nobody starves."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from db import admission
from db.admission import Line, Place, Room

ROOM = {"slots": 8, "cpus": 4.0, "memory_bytes": 100, "gpus": 2}
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Waiting:
    """A job as a claim reads it."""

    id: int
    project_id: bytes
    workers: int
    cpus: float | None
    memory_bytes: int | None
    gpus: int
    priority: int = 0

    @property
    def kind(self) -> int:
        return hash((self.project_id, self.workers, self.cpus, self.memory_bytes, self.gpus))


shapes = st.tuples(
    st.sampled_from([b"a", b"b", b"c"]),
    st.integers(1, 2),
    st.sampled_from([None, 0.5, 1.0, 2.0]),
    st.sampled_from([None, 10, 50]),
    st.integers(0, 1),
)
SMALL = (b"c", 1, 0.5, 10, 1)


class Machine:
    """A backend in virtual time: jobs arrive, are claimed, run, and end in the order they started."""

    def __init__(self) -> None:
        self.queue: list[Waiting] = []
        self.running: list[Waiting] = []
        self.place: Place | None = None
        self.now = START

    def free(self) -> dict[str, float]:
        taken = occupied(self.running)
        return {what: amount - taken[what] for what, amount in ROOM.items()}

    def claim(self) -> list[Waiting]:
        held = {
            name: occupied(row for row in self.running if row.project_id == name)
            for name in {row.project_id for row in self.running}
        }
        line = Line(Room(ROOM, self.free(), self.place), held, self.now)
        line.offer(sorted(self.queue, key=lambda row: (-row.priority, row.id)))
        chosen: list[Waiting] = []
        while (row := line.next()) is not None:
            chosen.append(row)
        self.place = line.places()[None]
        self.queue = [row for row in self.queue if row not in chosen]
        self.running += chosen
        return chosen


def occupied(rows: Iterable[Waiting]) -> dict[str, float]:
    """What these jobs hold together."""
    taken: Counter[str] = Counter()
    for row in rows:
        taken.update(admission.asked(row))
    return {what: taken[what] for what in ("jobs", *admission.AMOUNTS)}


@given(st.lists(shapes, max_size=12), st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_a_large_job_starts_at_last_however_many_small_ones_come(
    ahead: list[tuple[bytes, int, float | None, int | None, int]], ends: list[int]
) -> None:
    machine = Machine()
    machine.queue = [Waiting(number, *shape) for number, shape in enumerate(ahead)]
    large = Waiting(len(ahead), b"a", 2, 2.0, 50, 1)
    machine.queue.append(large)
    number, passes, rounds = len(ahead), 0, 0
    while large in machine.queue:
        rounds += 1
        assert rounds < 2000
        for _ in range(4):  # always more small ones waiting than there is room
            number += 1
            machine.queue.append(Waiting(number, *SMALL))
        chosen = machine.claim()
        assert min(machine.free().values()) >= 0
        passes += sum(row.id > large.id for row in chosen)
        del machine.running[: max(1, ends[rounds % len(ends)])]
    # It waits its turn behind those ahead, each of which may be passed as often.
    assert passes <= (admission.MOST_PASSES + 8) * (len(ahead) + 1)


@given(st.lists(st.tuples(shapes, st.integers(0, 2)), min_size=1, max_size=15))
def test_room_is_used_as_long_as_nobody_holds_a_place(
    waiting: list[tuple[tuple[bytes, int, float | None, int | None, int], int]],
) -> None:
    machine = Machine()
    machine.queue = [Waiting(number, *shape, priority) for number, (shape, priority) in enumerate(waiting)]
    machine.claim()
    free = machine.free()
    assert min(free.values()) >= 0
    for row in machine.queue:
        asked = admission.asked(row)
        assert any(asked[what] > amount for what, amount in free.items() if asked[what])


@given(st.lists(shapes, min_size=1, max_size=10), st.integers(0, 200))
def test_a_place_is_kept_by_time_too(
    waiting: list[tuple[bytes, int, float | None, int | None, int]], seconds: int
) -> None:
    machine = Machine()
    machine.running = [Waiting(0, b"z", 1, 1.0, None, 0)]
    large = Waiting(1, b"a", 1, 4.0, None, 0)
    machine.queue = [large, *(Waiting(2 + number, *shape) for number, shape in enumerate(waiting))]
    first = machine.claim()
    assert large not in first
    if machine.place is None:
        return
    machine.now += timedelta(seconds=seconds)
    machine.queue.append(Waiting(1000, b"b", 1, 0.5, None, 0))
    later = machine.claim()
    if seconds >= admission.LONGEST.total_seconds():
        assert later == []  # whatever wants a core would take one of those it waits for
