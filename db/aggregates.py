"""How many runs there are of each kind: exact up to a limit, beyond it "at least so many".

Counting goes through the same indexes as listing, no further than COUNTED rows for all groups together. A
counter kept up to date by every run that changes would be exact and is not kept: all runs of a project
would wait for the one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from db import columns, errors, listing, viewers
from db.database import Session
from db.filters import Belongs, Condition, During, InStates
from db.pipelines import Pipeline
from db.states import RunState
from db.viewers import Viewer

COUNTED = 100_000
"""Rows that are met for one answer: some 400 ms."""
MOST_DAYS = 92
MOST_PIPELINES = 100


@dataclass(frozen=True, slots=True)
class Count:
    """A number of runs; there may be more where it is `capped`."""

    count: int
    capped: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one kind: a RunState, the first moment of a day, or a pipeline's id."""

    key: Any
    count: int
    capped: bool


async def count(session: Session, viewer: Viewer, where: Sequence[Condition]) -> Count:
    """How many runs there are of which every condition holds."""
    return Count(*await listing.count_runs(session, viewer, where, COUNTED))


async def groups(
    session: Session,
    viewer: Viewer,
    where: Sequence[Condition],
    by: str,
    *,
    days: int = 30,
    now: datetime | None = None,
) -> list[Group]:
    """How many there are in each state, on each of the last days (UTC, the latest first), of each pipeline."""
    kinds = await _kinds(session, viewer, by, days, now or columns.now())
    most = max(COUNTED // max(len(kinds), 1), 1_000)
    found = []
    for key, condition in kinds:
        counted = await listing.count_runs(session, viewer, (condition, *where), most)
        found.append(Group(key, *counted))
    return found


async def _kinds(
    session: Session, viewer: Viewer, by: str, days: int, now: datetime
) -> list[tuple[Any, Condition]]:
    if by == "STATE":
        return [(state, InStates((state,))) for state in RunState]
    if by == "PIPELINE":
        seen = select(Pipeline.id).where(viewers.visible(viewer, Pipeline.project_id))
        newest = seen.order_by(Pipeline.id.desc()).limit(MOST_PIPELINES)
        keys = (await session.execute(newest)).scalars()
        return [(key, Belongs("pipeline", key)) for key in keys]
    if not 1 <= days <= MOST_DAYS:
        raise errors.Invalid(f"1 to {MOST_DAYS} days are counted at once", path=("days",))
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [today - timedelta(days=back) for back in range(days)]
    return [(start, During("created_at", start, start + timedelta(days=1))) for start in starts]
