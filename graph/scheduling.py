"""Making, changing, pausing and deleting schedules, and running one at once."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from db import columns, errors, firing, schedules, scheduling
from db.files import FileKind
from db.states import RunState
from graph import runs
from graph.context import Info
from graph.errors import UserError, refusing
from graph.nodes import key, maybe_key
from graph.requests import RequestInput, request_of
from graph.runs import Run
from graph.schedules import Schedule, aware, load_schedules


@strawberry.input(description="Times of a clock.")
class CronInput:
    """A cron expression."""

    expression: str = strawberry.field(
        description="Minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, "
        "@yearly."
    )
    time_zone: str = strawberry.field(default="UTC", description="An IANA name, such as Europe/Berlin.")


@strawberry.input(description="Elapsed time.")
class IntervalInput:
    """An interval."""

    every_seconds: float = strawberry.field(description="1 second to 366 days.")
    anchor_at: datetime | None = strawberry.field(
        default=None, description="A due time to count from; the start when not given."
    )


@strawberry.input(description="Arriving files: each starts one run, which has it as input.")
class FileArrivalInput:
    """Files to wait for. What came of the schedule's own runs is never taken."""

    name: str = strawberry.field(default="*", description="A pattern of names: *, ?, [a-z].")
    kinds: list[FileKind] | None = strawberry.field(
        default=None, description="Given, made, or both; INPUT when not given."
    )
    tags: JSON | None = strawberry.field(default=None, description="Tags the file has, with these values.")
    batch_seconds: float | None = strawberry.field(
        default=None, description="Files that come within so long after a first one are one run."
    )


@strawberry.input(description="Ended runs of another pipeline.")
class AfterRunInput:
    """A pipeline to wait for. What came of the schedule's own runs is never taken."""

    pipeline: strawberry.ID = strawberry.field(description="Of the same project; no circle.")
    in_states: list[RunState] | None = strawberry.field(
        name="states",
        default=None,
        description="Of SUCCEEDED, FAILED and CANCELLED; SUCCEEDED when not given.",
    )
    outputs: bool = strawberry.field(
        default=False, description="Give the run's outputs to the new one as input files."
    )
    steps: list[str] | None = strawberry.field(
        default=None, description="Whose outputs; those of the steps that no other needs when not given."
    )


@strawberry.input(description="What each fire starts, in the words of startRun.")
class ScheduledRunInput(RequestInput):
    """The request of each fire."""


@strawberry.input(description="A schedule to be: exactly one of `cron`, `interval`, `file` and `after`.")
class CreateScheduleInput:
    """Input of createSchedule."""

    name: str = strawberry.field(description="Unique in the project.")
    pipeline: strawberry.ID = strawberry.field(description="Its latest revision is executed each time.")
    cron: CronInput | None = strawberry.field(default=None, description="Times of a clock.")
    interval: IntervalInput | None = strawberry.field(default=None, description="Every so many seconds.")
    file: FileArrivalInput | None = strawberry.field(default=None, description="When files arrive.")
    after: AfterRunInput | None = strawberry.field(default=None, description="When runs have ended.")
    run: ScheduledRunInput = strawberry.field(
        default_factory=ScheduledRunInput, description="What each fire starts."
    )
    description: str = strawberry.field(default="", description="What it is for.")
    catch_up: schedules.CatchUp | None = strawberry.field(
        default=None, description="What is done about missed times; SKIP when not given."
    )
    overlap: schedules.Overlap | None = strawberry.field(
        default=None, description="What is done when a run is still active; ALLOW when not given."
    )
    jitter_seconds: float = strawberry.field(
        default=0.0, description="Up to so much later than due, at most 3600."
    )
    starts_at: datetime | None = strawberry.field(default=None, description="Not due before.")
    ends_at: datetime | None = strawberry.field(default=None, description="Not due after.")


@strawberry.input(
    description="What to change; what is not given stays. At most one of `cron`, `interval`, `file` and `after`."
)
class UpdateScheduleInput:
    """Input of updateSchedule."""

    id: strawberry.ID = strawberry.field(description="The schedule.")
    name: str | None = strawberry.field(default=None, description="A new name.")
    pipeline: strawberry.ID | None = strawberry.field(default=None, description="Another pipeline.")
    cron: CronInput | None = strawberry.field(default=None, description="Times of a clock from now on.")
    interval: IntervalInput | None = strawberry.field(default=None, description="An interval from now on.")
    file: FileArrivalInput | None = strawberry.field(default=None, description="Files from now on.")
    after: AfterRunInput | None = strawberry.field(default=None, description="Ended runs from now on.")
    run: ScheduledRunInput | None = strawberry.field(default=None, description="All of what it starts.")
    description: str | None = strawberry.field(default=None, description="A new description.")
    catch_up: schedules.CatchUp | None = strawberry.field(default=None, description="Another policy.")
    overlap: schedules.Overlap | None = strawberry.field(default=None, description="Another policy.")
    jitter_seconds: float | None = strawberry.field(default=None, description="Another jitter.")
    starts_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Not due before; null takes the bound away."
    )
    ends_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Not due after; null takes the bound away."
    )


@strawberry.input(description="Which schedule to pause.")
class PauseScheduleInput:
    """Input of pauseSchedule."""

    id: strawberry.ID = strawberry.field(description="The schedule.")


@strawberry.input(description="Which schedule to resume.")
class ResumeScheduleInput:
    """Input of resumeSchedule."""

    id: strawberry.ID = strawberry.field(description="The schedule.")


@strawberry.input(description="Which schedule to delete.")
class DeleteScheduleInput:
    """Input of deleteSchedule."""

    id: strawberry.ID = strawberry.field(description="The schedule.")


@strawberry.type(description="The schedule, or every mistake.")
class CreateSchedulePayload:
    """Payload of createSchedule."""

    schedule: Schedule | None = strawberry.field(default=None, description="The new schedule.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type(description="The schedule, or every mistake.")
class UpdateSchedulePayload:
    """Payload of updateSchedule."""

    schedule: Schedule | None = strawberry.field(default=None, description="As it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type(description="The schedule, or why it was refused.")
class PauseSchedulePayload:
    """Payload of pauseSchedule."""

    schedule: Schedule | None = strawberry.field(default=None, description="As it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type(description="The schedule, or why it was refused.")
class ResumeSchedulePayload:
    """Payload of resumeSchedule."""

    schedule: Schedule | None = strawberry.field(default=None, description="As it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type(description="What is gone, or why it was refused.")
class DeleteSchedulePayload:
    """Payload of deleteSchedule."""

    id: strawberry.ID | None = strawberry.field(default=None, description="Of the schedule that was.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Which schedule to run now.")
class RunScheduleInput:
    """Input of runSchedule."""

    id: strawberry.ID = strawberry.field(description="The schedule, in whatever state.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same key gives the run it started."
    )


@strawberry.type(description="The run, or every mistake.")
class RunSchedulePayload:
    """Payload of runSchedule."""

    run: Run | None = strawberry.field(default=None, description="QUEUED, or what the key started before.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class ScheduleMutation:
    """Making and changing schedules."""

    @strawberry.mutation(description="Make a schedule; every mistake is told with its path.")
    @refusing(CreateSchedulePayload)
    async def create_schedule(self, info: Info, input: CreateScheduleInput) -> CreateSchedulePayload:
        context = info.context
        trigger, after = _trigger(input)
        if trigger is None:
            raise errors.Invalid("give one of cron, interval, file and after")
        spec = scheduling.ScheduleSpec(
            name=input.name,
            pipeline_id=key("pipeline", input.pipeline, "pipeline"),
            trigger=trigger,
            request=request_of(context, input.run, "run"),
            after_pipeline_id=after,
            description=input.description,
            catch_up=input.catch_up or schedules.CatchUp.SKIP,
            overlap=input.overlap or schedules.Overlap.ALLOW,
            jitter_seconds=input.jitter_seconds,
            starts_at=aware(input.starts_at),
            ends_at=aware(input.ends_at),
        )
        schedule_id = await context.act(scheduling.create, spec, columns.now())
        return CreateSchedulePayload(schedule=await context.load(load_schedules, schedule_id))

    @strawberry.mutation(description="Change a schedule; it then acts in the name of who changed it.")
    @refusing(UpdateSchedulePayload)
    async def update_schedule(self, info: Info, input: UpdateScheduleInput) -> UpdateSchedulePayload:
        context = info.context
        schedule_id = key("schedule", input.id, "id")
        trigger, after = _trigger(input)
        changes = scheduling.Changes(
            name=input.name,
            pipeline_id=maybe_key("pipeline", input.pipeline, "pipeline"),
            trigger=trigger,
            request=None if input.run is None else request_of(context, input.run, "run"),
            after_pipeline_id=after,
            description=input.description,
            catch_up=input.catch_up,
            overlap=input.overlap,
            jitter_seconds=input.jitter_seconds,
            starts_at=aware(input.starts_at or None),
            ends_at=aware(input.ends_at or None),
            cleared=frozenset(name for name in ("starts_at", "ends_at") if getattr(input, name) is None),
        )
        await context.act(scheduling.change, schedule_id, changes, columns.now())
        return UpdateSchedulePayload(schedule=await context.load(load_schedules, schedule_id))

    @strawberry.mutation(description="Let a schedule fire no more until it is resumed.")
    @refusing(PauseSchedulePayload)
    async def pause_schedule(self, info: Info, input: PauseScheduleInput) -> PauseSchedulePayload:
        schedule_id = key("schedule", input.id, "id")
        await info.context.act(scheduling.pause, schedule_id)
        return PauseSchedulePayload(schedule=await info.context.load(load_schedules, schedule_id))

    @strawberry.mutation(
        description="Let a paused or failing schedule fire from now on, in the name of who resumes it."
    )
    @refusing(ResumeSchedulePayload)
    async def resume_schedule(self, info: Info, input: ResumeScheduleInput) -> ResumeSchedulePayload:
        schedule_id = key("schedule", input.id, "id")
        await info.context.act(scheduling.resume, schedule_id, columns.now())
        return ResumeSchedulePayload(schedule=await info.context.load(load_schedules, schedule_id))

    @strawberry.mutation(description="Delete a schedule with its history; the runs it started stay.")
    @refusing(DeleteSchedulePayload)
    async def delete_schedule(self, info: Info, input: DeleteScheduleInput) -> DeleteSchedulePayload:
        schedule_id = key("schedule", input.id, "id")
        await info.context.act(scheduling.remove, schedule_id)
        return DeleteSchedulePayload(id=input.id)

    @strawberry.mutation(description="Start a schedule's run now, in the name of who asks.")
    @refusing(RunSchedulePayload)
    async def run_schedule(self, info: Info, input: RunScheduleInput) -> RunSchedulePayload:
        context = info.context
        schedule_id = key("schedule", input.id, "id")
        given = uuid.uuid4().hex if input.idempotency_key is None else input.idempotency_key
        run_id = await context.act(firing.fire_now, schedule_id, given, columns.now())
        return RunSchedulePayload(run=await context.load(runs.load_runs, run_id))


def _trigger(
    input: CreateScheduleInput | UpdateScheduleInput,
) -> tuple[schedules.Trigger | None, bytes | None]:
    """The one trigger that is given, if any, and the pipeline it comes after; raises Invalid for two."""
    given = [name for name in _MADE if getattr(input, name) is not None]
    if len(given) > 1:
        raise errors.Invalid(
            f"give one of cron, interval, file and after, not {' and '.join(given)}", path=given[1:2]
        )
    if not given:
        return None, None
    after = key("pipeline", input.after.pipeline, "after", "pipeline") if input.after is not None else None
    return _MADE[given[0]](getattr(input, given[0])), after


def _cron(given: CronInput) -> schedules.Trigger:
    return schedules.CronTrigger(given.expression, given.time_zone)


def _interval(given: IntervalInput) -> schedules.Trigger:
    anchor = aware(given.anchor_at)
    return schedules.IntervalTrigger(
        given.every_seconds, 0 if anchor is None else columns.microseconds(anchor)
    )


def _file(given: FileArrivalInput) -> schedules.Trigger:
    tags: Any = given.tags or {}
    if not isinstance(tags, dict):
        raise errors.Invalid("tags are an object of values by name", path=("file", "tags"))
    kinds = [kind.value for kind in given.kinds or [FileKind.INPUT]]
    return schedules.FileTrigger(kinds, given.name, tags, given.batch_seconds)


def _after(given: AfterRunInput) -> schedules.Trigger:
    states = [state.value for state in given.in_states or [RunState.SUCCEEDED]]
    return schedules.RunTrigger(states, given.outputs, given.steps)


_MADE: dict[str, Callable[[Any], schedules.Trigger]] = {
    "cron": _cron,
    "interval": _interval,
    "file": _file,
    "after": _after,
}
