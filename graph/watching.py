"""Following runs: everything, only the metrics, or the lines of one job.

Each event carries the number under which it stands in the run's feed; a subscription that names `after`
gets every one past it, once and in order, whatever happened to the connection in between.
"""

from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import strawberry

from db import errors, feeds, logs, states
from db.paging import Page
from graph import live, nodes, pacing
from graph.context import Context, Info
from graph.events import (
    Cursor,
    FeedEnded,
    FeedEvent,
    FeedTruncated,
    LinesAdded,
    LinesDropped,
    follow,
    lines_added,
)
from graph.jobs import Job, of_run
from graph.metrics import PointsOfSeries
from graph.nodes import found
from graph.runs import Run
from graph.scalars import Int64


@strawberry.enum(description="What a subscription to a run is told.")
class RunEventKind(Enum):
    """Kinds of a run's events."""

    STATES = strawberry.enum_value(
        "STATES", description="Changes of state, of the run, its jobs and workers."
    )
    POINTS = strawberry.enum_value("POINTS", description="Points of metrics.")
    LINES = strawberry.enum_value("LINES", description="Lines of its jobs.")


@strawberry.type(description="The run changed its state, or was edited.")
class RunChanged(FeedEvent):
    """An event of the run."""

    run_key: strawberry.Private[bytes]
    at: datetime = strawberry.field(description="When.")
    run_state: states.RunState = strawberry.field(description="Its state, new unless it was edited.")
    edited: list[str] = strawberry.field(
        description="What changed but the state: name, notes, tags, archived, suspended; empty when that did."
    )

    @strawberry.field(description="The run as it is now; null if it was deleted.")
    async def run(self, info: Info) -> Run | None:
        found: Run | None = await nodes.get(info.context, "run", self.run_key)
        return found


@strawberry.type(description="A job changed its state.")
class JobChanged(FeedEvent):
    """An event of a job."""

    job_key: strawberry.Private[bytes]
    at: datetime = strawberry.field(description="When.")
    step: str = strawberry.field(description="The job's step.")
    job_state: states.JobState = strawberry.field(description="Its new state.")
    reason: states.EndReason | None = strawberry.field(description="Why it ended.")
    message: str | None = strawberry.field(description="What the reason leaves open.")

    @strawberry.field(description="The job as it is now; null if it was deleted.")
    async def job(self, info: Info) -> Job | None:
        found: Job | None = await nodes.get(info.context, "job", self.job_key)
        return found


@strawberry.type(description="A worker changed its phase.")
class WorkerChanged(FeedEvent):
    """An event of a worker."""

    job_key: strawberry.Private[bytes]
    at: datetime = strawberry.field(description="When.")
    step: str = strawberry.field(description="The job's step.")
    rank: int = strawberry.field(description="The worker's rank.")
    attempt: int = strawberry.field(description="The attempt's number.")
    phase: states.WorkerPhase = strawberry.field(description="Its new phase.")
    exit_code: int | None = strawberry.field(description="Once it is gone; negative for a signal.")

    @strawberry.field(description="The job as it is now; null if it was deleted.")
    async def job(self, info: Info) -> Job | None:
        found: Job | None = await nodes.get(info.context, "job", self.job_key)
        return found


@strawberry.type(description="A batch of points was committed, or with `maxHz` those of a while.")
class PointsAdded(FeedEvent):
    """Points."""

    step: str = strawberry.field(description="The job's step, of the first of the series.")
    series: list[PointsOfSeries] = strawberry.field(description="What was added to which series.")


RunEvent = Annotated[
    RunChanged
    | JobChanged
    | WorkerChanged
    | PointsAdded
    | LinesAdded
    | LinesDropped
    | Cursor
    | FeedTruncated
    | FeedEnded,
    strawberry.union("RunEvent", description="What happens to a run."),
]

MaxHz = Annotated[
    float | None,
    strawberry.argument(
        description="Points at most so often, from 0.1 to 60 a second: those of a while are told together, and "
        "sooner when something else is to be told or a megabyte has gathered. Nothing else is held back."
    ),
]
MaxPoints = Annotated[
    int | None,
    strawberry.argument(
        description="At most so many points of a series in a message, from 4 to 100,000: the least, the greatest "
        "and the last of every so many stand for the rest, and `count` says how many there were."
    ),
]

_ALL = frozenset(RunEventKind)
MOST_TAIL = 1000


@strawberry.type
class RunSubscription:
    """Following runs."""

    @strawberry.subscription(
        description="Everything that happens to a run past the number `after`; from now on when not given."
    )
    async def run(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of the run.")],
        after: Annotated[
            Int64 | None,
            strawberry.argument(description="The `seq` of the last event seen; from now on when not given."),
        ] = None,
        include: Annotated[
            list[RunEventKind] | None,
            strawberry.argument(description="Only these kinds; all when not given."),
        ] = None,
        max_hz: MaxHz = None,
        max_points: MaxPoints = None,
    ) -> AsyncIterator[RunEvent]:
        kinds = _ALL if include is None else frozenset(include)
        paced = pacing.pace(max_hz, max_points)
        async for event in _follow(info.context, id, after, kinds, paced=paced):
            yield event

    @strawberry.subscription(description="The points of a run past `after`, of these metrics if given.")
    async def metrics(
        self,
        info: Info,
        run: Annotated[strawberry.ID, strawberry.argument(description="The id of the run.")],
        names: Annotated[
            list[str] | None, strawberry.argument(description="Only these metrics; all when not given.")
        ] = None,
        after: Annotated[
            Int64 | None,
            strawberry.argument(description="The `seq` of the last event seen; from now on when not given."),
        ] = None,
        max_hz: MaxHz = None,
        max_points: MaxPoints = None,
    ) -> AsyncIterator[RunEvent]:
        wanted = None if names is None else frozenset(names)
        paced = pacing.pace(max_hz, max_points)
        kinds = {RunEventKind.POINTS}
        async for event in _follow(info.context, run, after, kinds, names=wanted, paced=paced):
            yield event

    @strawberry.subscription(
        description="The lines of a job past `after`, or its `last` so many lines (1 to 1,000) and what follows."
    )
    async def logs(
        self,
        info: Info,
        job: Annotated[strawberry.ID, strawberry.argument(description="The id of the job.")],
        after: Annotated[
            Int64 | None,
            strawberry.argument(description="The `seq` of the last event seen; from now on when not given."),
        ] = None,
        last: Annotated[
            int | None, strawberry.argument(description="Begin with so many of the newest lines, 1 to 1,000.")
        ] = None,
    ) -> AsyncIterator[RunEvent]:
        row: Job | None = await nodes.get(info.context, "job", found(info.context, "job", job))
        run = "" if row is None else nodes.public("run", row.row.run_id)
        only = None if row is None else row.row.id
        begin = (0, 0)
        if last is not None:
            begin = await _tail(info.context, row, after, last)
            after = Int64(begin[0] - 1)
        kinds = {RunEventKind.LINES}
        async for event in _follow(info.context, run, after, kinds, job=only, begin=begin):
            yield event


async def _tail(context: Context, job: Job | None, after: int | None, last: int) -> tuple[int, int]:
    """Where the last lines of a job begin: the number of their batch, and the first one's place in it."""
    if after is not None:
        raise errors.Invalid("give after or last, not both", path=("last",))
    if not 1 <= last <= MOST_TAIL:
        raise errors.Invalid(f"the last 1 to {MOST_TAIL:,} lines, not {last}", path=("last",))
    if job is None:
        return 0, 0
    async with context.database.read() as session:
        rows = (await logs.of_job(session, job.row.id, Page(last, backward=True))).rows
        head = await feeds.head(session, job.row.feed_id)
    if rows:
        return rows[0].seq, rows[0].position
    return (head.seq if head else 0) + 1, 0


async def _follow(
    context: Context,
    run: str,
    after: int | None,
    kinds: Collection[RunEventKind],
    *,
    names: frozenset[str] | None = None,
    job: bytes | None = None,
    begin: tuple[int, int] = (0, 0),
    paced: pacing.Pace | None = None,
) -> AsyncIterator[Any]:
    row: Run | None = await nodes.get(context, "run", found(context, "run", run))
    if row is None:
        async for event in follow(context, None, after, lambda _: None):
            yield event
        return
    members = await context.load(of_run, row.row.id)
    steps = {member.row.id: member.step for member in members}

    def told(message: live.Message) -> Any:
        if message.event is not None:
            return _changed(message.event) if RunEventKind.STATES in kinds else None
        if message.lines is not None:
            owner = message.lines.job_id
            if RunEventKind.LINES not in kinds or (job is not None and owner != job):
                return None
            first = begin[1] if message.seq == begin[0] else 0
            return lines_added(message.seq, steps.get(owner or b"", ""), message.lines, first)
        return _added(message, names) if RunEventKind.POINTS in kinds else None

    def keep(message: live.Message) -> live.Message | None:
        if message.event is not None:
            return message if RunEventKind.STATES in kinds else None
        if message.lines is not None:
            return message if RunEventKind.LINES in kinds else None
        wanted = tuple(each for each in message.points if names is None or each.name in names)
        return replace(message, points=wanted) if wanted and RunEventKind.POINTS in kinds else None

    points = RunEventKind.POINTS in kinds
    async for event in follow(context, row.row.feed_id, after, told, points=points, paced=paced, keep=keep):
        yield event


def _changed(event: feeds.Event) -> Any:
    data, seq = event.data, Int64(event.seq)
    reason = data.get("reason")
    match event.subject:
        case feeds.Subject.RUN:
            state = states.RunState(data["state"])
            edited = data.get("edited", [])
            return RunChanged(run_key=event.subject_id, seq=seq, at=event.at, run_state=state, edited=edited)
        case feeds.Subject.JOB:
            return JobChanged(
                job_key=event.subject_id,
                seq=seq,
                at=event.at,
                step=data["step"],
                job_state=states.JobState(data["state"]),
                reason=None if reason is None else states.EndReason(reason),
                message=data.get("message"),
            )
        case feeds.Subject.WORKER:
            return WorkerChanged(
                job_key=event.subject_id,
                seq=seq,
                at=event.at,
                step=data["step"],
                rank=data["rank"],
                attempt=data["attempt"],
                phase=states.WorkerPhase(data["phase"]),
                exit_code=data.get("exit_code"),
            )
    return None


def _added(message: live.Message, names: frozenset[str] | None) -> PointsAdded | None:
    counts = message.counts or [len(points.values) for points in message.points]
    wanted = [
        PointsOfSeries.of(points, count)
        for points, count in zip(message.points, counts, strict=True)
        if names is None or points.name in names
    ]
    return PointsAdded(seq=Int64(message.seq), step=wanted[0].step, series=wanted) if wanted else None
