"""Runs: one execution of a pipeline's revision on input files.

A run is started in starts.py; from there the supervisor acts. Its state is derived from its jobs' states,
never set: whatever changes a job calls `follow` in the same transaction.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    Boolean,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from db import arrivals, attempts, columns, errors, feeds, jobs, settling, viewers
from db.bus import Wake
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session, Transaction
from db.files import File
from db.states import ACTIVE_JOB, TERMINAL_RUN, EndReason, JobState, RunState, derive
from db.viewers import Viewer


def _where(column: str) -> dict[str, Any]:
    return {"sqlite_where": text(f"{column} = 1"), "postgresql_where": text(column)}


def _known(column: str) -> dict[str, Any]:
    return {f"{kind}_where": text(f"{column} IS NOT NULL") for kind in ("sqlite", "postgresql")}


_WHERE_LIVE: dict[str, Any] = {
    "sqlite_where": text("archived = 0"),
    "postgresql_where": text("NOT archived"),
}


class Run(Base):
    """One execution. Without `revision_id` it is external: code outside that reports.

    `overrides` are the arguments given at the start, `resources` what steps then asked for, `retry` its rules.
    `edition` counts edits (edits.py). A run with
    `deleted_at` is gone for everybody but the janitor (deletions.py).

    Reads add `seq`, the feed's number in the same snapshot: who follows the run goes on after it.
    """

    if TYPE_CHECKING:
        seq: ClassVar[int]

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        columns.one_of("state", RunState),
        # One index for every order and every narrowing of lists (listing.py).
        Index("ix_runs_newest", "id", **_WHERE_LIVE),
        Index("ix_runs_project", "project_id", "id", **_WHERE_LIVE),
        Index("ix_runs_archived", "project_id", "id", **_where("archived")),
        Index("ix_runs_external", "project_id", "id", **_where("external")),
        Index("ix_runs_state", "project_id", "state", "id"),
        Index("ix_runs_pipeline", "pipeline_id", "id"),
        Index("ix_runs_parent", "parent_id", "id"),
        Index("ix_runs_creator", "created_by", "id"),
        Index("ix_runs_name", "project_id", "name", "id"),
        Index("ix_runs_priority", "project_id", "priority", "id"),
        Index("ix_runs_started", "project_id", "started_at", "id"),
        Index("ix_runs_ended", "project_id", "ended_at", "id"),
        Index("ix_runs_duration", "project_id", text("(ended_at - started_at)"), "id"),
        Index("ix_runs_retry_of", "retry_of", **_known("retry_of")),
        Index("ix_runs_deleted_at", "deleted_at", **_known("deleted_at")),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    feed_id: Mapped[int] = mapped_column(ForeignKey("feeds.id"), unique=True)
    pipeline_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("pipelines.id"))
    revision_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("pipeline_revisions.id"))
    name: Mapped[str] = mapped_column(columns.Word)
    notes: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[RunState] = mapped_column(Choice(RunState))
    priority: Mapped[int] = mapped_column(Integer, default=0)
    fail_fast: Mapped[bool] = mapped_column(Boolean, default=False)
    external: Mapped[bool] = mapped_column(Boolean, default=False)
    archived: Mapped[bool] = mapped_column(Boolean, default=False)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    request_sha256: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    retry_of: Mapped[bytes | None] = mapped_column(Id, ForeignKey("runs.id"))
    parent_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("runs.id"))
    based_on: Mapped[bytes | None] = mapped_column(Id)
    overrides: Mapped[list[Any] | None] = mapped_column(Json)
    resources: Mapped[list[Any] | None] = mapped_column(Json)
    retry: Mapped[list[Any] | None] = mapped_column(Json)
    edition: Mapped[int] = mapped_column(Integer, default=0)
    created_by: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    suspended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Timestamp)
    started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)


class RunTag(Base):
    """A tag of a run, with the run's project: lists find runs by their tags project by project."""

    __tablename__ = "run_tags"
    __table_args__ = (
        Index("ix_run_tags_find", "project_id", "name", "value", "run_id"),
        {"sqlite_with_rowid": False},
    )

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(columns.Word)
    project_id: Mapped[bytes] = mapped_column(Id)


class RunFile(Base):
    """An input file of a run, in order."""

    __tablename__ = "run_files"

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    file_id: Mapped[bytes] = mapped_column(Id, ForeignKey("files.id"), index=True)


async def cancel(session: Transaction, viewer: Viewer, run_id: bytes, *, grace_seconds: float) -> bytes:
    """Ask for a run's end: what was not launched ends now, the rest within the grace period.

    A repeat, or a run that has ended, is fine and changes nothing.
    """
    if not 0 <= grace_seconds <= 3600:
        raise errors.Invalid("the grace period is 0 to 3600 seconds", path=("graceSeconds",))
    found = await get(session, viewer, run_id)
    viewers.require_writer(viewer, found.project_id)
    head = await feeds.lock(session, found.feed_id)
    run = await get(session, viewer, run_id)
    if run.state in TERMINAL_RUN or run.cancel_requested_at is not None:
        return run_id
    at = columns.now()
    await session.execute(update(Run).where(Run.id == run_id).values(cancel_requested_at=at))
    members = await jobs.members_of(session, run_id)
    running = [job for job in members if job.state in (JobState.STARTING, JobState.RUNNING)]
    if running:
        await jobs.move(session, head, [(job, JobState.CANCELLING) for job in running], at)
        await _ask_to_stop(session, [job.id for job in running], EndReason.CANCELLED, grace_seconds)
        members = await jobs.members_of(session, run_id)
    await settle(session, head, run_id, members, at, run.state, run.fail_fast, True)
    session.wake(Wake.SUPERVISORS)
    return run_id


async def follow(session: Transaction, head: feeds.Head, run_id: bytes, at: datetime) -> None:
    """Make everything that follows from a change to a run's jobs, and the run's own state with it."""
    await follow_all(session, {run_id: head}, at)


async def follow_all(session: Transaction, heads: Mapping[bytes, feeds.Head], at: datetime) -> None:
    """As `follow`, of several runs by the heads of their locked feeds."""
    rows = (await session.execute(_FOLLOWED, {"runs": list(heads)})).all()
    members = await jobs.members_of_runs(session, heads)
    turns: list[_Turn] = []
    for row in rows:
        cancelling = row.cancel_requested_at is not None
        settled = await settling.settle(
            session,
            heads[row.id],
            row.id,
            members[row.id],
            at,
            fail_fast=row.fail_fast,
            cancelling=cancelling,
        )
        turns.append(_Turn(heads[row.id], row.id, row.state, _derived(settled, row.state, cancelling)))
    await _turn(session, turns, at)


_FOLLOWED = select(Run.id, Run.state, Run.fail_fast, Run.cancel_requested_at).where(
    columns.Among(Run.id, "runs")
)
_RUNS = Run.__table__
_FOLLOW = (
    update(_RUNS)  # type: ignore[arg-type]
    .where(_RUNS.c.id == bindparam("run"), _RUNS.c.state == bindparam("was"))
    .values(
        state=bindparam("to"),
        started_at=func.coalesce(bindparam("began", type_=Timestamp()), _RUNS.c.started_at),
        ended_at=bindparam("over"),
    )
)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What becomes of a run's state."""

    head: feeds.Head
    run_id: bytes
    was: RunState
    to: RunState


async def settle(
    session: Transaction,
    head: feeds.Head,
    run_id: bytes,
    members: Sequence[jobs.Job | jobs.Member],
    at: datetime,
    was: RunState,
    fail_fast: bool,
    cancelling: bool,
) -> None:
    """Make every move that follows from how a run's jobs stand, and derive its state; `was` is the state read."""
    settled = await settling.settle(
        session, head, run_id, members, at, fail_fast=fail_fast, cancelling=cancelling
    )
    await _turn(session, [_Turn(head, run_id, was, _derived(settled, was, cancelling))], at)


def _derived(settled: Sequence[JobState], was: RunState, cancelling: bool) -> RunState:
    state = derive(settled, cancelling=cancelling)
    # A job that waits for its next attempt does not take a run that has begun back to its queue.
    if state is RunState.QUEUED and was is not RunState.QUEUED:
        return was
    # Nor does one that ended without a launch (it was reused, skipped or refused) begin it: a claim does.
    if state is RunState.RUNNING and was is RunState.QUEUED and ACTIVE_JOB.isdisjoint(settled):
        return was
    return state


async def _turn(session: Transaction, turns: Sequence[_Turn], at: datetime) -> None:
    """Have runs stand as they are to stand, each from the state it was read in; emits each that changes."""
    turned = [each for each in turns if each.to is not each.was]
    if not turned:
        return
    rows = [
        {
            "run": each.run_id,
            "was": each.was,
            "to": each.to,
            "began": at if (each.was, each.to) == (RunState.QUEUED, RunState.RUNNING) else None,
            "over": at if each.to in TERMINAL_RUN else None,
        }
        for each in turned
    ]
    changed = await session.change(_FOLLOW, rows if len(rows) > 1 else rows[0])
    assert changed in (len(rows), -1), "a run changed without its feed's lock"
    for each in turned:
        if each.to in TERMINAL_RUN:
            each.head.end()
        each.head.emit(feeds.Subject.RUN, each.run_id, at, state=each.to)
    over = {each.run_id: each.to.value for each in turned if each.to in TERMINAL_RUN}
    if over:
        await arrivals.runs_ended(session, over, at)


async def _ask_to_stop(
    session: Transaction, job_ids: Sequence[bytes], reason: EndReason, grace_seconds: float
) -> None:
    attempt = attempts.Attempt
    await session.execute(
        update(attempt)
        .where(attempt.job_id.in_(job_ids), attempt.ended_at.is_(None))
        .values(stop_reason=reason, stop_grace_seconds=grace_seconds)
    )


_SEQ = select(feeds.Feed.seq).where(feeds.Feed.id == Run.feed_id).scalar_subquery().label("seq")
READ: Any = select(Run, _SEQ)
"""Runs as they are read; without its column, the feed costs nothing."""


async def get(session: Session, viewer: Viewer, run_id: bytes) -> Run:
    """The run of this id; raises NotFound."""
    run = await find(session, viewer, run_id)
    if run is None:
        raise errors.NotFound("there is no such run", path=("id",))
    return run


async def find(session: Session, viewer: Viewer, run_id: bytes) -> Run | None:
    """The run of this id, if it may be seen."""
    return await session.find(Run, READ.where(Run.id == run_id, seen(viewer)))


async def find_runs(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Run]:
    """The runs of these ids that may be seen."""
    return await session.all(Run, READ.where(Run.id.in_(keys), seen(viewer)))


def seen(viewer: Viewer, run: Any = Run) -> ColumnElement[bool]:
    """The condition that a run is there and may be seen; `run` has the columns of the table or of an alias."""
    there: ColumnElement[bool] = run.deleted_at.is_(None)
    return viewers.visible(viewer, run.project_id, run.id) & there


async def tags_of(session: Session, runs: Collection[bytes]) -> list[RunTag]:
    """The tags of these runs, by name."""
    statement = select(RunTag).where(RunTag.run_id.in_(runs)).order_by(RunTag.run_id, RunTag.name)
    return await session.all(RunTag, statement)


async def files_of(session: Session, runs: Collection[bytes]) -> list[Any]:
    """The input files of these runs: rows of File with the `owner` run's id, in order."""
    statement = (
        select(RunFile.run_id.label("owner"), File)
        .join(File, File.id == RunFile.file_id)
        .where(RunFile.run_id.in_(runs))
        .order_by(RunFile.run_id, RunFile.position)
    )
    return list((await session.execute(statement)).all())
