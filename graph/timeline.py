"""A run's timeline: every change of state that its feed holds."""

from datetime import datetime
from enum import Enum

import strawberry

from db import feeds, ids, states
from graph import nodes
from graph.context import Context
from graph.scalars import Int64


@strawberry.enum(description="What a change was of.")
class SubjectKind(Enum):
    """Subjects of a run's events."""

    RUN = strawberry.enum_value("RUN", description="Of the run itself.")
    JOB = strawberry.enum_value("JOB", description="Of one of its jobs.")
    WORKER = strawberry.enum_value("WORKER", description="Of a worker of a job's attempt.")


@strawberry.type(description="A change of state.")
class TimelineEntry:
    """An entry."""

    seq: Int64 = strawberry.field(description="The feed's number.")
    at: datetime = strawberry.field(description="When it happened.")
    kind: SubjectKind = strawberry.field(description="What changed.")
    subject: strawberry.ID = strawberry.field(description="The run or the job; for a worker its job.")
    step: str | None = strawberry.field(description="The step, unless the run itself changed.")
    state: str = strawberry.field(description="What it is now: a state, or a worker's phase.")
    reason: states.EndReason | None = strawberry.field(description="Why it ended.")
    message: str | None = strawberry.field(description="What the reason leaves open.")


async def of_feed(context: Context, keys: list[int]) -> list[list[TimelineEntry]]:
    """The timelines of several feeds."""
    async with context.database.read() as session:
        rows = await feeds.timeline(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.feed_id, _entry)


def _entry(row: feeds.Event) -> TimelineEntry:
    data = row.data
    kind = "run" if row.subject is feeds.Subject.RUN else "job"
    reason = data.get("reason")
    return TimelineEntry(
        seq=Int64(row.seq),
        at=row.at,
        kind=SubjectKind(row.subject.value),
        subject=strawberry.ID(ids.encode(kind, row.subject_id)),
        step=data.get("step"),
        state=data.get("state") or data["phase"],
        reason=None if reason is None else states.EndReason(reason),
        message=f"edited: {', '.join(data['edited'])}" if "edited" in data else data.get("message"),
    )
