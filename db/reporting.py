"""What code reports of itself through the API: metrics of a job that is running, under its own token.

Batches of many callers are added in one transaction (ingest.py), each whole or refused for itself: what they meet
is read under the locks of their feeds, judged batch after batch in the process, and written at once. A batch is
committed at most once: a producer numbers its batches, and a number that was committed before changes nothing and
gets the same answer.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from db import bare, batches, errors, externals, feeds, ids, room, texts, viewers
from db.batches import Portion
from db.database import Transaction
from db.errors import DomainError
from db.points import Column, Origin, Place
from db.states import TERMINAL_JOB
from db.viewers import Viewer


@dataclass(frozen=True, slots=True)
class Batch:
    """What a caller wants to add to a job's worker."""

    viewer: Viewer
    job_id: bytes
    rank: int
    producer: str
    number: int
    given: Sequence[Column]
    at: Place = lambda index: ("series", str(index))


class Added(NamedTuple):
    """A batch's number in the run's feed, and whether it was a repeat."""

    seq: int
    duplicate: bool


def require_sound(batch: Batch) -> None:
    """Raise Invalid for what no job would take."""
    refusal = texts.refusal(batch.producer)
    if refusal or not 1 <= len(batch.producer) <= 100:
        message = f"a producer's name {refusal or f'has 1 to 100 characters, not {len(batch.producer):,}'}"
        raise errors.Invalid(message, path=("producer",))
    if not any(len(column.values) for column in batch.given):
        raise errors.Invalid("there are no points in this batch", path=("points",))


def require_reporter(viewer: Viewer, job_id: bytes, run_id: bytes, project_id: bytes) -> None:
    """Raise unless the viewer may report for this job: its own token, or a writer of its project.

    That is Forbidden for another job of a token's own run, which it sees, and NotFound for what is hidden.
    """
    if viewer.kind is viewers.Kind.JOB:
        if viewer.run_id != run_id:
            raise missing(job_id)
        if viewer.job_id != job_id:
            raise errors.Forbidden("this token is of another job", path=("job",))
    elif not viewer.sees_all and project_id not in viewer.projects:
        raise missing(job_id)


def missing(job_id: bytes) -> errors.NotFound:
    """What is said of a job that does not exist, or may not be seen."""
    return errors.NotFound(f"there is no job {ids.encode('job', job_id)}", path=("job",))


async def add(session: Transaction, given: Sequence[Batch]) -> list[Added | DomainError]:
    """Add batches to running jobs, in order; of each its number, or why it was refused.

    That is NotFound, Forbidden, or Conflict for a job that is not running.
    """
    group = _Group(session)
    await group.stand(given)
    answers = [group.judge(batch) for batch in given]
    await batches.append_all(session, group.taken, group.changed)
    for attempt_id, made in group.new_producers.items():
        await batches.producers_of.take(session, attempt_id, made, {"attempt": attempt_id})
    return answers


class _Standing(NamedTuple):
    """Where a caller finds its worker. From `feed_id` on None where there is no such job, attempt or worker.

    The feed stands at `seq` now that it is locked, and stood at `seen` when the rest was read.
    """

    job_id: bytes
    rank: int
    producer: str
    feed_id: int | None
    seq: int
    seen: int
    project_id: bytes
    run_id: bytes
    step: str
    attempt_id: bytes
    attempt: int
    ended_at: int | None
    backend_id: bytes | None
    worker_id: int | None
    number: int | None
    committed: int


_STANDING_TEXT = """
    SELECT k.job, k.rank, k.producer, j.feed_id, {seq}, f.seq, j.project_id, j.run_id, j.step,
           a.id, a.number, a.ended_at, a.backend_id, w.id, p.number, p.seq
    FROM {{keys}}
    LEFT JOIN jobs j ON j.id = k.job
    LEFT JOIN feeds f ON f.id = j.feed_id
    LEFT JOIN attempts a ON a.job_id = j.id AND a.number = j.attempts
    LEFT JOIN workers w ON w.attempt_id = a.id AND w.rank = k.rank
    LEFT JOIN producers p ON p.attempt_id = a.id AND p.producer = k.producer
    """
_KEYS = {"job": "bytea", "rank": "int", "producer": "text"}
_STANDING = bare.Look(_STANDING_TEXT.format(seq="f.seq"), **_KEYS)
# Of PostgreSQL: the feeds are locked in id order by the statement that reads what hangs below them.
_LOCKING = bare.Look(
    """
    WITH locked AS MATERIALIZED (
        SELECT id, seq FROM feeds WHERE id IN (SELECT feed_id FROM jobs WHERE id = ANY ($1))
        ORDER BY id FOR NO KEY UPDATE)
    """
    + _STANDING_TEXT.format(seq="(SELECT l.seq FROM locked l WHERE l.id = j.feed_id)"),
    **_KEYS,
)
_ENDED = ", ".join(f"'{state.value}'" for state in TERMINAL_JOB)
# As externals.hear has it: those of which a report changes nothing.
_QUIET = bare.Look(
    f"""
    SELECT e.job_id
    FROM {{keys}}
    JOIN externals e ON e.job_id = k.job
    JOIN jobs j ON j.id = k.job
    JOIN runs r ON r.id = e.run_id
    WHERE j.state NOT IN ({_ENDED}) AND r.deleted_at IS NULL
      AND (r.cancel_requested_at IS NOT NULL
           OR e.expires_at >= {{now}} + e.heartbeat_seconds * {int((externals.MISSED - 0.5) * 1e6)})
    """,
    job="bytea",
)


@dataclass(slots=True)
class _Group:
    """Batches on their way into one transaction."""

    session: Transaction
    standing: dict[tuple[bytes, int, str], _Standing] = field(default_factory=dict)
    heard: set[bytes] = field(default_factory=set)
    numbers: batches.Numbers = field(default_factory=dict)
    changed: batches.Numbers = field(default_factory=dict)
    taken: list[Portion] = field(default_factory=list)
    strange: set[tuple[int, str]] = field(default_factory=set)
    """Metrics that workers do not have which may have no more."""
    new_producers: Counter[bytes] = field(default_factory=Counter)
    """How many of each attempt's have not reported before."""

    async def stand(self, given: Sequence[Batch]) -> None:
        """Read what the batches meet, and hear the reporters of external runs."""
        await self._lock({(batch.job_id, batch.rank, batch.producer) for batch in given})
        for row in self.standing.values():
            if row.feed_id is not None:
                feeds.hold(self.session, row.feed_id, row.seq)
            if row.number is not None:
                self.numbers[row.attempt_id, row.producer] = row.number, row.committed
        full = [
            row
            for row in self.standing.values()
            if batches.metrics_of.is_full((row.attempt_id, row.worker_id))
        ]
        if full:
            await self._look_at_names(given, {(row.job_id, row.rank): row.worker_id for row in full})
        await self._hear(given)

    async def _lock(self, keys: Collection[tuple[bytes, int, str]]) -> None:
        """Lock the feeds, and read what stands below them.

        Who changes that moves the feed on: where it stands as it was seen, so does all that was read with it. If not,
        somebody was waited for, and it is read again.
        """
        first = await self._look(_LOCKING if self.session.postgresql else _STANDING, keys)
        if any(row.seq != row.seen for row in first.values()):
            locked = [key for key, row in first.items() if row.feed_id is not None]
            first |= await self._look(_STANDING, locked)
        self.standing = first

    async def _look(
        self, what: bare.Look, keys: Collection[tuple[bytes, int, str]]
    ) -> dict[tuple[bytes, int, str], _Standing]:
        rows = map(_Standing._make, await bare.look(self.session, what, list(keys)))
        return {(row.job_id, row.rank, row.producer): row for row in rows}

    async def _look_at_names(self, given: Iterable[Batch], workers: Mapping[tuple[bytes, int], Any]) -> None:
        keys = {
            (workers[batch.job_id, batch.rank], column.name)
            for batch in given
            if (batch.job_id, batch.rank) in workers
            for column in batch.given
        }
        self.strange = await batches.strange(self.session, keys)

    async def _hear(self, given: Iterable[Batch]) -> None:
        jobs = {batch.job_id for batch in given if self._may_be_heard(batch)}
        if not jobs:
            return
        quiet = {row[0] for row in await bare.look(self.session, _QUIET, [(job,) for job in jobs])}
        self.heard |= quiet
        feed_of = {row.job_id: row.feed_id for row in self.standing.values() if row.feed_id is not None}
        for job_id in sorted(jobs - quiet):
            head = await feeds.lock(self.session, feed_of[job_id])
            if await externals.hear(self.session, head, job_id):
                self.heard.add(job_id)

    def _may_be_heard(self, batch: Batch) -> bool:
        """Whether this is a report to an external run, of somebody who may report."""
        row = self.standing[batch.job_id, batch.rank, batch.producer]
        if row.worker_id is None or row.backend_id is not None:
            return False
        try:
            require_reporter(batch.viewer, batch.job_id, row.run_id, row.project_id)
        except DomainError:
            return False
        return batch.viewer.attempt in (None, row.attempt)

    def judge(self, batch: Batch) -> Added | DomainError:
        """Take a batch under the next number of its feed, or say why not."""
        try:
            return self._judged(batch, self.standing[batch.job_id, batch.rank, batch.producer])
        except DomainError as error:
            return error

    def _judged(self, batch: Batch, row: _Standing) -> Added:
        if row.feed_id is None:
            raise missing(batch.job_id)
        require_reporter(batch.viewer, batch.job_id, row.run_id, row.project_id)
        if row.worker_id is None or (row.ended_at is not None and batch.job_id not in self.heard):
            is_running = row.attempt_id is not None and row.ended_at is None
            message = f"this job has no attempt running with a worker of rank {batch.rank}"
            raise errors.Conflict(message, path=("rank",) if is_running else ("job",))
        if batch.viewer.kind is viewers.Kind.JOB and batch.viewer.attempt != row.attempt:
            message = f"this token is of attempt {batch.viewer.attempt}, and the job is at {row.attempt}"
            raise errors.Forbidden(message, path=("job",))
        number, committed = self.numbers.get((row.attempt_id, batch.producer), (None, 0))
        if number is not None and batch.number <= number:
            return Added(committed, True)
        if self.strange:
            self._require_room(batch, row)
        if number is None:
            if batches.producers_of.is_full(row.attempt_id):
                raise batches.too_many_producers()
            self.new_producers[row.attempt_id] += 1
        head = self.session.emitted.heads[row.feed_id]
        seq = head.take()
        key = row.attempt_id, batch.producer
        self.numbers[key] = self.changed[key] = batch.number, seq
        origin = Origin(
            *(row.run_id, row.project_id, row.job_id, row.step),
            *(row.attempt_id, row.attempt, row.worker_id, row.rank),
        )
        self.taken.append(Portion(origin, row.feed_id, seq, batch.given))
        return Added(seq, False)

    def _require_room(self, batch: Batch, row: _Standing) -> None:
        for index, column in enumerate(batch.given):
            if (row.worker_id, column.name) in self.strange:
                message = f"a worker has at most {room.MOST:,} metrics: {column.name!r} would be one more"
                raise errors.LimitExceeded(message, path=(*batch.at(index), "name"))
