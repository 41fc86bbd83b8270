"""Fires: each time a schedule was due, and what became of it. They are the schedule's history.

`(schedule, key)` is unique, and the key says what the fire is for: a due time, a file, a run, a request. So
nothing fires twice, whoever tries. A fire for a file or a run is inserted PENDING by the transaction that made
the file READY or ended the run (arrivals.py); one for a due time by the transaction that starts its run.
"""

import enum
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, select
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, paging, viewers
from db.columns import Base, Choice, Id, Json, Timestamp
from db.database import Session
from db.paging import Page, Slice
from db.schedules import Schedule
from db.viewers import Viewer


class Outcome(enum.Enum):
    """What became of a fire."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


class Fire(Base):
    """One fire. `chain` are the schedules whose fires led to this one, itself included: see arrivals.py."""

    __tablename__ = "fires"
    __table_args__ = (
        UniqueConstraint("schedule_id", "key"),
        columns.one_of("outcome", Outcome),
        Index("ix_fires_list", "schedule_id", "id"),
        Index("ix_fires_due", "outcome", "due_at"),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    schedule_id: Mapped[bytes] = mapped_column(Id, ForeignKey("schedules.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(Text)
    outcome: Mapped[Outcome] = mapped_column(Choice(Outcome))
    due_at: Mapped[datetime] = mapped_column(Timestamp)
    fired_at: Mapped[datetime | None] = mapped_column(Timestamp)
    run_id: Mapped[bytes | None] = mapped_column(Id, index=True)
    file_id: Mapped[bytes | None] = mapped_column(Id)
    after_run_id: Mapped[bytes | None] = mapped_column(Id)
    error_code: Mapped[str | None] = mapped_column(Text)
    message: Mapped[str | None] = mapped_column(Text)
    chain: Mapped[list[str]] = mapped_column(Json)


async def find_fires(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[Fire]:
    """The fires of these ids whose schedules may be seen."""
    seen = viewers.visible(viewer, Schedule.project_id)
    statement = select(Fire).join(Schedule, Schedule.id == Fire.schedule_id)
    return await session.all(Fire, statement.where(Fire.id.in_(keys), seen))


async def list_fires(session: Session, schedule_id: bytes, page: Page) -> Slice[Fire]:
    """The fires of a schedule, newest first."""
    statement = select(Fire).where(Fire.schedule_id == schedule_id)
    return await paging.fetch(session, Fire, statement, Fire.id, page)


async def latest(session: Session, schedule_ids: Collection[bytes]) -> list[Fire]:
    """The last fire of each of these schedules that came to an outcome, where there is one."""
    found: list[Fire] = []
    for schedule_id in schedule_ids:
        mine = select(Fire).where(Fire.schedule_id == schedule_id, Fire.outcome != Outcome.PENDING)
        row = await session.find(Fire, mine.order_by(Fire.id.desc()).limit(1))
        found += [row] if row is not None else []
    return found


async def of_runs(session: Session, run_ids: Collection[bytes]) -> list[Fire]:
    """The fires that started these runs."""
    statement = select(Fire).where(Fire.run_id.in_(run_ids)).order_by(Fire.id)
    return await session.all(Fire, statement)
