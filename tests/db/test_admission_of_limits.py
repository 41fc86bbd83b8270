"""Admission under limits as a simulation of two backends: nothing is exceeded, and nobody starves.

The limits overlap: a job may need room in several of them and on its backend, and wait for one while others of
those who wait hold places in the rest.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from db import admission
from db.admission import Line, Place, Room

START = datetime(2026, 1, 1, tzinfo=UTC)
WHOLE = {"slots": 6, "cpus": 4.0, "memory_bytes": 100, "gpus": 2}


@dataclass(frozen=True)
class Job:
    """A job as a claim reads it, with what limits look at."""

    id: int
    backend: str
    project_id: bytes
    tag: str
    workers: int
    cpus: float
    gpus: int
    priority: int = 0
    memory_bytes: None = None

    @property
    def kind(self) -> int:
        return hash((self.backend, self.project_id, self.tag, self.workers, self.cpus, self.gpus))


@dataclass(frozen=True)
class Limit:
    """What it bounds of whom; None is whoever. `each` value of the tag counts by itself."""

    id: bytes
    bounds: dict[str, float]
    project: bytes | None = None
    backend: str | None = None
    tag: str | None = None
    each: bool = False

    def value(self, job: Job) -> str | None:
        """Which of its counts a job is in; None when in none."""
        mine = (
            self.project in (None, job.project_id)
            and self.backend in (None, job.backend)
            and self.tag in (None, job.tag)
        )
        return (job.tag if self.each else "") if mine else None


LIMITS = (
    Limit(b"1", {"gpus": 2}, project=b"a"),
    Limit(b"2", {"cpus": 4.0, "jobs": 4}, tag="x"),
    Limit(b"3", {"slots": 4}, each=True),
    Limit(b"4", {"cpus": 3.0}, backend="k", project=b"a"),
)


@dataclass
class Machine:
    """Two backends in virtual time: jobs arrive, are claimed for one after the other, and end in order."""

    queue: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    places: dict[bytes | str, Place | None] = field(default_factory=dict)
    now: datetime = START

    def rooms(self) -> dict[tuple[bytes, str], Room]:
        """The rooms of limits, of every value there is."""
        found: dict[tuple[bytes, str], Room] = {}
        for limit in LIMITS:
            for value in {limit.value(job) for job in (*self.queue, *self.running)} - {None}:
                assert value is not None
                taken = occupied(job for job in self.running if limit.value(job) == value)
                free = {what: amount - taken[what] for what, amount in limit.bounds.items()}
                room = Room(limit.bounds, free, self.places.get(limit.id), limit.id)
                found[limit.id, value] = room
        return found

    def free(self, backend: str) -> dict[str, float]:
        taken = occupied(job for job in self.running if job.backend == backend)
        return {what: amount - taken[what] for what, amount in WHOLE.items()}

    def claim(self, backend: str) -> list[Job]:
        rooms = self.rooms()

        def of(job: Job) -> list[Room]:
            return [rooms[one.id, value] for one in LIMITS if (value := one.value(job)) is not None]

        mine = [job for job in self.queue if job.backend == backend]
        placed: set[object] = {place.job_id for place in self.places.values() if place}
        elsewhere = [(job, of(job)) for job in self.queue if job.id in placed and job not in mine]
        here = Room(WHOLE, self.free(backend), self.places.get(backend))
        held = {
            name: occupied(job for job in self.running if (job.backend, job.project_id) == (backend, name))
            for name in (b"a", b"b")
        }
        line = Line(here, held, self.now, {job.kind: of(job) for job in mine}, elsewhere)
        line.offer(sorted(mine, key=lambda job: (-job.priority, job.id)))
        chosen: list[Job] = []
        while (job := line.next()) is not None:
            chosen.append(job)
        for owner, place in line.places().items():
            self.places[backend if owner is None else owner] = place
        self.queue = [job for job in self.queue if job not in chosen]
        self.running += chosen
        return chosen

    def check(self) -> None:
        """That nothing holds more than it has."""
        for backend in ("k", "l"):
            assert min(self.free(backend).values()) >= -1e-9
        for room in self.rooms().values():
            assert min(room.free.values()) >= -1e-9


def occupied(jobs: Iterable[Job]) -> dict[str, float]:
    taken: Counter[str] = Counter()
    for job in jobs:
        taken.update(admission.asked(job))
    return {what: taken[what] for what in ("jobs", *admission.AMOUNTS)}


shapes = st.tuples(
    st.sampled_from("kl"),
    st.sampled_from([b"a", b"b"]),
    st.sampled_from("xyz"),
    st.integers(1, 3),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.integers(0, 2),
).filter(lambda shape: shape[3] * shape[5] <= 2)
SMALL = tuple((backend, project, tag, 1, 0.5, gpus) for backend in "kl" for project in (b"a", b"b")
              for tag in "xy" for gpus in (0, 1))  # fmt: skip


@given(
    st.lists(shapes, min_size=1, max_size=6),
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.integers(0, 3),
)
@example(
    [("k", b"a", tag, cores, 0.25, gpus) for tag, cores, gpus in
     (("x", 1, 0), ("x", 1, 0), ("x", 1, 1), ("x", 2, 0), ("y", 1, 0), ("z", 1, 2))],
    [1],
    0,
)  # fmt: skip
def test_every_job_starts_at_last_whatever_else_comes(
    waiting: list[tuple[str, bytes, str, int, float, int]], ends: list[int], skipped: int
) -> None:
    machine = Machine()
    machine.queue = [Job(number, *shape) for number, shape in enumerate(waiting)]
    wanted = set(machine.queue)
    number, rounds = len(waiting), 0
    while wanted & set(machine.queue):
        rounds += 1
        assert rounds < 3000, machine
        for backend in "kl":
            for _ in range(2):
                number += 1
                machine.queue.append(Job(number, *SMALL[(number * 7 + skipped) % len(SMALL)]))
            machine.claim(backend)
            machine.check()
        # What comes later is forgotten, lest the simulation becomes slow; there is always more than enough of it.
        machine.queue = [job for job in machine.queue if job in wanted or job.id > number - 60]
        machine.now += timedelta(seconds=1)
        del machine.running[: ends[rounds % len(ends)]]


@given(st.lists(st.tuples(shapes, st.integers(0, 2)), min_size=1, max_size=12))
def test_room_is_used_as_long_as_nobody_holds_a_place(
    waiting: list[tuple[tuple[str, bytes, str, int, float, int], int]],
) -> None:
    machine = Machine()
    machine.queue = [Job(number, *shape, priority) for number, (shape, priority) in enumerate(waiting)]
    for backend in "kl":
        machine.claim(backend)
    machine.check()
    rooms = machine.rooms()
    for job in machine.queue:
        mine = [rooms[one.id, value].free for one in LIMITS if (value := one.value(job)) is not None]
        asked = admission.asked(job)
        free = [*mine, machine.free(job.backend)]
        assert any(asked[what] > room[what] for room in free for what in room if asked[what])


@given(st.integers(1, 5), st.integers(1, 8))
def test_projects_get_like_shares_whatever_size_their_jobs_have(large: int, small: int) -> None:
    room = Room({**WHOLE, "slots": 1000, "cpus": 40.0}, {**WHOLE, "slots": 1000, "cpus": 40.0})
    line = Line(room, {}, START)
    shapes = ((b"a", large / 2), (b"b", small / 4))
    line.offer(
        Job(number * 2 + side, "k", project, "z", 1, cpus, 0)
        for side, (project, cpus) in enumerate(shapes)
        for number in range(300)
    )
    held = {b"a": 0.0, b"b": 0.0}
    while (job := line.next()) is not None:
        held[job.project_id] += job.cpus
        if max(held.values()) > 36:
            break
    assert abs(held[b"a"] - held[b"b"]) <= max(cpus for _, cpus in shapes) + 1e-9
