"""Schedules: what starts runs by itself, and when.

A schedule has one trigger: a cron expression, an interval, files that arrive, or runs of another pipeline that
end. `next_at` is the next due time of the first two, `wake_at` when that is acted on (later by the jitter).
How a schedule is made and changed is in scheduling.py, how it fires in firing.py, what it fired in fires.py, how
files and ended runs reach it in arrivals.py; this file knows neither runs nor files, which know of it.
"""

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Float, ForeignKey, Index, Integer, Text, UniqueConstraint, select
from sqlalchemy.orm import Mapped, mapped_column

from db import calendars, columns, errors, paging, viewers
from db.calendars import Calendar
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session
from db.paging import Page, Slice
from db.viewers import Viewer


class TriggerKind(enum.Enum):
    """What a schedule waits for."""

    CRON = "CRON"
    INTERVAL = "INTERVAL"
    FILE = "FILE"
    RUN = "RUN"


class ScheduleState(enum.Enum):
    """How a schedule stands. FAILING ones go on: the next success makes them ACTIVE."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    FAILING = "FAILING"
    ENDED = "ENDED"


class CatchUp(enum.Enum):
    """What is done about due times that passed while nobody looked."""

    SKIP = "SKIP"
    LAST = "LAST"
    ALL = "ALL"


class Overlap(enum.Enum):
    """What is done when it fires and a run it started is still active."""

    ALLOW = "ALLOW"
    SKIP = "SKIP"
    CANCEL_PREVIOUS = "CANCEL_PREVIOUS"


FIRING = frozenset({ScheduleState.ACTIVE, ScheduleState.FAILING})
FAILURES_TO_FAILING = 3
"""So many fires in a row that start nothing make a schedule FAILING."""


class Schedule(Base):
    """A schedule. `trigger` is a Trigger, `request` a requests.Request as JSON; `failures` are those in a row."""

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        columns.one_of("kind", TriggerKind),
        columns.one_of("state", ScheduleState),
        columns.one_of("catch_up", CatchUp),
        columns.one_of("overlap", Overlap),
        Index("ix_schedules_wake", "state", "wake_at"),
        Index("ix_schedules_kind", "project_id", "kind"),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id, ForeignKey("projects.id"))
    pipeline_id: Mapped[bytes] = mapped_column(Id, ForeignKey("pipelines.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")
    kind: Mapped[TriggerKind] = mapped_column(Choice(TriggerKind))
    trigger: Mapped[dict[str, Any]] = mapped_column(Json)
    after_pipeline_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("pipelines.id"), index=True)
    request: Mapped[dict[str, Any]] = mapped_column(Json)
    catch_up: Mapped[CatchUp] = mapped_column(Choice(CatchUp))
    overlap: Mapped[Overlap] = mapped_column(Choice(Overlap))
    jitter_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    starts_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ends_at: Mapped[datetime | None] = mapped_column(Timestamp)
    state: Mapped[ScheduleState] = mapped_column(Choice(ScheduleState))
    next_at: Mapped[datetime | None] = mapped_column(Timestamp)
    wake_at: Mapped[datetime | None] = mapped_column(Timestamp)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    last_error_code: Mapped[str | None] = mapped_column(Text)
    last_error: Mapped[str | None] = mapped_column(Text)
    last_fired_at: Mapped[datetime | None] = mapped_column(Timestamp)
    owner_id: Mapped[bytes | None] = mapped_column(Id, ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """At the times of a cron expression, see calendars.py."""

    expression: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class IntervalTrigger:
    """Every so many seconds, counted from a moment (microseconds since the epoch)."""

    every_seconds: float
    anchor: int


@dataclass(frozen=True, slots=True)
class FileTrigger:
    """When a file of these kinds, this name and these tags is READY; those of one batch give one run."""

    kinds: Sequence[str]
    glob: str
    tags: Mapping[str, Any]
    batch_seconds: float | None


@dataclass(frozen=True, slots=True)
class RunTrigger:
    """When a run of `after_pipeline_id` has ended in one of these states.

    With `outputs` its outputs are the new run's files: those of `steps`, or of the steps that no other needs.
    """

    states: Sequence[str]
    outputs: bool
    steps: Sequence[str] | None


Trigger = CronTrigger | IntervalTrigger | FileTrigger | RunTrigger

_KINDS: Mapping[type[Any], TriggerKind] = {
    CronTrigger: TriggerKind.CRON,
    IntervalTrigger: TriggerKind.INTERVAL,
    FileTrigger: TriggerKind.FILE,
    RunTrigger: TriggerKind.RUN,
}
_TRIGGERS: Mapping[TriggerKind, type[Any]] = {kind: trigger for trigger, kind in _KINDS.items()}


def encode(trigger: Trigger) -> tuple[TriggerKind, dict[str, Any]]:
    """A trigger as its columns."""
    return _KINDS[type(trigger)], asdict(trigger)


def trigger_of(row: Schedule) -> Trigger:
    """The inverse of `encode`."""
    made: Trigger = _TRIGGERS[row.kind](**row.trigger)
    return made


def calendar_of(trigger: Trigger) -> Calendar | None:
    """When a checked trigger is due; None for one that waits for something else than time."""
    match trigger:
        case CronTrigger(expression, time_zone):
            return calendars.Cron(expression, ZoneInfo(time_zone))
        case IntervalTrigger(every_seconds, anchor):
            return calendars.interval(every_seconds, columns.moment(anchor))
    return None


_SEEN = select(Schedule)


async def get(session: Session, viewer: Viewer, schedule_id: bytes) -> Schedule:
    """The schedule of this id; raises NotFound."""
    rows = await find_schedules(session, viewer, [schedule_id])
    if not rows:
        raise errors.NotFound("there is no such schedule", path=("id",))
    return rows[0]


async def find_schedule(session: Session, viewer: Viewer, name: str) -> Schedule | None:
    """A schedule of this name that may be seen."""
    seen = viewers.visible(viewer, Schedule.project_id)
    return await session.find(Schedule, _SEEN.where(Schedule.name == name, seen).limit(1))


async def find_schedules(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Schedule]:
    """The schedules of these ids that may be seen."""
    seen = viewers.visible(viewer, Schedule.project_id)
    return await session.all(Schedule, _SEEN.where(Schedule.id.in_(keys), seen))


async def list_schedules(
    session: Session, viewer: Viewer, page: Page, *, pipeline_id: bytes | None = None
) -> Slice[Schedule]:
    """Schedules, newest first; of this pipeline if given."""
    statement = _SEEN.where(viewers.visible(viewer, Schedule.project_id))
    if pipeline_id is not None:
        statement = statement.where(Schedule.pipeline_id == pipeline_id)
    return await paging.fetch(session, Schedule, statement, Schedule.id, page)
