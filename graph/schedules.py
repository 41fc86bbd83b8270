"""Schedules: what starts runs by itself, as the API shows it. Making and changing them is in scheduling.py."""

from datetime import UTC, datetime
from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from db import calendars, columns, errors, fires, requests, schedules
from db.files import FileKind
from db.states import RunState
from graph import enums, nodes, paging, users
from graph.context import Context, Info
from graph.fires import Fire, latest_of
from graph.nodes import Node, key, loads, public
from graph.paging import Connection
from graph.pipelines import Pipeline
from graph.requests import ScheduledRun

enums.show(
    schedules.ScheduleState,
    "How a schedule stands.",
    ACTIVE="It starts runs.",
    PAUSED="It starts none until it is resumed.",
    FAILING="Its last fires started nothing; it goes on, and the next success makes it ACTIVE.",
    ENDED="It is due no more.",
)
enums.show(
    schedules.CatchUp,
    "What is done about due times that passed while no server was there.",
    SKIP="Nothing, when it is more than a minute ago.",
    LAST="The last of them is made up for.",
    ALL="The last hundred are made up for.",
)
enums.show(
    schedules.Overlap,
    "What is done when a run it started before is still active.",
    ALLOW="One more run is started.",
    SKIP="None is started.",
    CANCEL_PREVIOUS="It is cancelled, and the new one started.",
)
MOST_NEXT = 100


@strawberry.type(description="At the times of a cron expression.")
class CronTrigger:
    """Times of a clock."""

    expression: str = strawberry.field(description="Minute, hour, day of month, month, day of week.")
    time_zone: str = strawberry.field(description="An IANA name.")


@strawberry.type(description="Every so many seconds.")
class IntervalTrigger:
    """Elapsed time."""

    every_seconds: float = strawberry.field(description="From one due time to the next.")
    anchor_at: datetime = strawberry.field(description="The due time that the others are counted from.")


@strawberry.type(description="When a file arrives: once for each file, which the run gets as input.")
class FileTrigger:
    """Arriving files."""

    kinds: list[FileKind] = strawberry.field(description="Given, made, or both.")
    name: str = strawberry.field(description="A pattern of names: *, ?, [a-z]; it tells case apart.")
    tags: JSON = strawberry.field(description="Tags that the file has.")
    batch_seconds: float | None = strawberry.field(
        description="How long files gather for one run; null for a run each."
    )


@strawberry.type(description="When a run of another pipeline has ended.")
class RunTrigger:
    """Ended runs."""

    row: strawberry.Private[schedules.Schedule]
    states: list[RunState] = strawberry.field(description="In one of these states.")
    outputs: bool = strawberry.field(description="Whether its outputs are the new run's input files.")
    steps: list[str] | None = strawberry.field(
        description="Whose outputs; null for those of the steps that no other needs."
    )

    @strawberry.field(description="The other pipeline.")
    async def pipeline(self, info: Info) -> Pipeline | None:
        found: Pipeline | None = await nodes.get(info.context, "pipeline", self.row.after_pipeline_id)
        return found


Trigger = Annotated[
    CronTrigger | IntervalTrigger | FileTrigger | RunTrigger,
    strawberry.union("ScheduleTrigger", description="What a schedule waits for."),
]


@strawberry.type(description="Starts runs of a pipeline by itself.")
class Schedule(Node):
    """A schedule."""

    row: strawberry.Private[schedules.Schedule]
    name: str = strawberry.field(description="Unique in its project.")
    description: str = strawberry.field(description="What it is for.")
    state: schedules.ScheduleState = strawberry.field(description="How it stands.")
    catch_up: schedules.CatchUp = strawberry.field(description="What is done about missed times.")
    overlap: schedules.Overlap = strawberry.field(description="What is done when a run is still active.")
    jitter_seconds: float = strawberry.field(description="Up to so much later than due, spread evenly.")
    starts_at: datetime | None = strawberry.field(description="Not due before.")
    ends_at: datetime | None = strawberry.field(description="Not due after.")
    next_at: datetime | None = strawberry.field(description="When it is due next; null for what arrives.")
    failures: int = strawberry.field(description="Fires in a row that could start nothing.")
    last_error: str | None = strawberry.field(description="Why the last one could not; null after a success.")
    last_fired_at: datetime | None = strawberry.field(description="When it last started a run, or could not.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def of(cls, row: schedules.Schedule) -> "Schedule":
        return cls(
            row=row,
            id=public("schedule", row.id),
            name=row.name,
            description=row.description,
            state=row.state,
            catch_up=row.catch_up,
            overlap=row.overlap,
            jitter_seconds=row.jitter_seconds,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            next_at=row.next_at,
            failures=row.failures,
            last_error=row.last_error,
            last_fired_at=row.last_fired_at,
            created_at=row.created_at,
        )

    @strawberry.field(description="What it waits for.")
    def trigger(self) -> Trigger:
        match schedules.trigger_of(self.row):
            case schedules.CronTrigger(expression, time_zone):
                return CronTrigger(expression=expression, time_zone=time_zone)
            case schedules.IntervalTrigger(every_seconds, anchor):
                return IntervalTrigger(every_seconds=every_seconds, anchor_at=columns.moment(anchor))
            case schedules.FileTrigger(kinds, glob, tags, batch_seconds):
                return FileTrigger(
                    kinds=[FileKind(kind) for kind in kinds],
                    name=glob,
                    tags=JSON(dict(tags)),
                    batch_seconds=batch_seconds,
                )
            case schedules.RunTrigger(states, outputs, steps):
                ends = [RunState(state) for state in states]
                named = None if steps is None else list(steps)
                return RunTrigger(row=self.row, states=ends, outputs=outputs, steps=named)

    @strawberry.field(description="What each fire starts.")
    def run(self) -> ScheduledRun:
        return ScheduledRun.of(requests.decode(self.row.request))

    @strawberry.field(description="The pipeline it starts; null when it is gone.")
    async def pipeline(self, info: Info) -> Pipeline | None:
        found: Pipeline | None = await nodes.get(info.context, "pipeline", self.row.pipeline_id)
        return found

    @strawberry.field(description="Its project.")
    async def project(self, info: Info) -> users.Project:
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(
        description="In whose name runs are started: who made it, or changed or resumed it last. Null for "
        "who may not see them."
    )
    async def owner(self, info: Info) -> users.User | None:
        found: users.User | None = await nodes.get(info.context, "user", self.row.owner_id)
        return found

    @strawberry.field(description="The next times it is due, at most 100; none for what arrives.")
    def next(
        self, count: Annotated[int, strawberry.argument(description="So many times, at most 100.")] = 10
    ) -> list[datetime]:
        calendar = schedules.calendar_of(schedules.trigger_of(self.row))
        if self.row.next_at is None or calendar is None or _counted(count) == 0:
            return []
        later = calendars.preview(calendar, self.row.next_at, count - 1)
        return [at for at in [self.row.next_at, *later] if self.ends_at is None or at <= self.ends_at]

    @strawberry.field(description="Its last fire that came to an outcome.")
    async def last_fire(self, info: Info) -> Fire | None:
        return await info.context.load(latest_of, self.row.id)

    @strawberry.field(description="What it fired, newest first; the last thousand are kept.")
    async def fires(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Fire]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await fires.list_fires(session, self.row.id, page)
        return paging.connect(rows, lambda row: row.id, Fire.of)


@loads("schedule")
async def load_schedules(context: Context, keys: list[bytes]) -> list[Schedule | None]:
    """Schedules by key."""
    async with context.database.read() as session:
        rows = await schedules.find_schedules(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Schedule.of)


@strawberry.type
class ScheduleQuery:
    """Finding schedules, and trying cron expressions."""

    @strawberry.field(
        description="The schedule of this id, or of this name: one of both; null if there is none."
    )
    async def schedule(self, info: Info, id: nodes.ById = None, name: nodes.ByName = None) -> Schedule | None:
        return await nodes.by_id_or_name(
            info.context, "schedule", id, name, schedules.find_schedule, Schedule.of
        )

    @strawberry.field(description="Schedules, newest first; of this pipeline if given.")
    async def schedules(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
        pipeline: Annotated[
            strawberry.ID | None, strawberry.argument(description="Only of the pipeline of this id.")
        ] = None,
    ) -> Connection[Schedule]:
        page = paging.page(first, after, last, before)
        pipeline_id = None if pipeline is None else key("pipeline", pipeline, "pipeline")
        async with info.context.database.read() as session:
            rows = await schedules.list_schedules(session, info.context.viewer, page, pipeline_id=pipeline_id)
        return paging.connect(rows, lambda row: row.id, Schedule.of)

    @strawberry.field(
        description="When a cron expression would be due, from now or a moment on; at most 100 times."
    )
    def preview_schedule(
        self,
        info: Info,
        cron: Annotated[
            str, strawberry.argument(description="Minute, hour, day of month, month, day of week.")
        ],
        time_zone: Annotated[str, strawberry.argument(description="An IANA name.")] = "UTC",
        count: Annotated[int, strawberry.argument(description="So many times, at most 100.")] = 10,
        since: Annotated[
            datetime | None,
            strawberry.argument(description="Later than this moment; than now when not given."),
        ] = None,
    ) -> list[datetime]:
        info.context.require_viewer()
        calendar = calendars.cron(cron, time_zone)
        return calendars.preview(calendar, aware(since) or columns.now(), _counted(count))


def aware(moment: datetime | None) -> datetime | None:
    """A moment given without a zone is in UTC."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _counted(count: int) -> int:
    if not 0 <= count <= MOST_NEXT:
        raise errors.Invalid(f"a count is 0 to {MOST_NEXT}, not {count}", path=("count",))
    return count
