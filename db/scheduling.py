"""Making and changing schedules: everything is checked now, so that a fire fails only for what changed since.

A schedule acts in the name of its owner: who made it, or changed or resumed it last. Nobody can so make
another's rights start what they wrote themselves.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from db import (
    calendars,
    columns,
    errors,
    ids,
    manifests,
    pipelines,
    plans,
    requests,
    schedules,
    steps,
    texts,
    viewers,
)
from db.calendars import Calendar
from db.database import Session, Transaction
from db.errors import Problem
from db.plans import StartSpec
from db.projects import Project
from db.requests import Request
from db.schedules import (
    CatchUp,
    CronTrigger,
    FileTrigger,
    IntervalTrigger,
    Overlap,
    RunTrigger,
    Schedule,
    ScheduleState,
    Trigger,
)
from db.states import TERMINAL_RUN
from db.viewers import Viewer

MOST_JITTER_SECONDS = 3600.0
MOST_BATCH_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What a user asks for. An interval without an anchor (0) is counted from its start."""

    name: str
    pipeline_id: bytes
    trigger: Trigger
    request: Request
    after_pipeline_id: bytes | None = None
    description: str = ""
    catch_up: CatchUp = CatchUp.SKIP
    overlap: Overlap = Overlap.ALLOW
    jitter_seconds: float = 0.0
    starts_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change; None stays as it is."""

    name: str | None = None
    pipeline_id: bytes | None = None
    trigger: Trigger | None = None
    request: Request | None = None
    after_pipeline_id: bytes | None = None
    description: str | None = None
    catch_up: CatchUp | None = None
    overlap: Overlap | None = None
    jitter_seconds: float | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    cleared: frozenset[str] = frozenset()
    """Of starts_at and ends_at those that it has no more."""


async def create(session: Transaction, viewer: Viewer, spec: ScheduleSpec, now: datetime) -> bytes:
    """A new schedule; raises Invalid with every mistake, Conflict for a taken name."""
    project_id, spec = await _check(session, viewer, spec, now)
    schedule_id = ids.new()
    values = {
        **_values(spec, schedule_id, now),
        "id": schedule_id,
        "project_id": project_id,
        "failures": 0,
        "owner_id": viewer.user_id,
        "created_at": now,
    }
    once = columns.insert_once(session.postgresql, Schedule, ("project_id", "name"))
    if not await session.change(once, values):
        raise errors.Conflict(f"there is a schedule named {spec.name!r} already", path=("name",))
    session.wake()
    return schedule_id


async def change(
    session: Transaction, viewer: Viewer, schedule_id: bytes, changes: Changes, now: datetime
) -> bytes:
    """Change what is given, checked as if it were made anew; it is due from now on as it says then."""
    row = await lock(session, viewer, schedule_id)
    fields = set(Changes.__slots__) - {"cleared"}
    given: dict[str, Any] = dict.fromkeys(changes.cleared)
    given |= {name: value for name in fields if (value := getattr(changes, name)) is not None}
    spec = replace(_spec_of(row), **given)
    if changes.trigger is not None:
        spec = replace(spec, after_pipeline_id=changes.after_pipeline_id)
    project_id, spec = await _check(session, viewer, spec, now, schedule_id)
    if project_id != row.project_id:
        raise errors.Invalid("the pipeline is one of the schedule's project", path=("pipeline",))
    values = _values(spec, schedule_id, now)
    if row.state is ScheduleState.PAUSED:
        values |= {"state": ScheduleState.PAUSED, "next_at": None, "wake_at": None}
    changed = update(Schedule).where(Schedule.id == schedule_id)
    try:
        await session.execute(changed.values(**values, owner_id=viewer.user_id))
    except IntegrityError as error:
        raise errors.Conflict(f"there is a schedule named {spec.name!r} already", path=("name",)) from error
    session.wake()
    return schedule_id


async def pause(session: Transaction, viewer: Viewer, schedule_id: bytes) -> bytes:
    """Let it fire no more until it is resumed; a repeat changes nothing."""
    row = await lock(session, viewer, schedule_id)
    if row.state in schedules.FIRING:
        paused = {"state": ScheduleState.PAUSED, "next_at": None, "wake_at": None}
        await session.execute(update(Schedule).where(Schedule.id == schedule_id).values(paused))
    return schedule_id


async def resume(session: Transaction, viewer: Viewer, schedule_id: bytes, now: datetime) -> bytes:
    """Let it fire again, from now on, in the name of who resumes it; what it missed meanwhile is gone."""
    row = await lock(session, viewer, schedule_id)
    if row.state not in (ScheduleState.PAUSED, ScheduleState.FAILING):
        return schedule_id
    timing = _timing(_spec_of(row), schedule_id, now)
    values = {**timing, "failures": 0, "owner_id": viewer.user_id}
    await session.execute(update(Schedule).where(Schedule.id == schedule_id).values(values))
    session.wake()
    return schedule_id


async def remove(session: Transaction, viewer: Viewer, schedule_id: bytes) -> bytes:
    """Delete a schedule with its history; the runs it started stay."""
    await lock(session, viewer, schedule_id)
    await session.execute(delete(Schedule).where(Schedule.id == schedule_id))
    return schedule_id


async def lock(session: Transaction, viewer: Viewer, schedule_id: bytes) -> Schedule:
    """A schedule that the viewer may change, held until the end; raises NotFound or Forbidden."""
    seen = viewers.visible(viewer, Schedule.project_id)
    statement = select(Schedule).where(Schedule.id == schedule_id, seen)
    row = await session.find(Schedule, statement.with_for_update(key_share=True))
    if row is None:
        raise errors.NotFound("there is no such schedule", path=("id",))
    viewers.require_writer(viewer, row.project_id)
    return row


def start_spec(
    request: Request, pipeline_id: bytes, key: str | None, files: Sequence[bytes] = ()
) -> StartSpec:
    """What a request asks of a pipeline, on these files beside its own."""
    inputs = tuple(dict.fromkeys([*request.files, *files]))
    asked = {**request.asked(), "files": inputs}
    return StartSpec(pipeline_id=pipeline_id, idempotency_key=key, **asked)


def following(
    calendar: Calendar, after: datetime, starts_at: datetime | None, ends_at: datetime | None
) -> datetime | None:
    """The first due time later than a moment and within the bounds, which are included."""
    if starts_at is not None:
        after = max(after, starts_at - timedelta(microseconds=1))
    due = calendar.after(after)
    return None if due is None or (ends_at is not None and due > ends_at) else due


def wake_at(schedule_id: bytes, due: datetime, jitter_seconds: float) -> datetime:
    """When a due time is acted on: some part of the jitter later, the same for whoever works it out."""
    digest = hashlib.sha256(schedule_id + columns.microseconds(due).to_bytes(8)).digest()
    return due + timedelta(seconds=int.from_bytes(digest[:6]) / 2**48 * jitter_seconds)


def _spec_of(row: Schedule) -> ScheduleSpec:
    return ScheduleSpec(
        row.name,
        row.pipeline_id,
        schedules.trigger_of(row),
        requests.decode(row.request),
        row.after_pipeline_id,
        row.description,
        row.catch_up,
        row.overlap,
        row.jitter_seconds,
        row.starts_at,
        row.ends_at,
    )


def _values(spec: ScheduleSpec, schedule_id: bytes, now: datetime) -> dict[str, Any]:
    kind, trigger = schedules.encode(spec.trigger)
    return {
        "pipeline_id": spec.pipeline_id,
        "name": spec.name,
        "description": spec.description,
        "kind": kind,
        "trigger": trigger,
        "after_pipeline_id": spec.after_pipeline_id,
        "request": requests.encode(spec.request),
        "catch_up": spec.catch_up,
        "overlap": spec.overlap,
        "jitter_seconds": spec.jitter_seconds,
        "starts_at": spec.starts_at,
        "ends_at": spec.ends_at,
        **_timing(spec, schedule_id, now),
    }


def _timing(spec: ScheduleSpec, schedule_id: bytes, now: datetime) -> dict[str, Any]:
    """State and next times of a schedule that begins now. One without a calendar wakes to end."""
    active = {"state": ScheduleState.ACTIVE, "next_at": None, "wake_at": spec.ends_at}
    calendar = schedules.calendar_of(spec.trigger)
    if calendar is None:
        return (
            active if spec.ends_at is None or spec.ends_at > now else {**active, "state": ScheduleState.ENDED}
        )
    due = following(calendar, now, spec.starts_at, spec.ends_at)
    if due is None:
        return {"state": ScheduleState.ENDED, "next_at": None, "wake_at": None}
    wake = wake_at(schedule_id, due, spec.jitter_seconds)
    return {"state": ScheduleState.ACTIVE, "next_at": due, "wake_at": wake}


async def _check(
    session: Session, viewer: Viewer, spec: ScheduleSpec, now: datetime, schedule_id: bytes | None = None
) -> tuple[bytes, ScheduleSpec]:
    """The project of a spec, and the spec with what it left open; raises NotFound or Invalid."""
    pipeline = await pipelines.find_pipeline(session, viewer, pipeline_id=spec.pipeline_id)
    if pipeline is None or pipeline.deleted_at is not None:
        raise errors.NotFound("there is no such pipeline", path=("pipeline",))
    viewers.require_writer(viewer, pipeline.project_id)
    problems = [*_own_problems(spec)]
    if isinstance(spec.trigger, IntervalTrigger) and not spec.trigger.anchor:
        anchor = columns.microseconds(spec.starts_at or now)
        spec = replace(spec, trigger=replace(spec.trigger, anchor=anchor))
    problems += _trigger_problems(spec.trigger)
    if isinstance(spec.trigger, RunTrigger):
        problems += await _run_problems(session, viewer, pipeline, spec, spec.trigger, schedule_id)
    plan = await plans.make(session, viewer, pipeline, start_spec(spec.request, pipeline.id, None))
    problems += [Problem(("run", *p.path), p.message) for p in plan.problems]
    if not problems and _timing(spec, b"", now)["state"] is ScheduleState.ENDED:
        problems.append(Problem(("endsAt",), "it would never be due before it ends"))
    if problems:
        raise errors.Invalid(problems=problems)
    return pipeline.project_id, spec


def _own_problems(spec: ScheduleSpec) -> Iterator[Problem]:
    yield from steps.name_problems(spec.name)
    if message := texts.refusal(spec.description):
        yield Problem(("description",), message)
    if not 0 <= spec.jitter_seconds <= MOST_JITTER_SECONDS:
        yield Problem(("jitterSeconds",), f"a jitter is 0 to {MOST_JITTER_SECONDS:g} seconds")
    if spec.starts_at and spec.ends_at and spec.ends_at <= spec.starts_at:
        yield Problem(("endsAt",), "a schedule ends after it starts")


def _trigger_problems(trigger: Trigger) -> Iterator[Problem]:
    try:
        match trigger:
            case CronTrigger(expression, time_zone):
                calendars.cron(expression, time_zone, "cron")
            case IntervalTrigger(every_seconds, anchor):
                calendars.interval(every_seconds, columns.moment(anchor), "interval")
            case FileTrigger():
                yield from _file_problems(trigger)
            case RunTrigger(states):
                ends = sorted(state.value for state in TERMINAL_RUN)
                if not states or not set(states) <= set(ends):
                    yield Problem(("after", "states"), f"states are some of {', '.join(ends)}")
    except errors.Invalid as error:
        yield from error.problems


def _file_problems(trigger: FileTrigger) -> Iterator[Problem]:
    if not 1 <= len(trigger.glob) <= 255 or (message := texts.refusal(trigger.glob)):
        rule = message if 1 <= len(trigger.glob) <= 255 else "has 1 to 255 characters"
        yield Problem(("file", "name"), f"a pattern of names {rule}")
    for tag, value in trigger.tags.items():
        if refusal := texts.refusal(tag) or manifests.tag_refusal(None, value):
            yield Problem(("file", "tags", tag), f"a tag {refusal}")
    if trigger.batch_seconds is not None and not 0 <= trigger.batch_seconds <= MOST_BATCH_SECONDS:
        rule = f"a batch gathers for 0 to {MOST_BATCH_SECONDS:g} seconds"
        yield Problem(("file", "batchSeconds"), rule)


async def _run_problems(
    session: Session,
    viewer: Viewer,
    pipeline: pipelines.Pipeline,
    spec: ScheduleSpec,
    trigger: RunTrigger,
    schedule_id: bytes | None,
) -> list[Problem]:
    after = await pipelines.find_pipeline(session, viewer, pipeline_id=spec.after_pipeline_id)
    if after is None or after.deleted_at is not None or after.project_id != pipeline.project_id:
        return [Problem(("after", "pipeline"), "there is no such pipeline in this project")]
    problems: list[Problem] = []
    if trigger.steps is not None:
        revision = (await pipelines.latest_revisions(session, [after.id]))[0]
        known = [step.name for step in await steps.steps_of(session, [revision.id])]
        for index, step in enumerate(trigger.steps):
            if step not in known:
                close = texts.suggestion(step, known)
                message = f"{after.name} has no step {ids.shorten(step)!r}{close}"
                problems.append(Problem(("after", "steps", str(index)), message))
    # Two that are made at once could close a circle together: they take turns.
    project = select(Project.id).where(Project.id == pipeline.project_id)
    await session.execute(project.with_for_update(key_share=True))
    if circle := await _circle(session, after.id, pipeline.id, pipeline.project_id, schedule_id):
        names = {row.id: row.name for row in await pipelines.find_pipelines(session, viewer, circle)}
        told = " → ".join(names.get(key, ids.encode("pipeline", key)) for key in circle)
        problems.append(Problem(("after", "pipeline"), f"these pipelines would start each other: {told}"))
    return problems


async def _circle(
    session: Session, after: bytes, then: bytes, project_id: bytes, schedule_id: bytes | None
) -> list[bytes]:
    """The pipelines that would start each other if `then` started after `after`, first and last the same."""
    known = select(Schedule.after_pipeline_id, Schedule.pipeline_id).where(
        Schedule.project_id == project_id, Schedule.after_pipeline_id.is_not(None)
    )
    if schedule_id is not None:
        known = known.where(Schedule.id != schedule_id)
    starting: dict[bytes, list[bytes]] = {}
    for row in (await session.execute(known)).all():
        starting.setdefault(row.after_pipeline_id, []).append(row.pipeline_id)
    came: dict[bytes, bytes] = {}
    waiting = [then]
    while waiting and after not in (then, *came):
        here = waiting.pop()
        for there in starting.get(here, ()):
            if there not in came:
                came[there] = here
                waiting.append(there)
    if after != then and after not in came:
        return []
    walk = [after]
    while walk[-1] != then:
        walk.append(came[walk[-1]])
    return [after, *walk[::-1]]
