"""Firing: what is due starts its run, once.

A fire is one transaction: it holds the schedule's row, sees that it is still due as it was read, moves it on by
compare-and-set, starts the run under a key made of schedule and cause, and records the fire. A crash before
the commit has done nothing, one after it everything; a second replica finds it done. A refusal undoes the
transaction, and `fire` is called again with it, to be recorded in the run's place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from db import (
    calendars,
    errors,
    feeds,
    ids,
    jobs,
    pipelines,
    requests,
    runs,
    schedules,
    scheduling,
    starts,
    texts,
    users,
    viewers,
)
from db.columns import Timestamp
from db.database import Session, Transaction
from db.errors import DomainError
from db.fires import Fire, Outcome
from db.jobs import Direction, JobFile
from db.runs import Run
from db.schedules import FIRING, CatchUp, FileTrigger, Overlap, RunTrigger, Schedule, ScheduleState
from db.states import TERMINAL_RUN, RunState

LATE_SECONDS = 60.0
"""With CatchUp.SKIP a time that passed so long ago is missed: a restart in between takes no longer."""
MOST_CAUGHT_UP = 100
MOST_IN_A_BATCH = 500
FIRES_KEPT = 1000
_GRACE_SECONDS = 10.0
_ACTIVE = [state for state in RunState if state not in TERMINAL_RUN]


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule whose time has come as it was read, or a PENDING fire of one."""

    schedule_id: bytes
    wake_at: datetime
    next_at: datetime | None = None
    fire_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Cause:
    """Why a run is started: its fire's columns, and the files that come with it."""

    key: str
    due_at: datetime
    files: Sequence[bytes] = ()


_MOST = {"most": 200}
_TIMED = (
    select(Schedule.id, Schedule.next_at, Schedule.wake_at)
    .where(Schedule.state.in_(FIRING), Schedule.wake_at <= bindparam("now", type_=Timestamp))
    .order_by(Schedule.wake_at, Schedule.id)
    .limit(bindparam("most"))
)
# What arrived before a schedule's end is still done; what arrived before a pause, after it.
_PENDING = (
    select(Fire.id, Fire.schedule_id, Fire.due_at)
    .join(Schedule, Schedule.id == Fire.schedule_id)
    .where(Fire.outcome == Outcome.PENDING, Schedule.state != ScheduleState.PAUSED)
    .order_by(Fire.due_at, Fire.id)
    .limit(bindparam("most"))
)
_ARRIVED = _PENDING.where(Fire.due_at <= bindparam("now", type_=Timestamp))
_NEXT_WAKE = (
    select(Schedule.wake_at)
    .where(Schedule.state.in_(FIRING), Schedule.wake_at.is_not(None))
    .order_by(Schedule.wake_at)
    .limit(1)
)
_NEXT_DUE = _PENDING.with_only_columns(Fire.due_at)


async def due(session: Session, now: datetime) -> list[Due]:
    """What is due, the longest due first: at most so many of either kind."""
    rows = (await session.execute(_TIMED, {"now": now, **_MOST})).all()
    found = [Due(row.id, row.wake_at, next_at=row.next_at) for row in rows]
    arrived = (await session.execute(_ARRIVED, {"now": now, **_MOST})).all()
    found += [Due(row.schedule_id, row.due_at, fire_id=row.id) for row in arrived]
    return sorted(found, key=lambda one: one.wake_at)


async def next_wake(session: Session) -> datetime | None:
    """When the next thing is due."""
    first: datetime | None = await session.scalar(_NEXT_WAKE)
    other: datetime | None = await session.scalar(_NEXT_DUE, {"most": 1})
    return min((moment for moment in (first, other) if moment is not None), default=None)


async def fire(session: Transaction, one: Due, now: datetime, *, refusal: DomainError | None = None) -> None:
    """Do what is due, or record this refusal of it; nothing, where it is due no more.

    Raises the DomainError of what cannot be started.
    """
    mine = select(Schedule).where(Schedule.id == one.schedule_id, Schedule.state != ScheduleState.PAUSED)
    schedule = await session.find(Schedule, mine.with_for_update(key_share=True))
    if schedule is None:
        return
    if one.fire_id is not None:
        await _fire_arrival(session, schedule, one.fire_id, now, refusal)
    elif schedule.next_at == one.next_at and schedule.wake_at is not None and schedule.wake_at <= now:
        if schedule.next_at is None:
            await _advance(session, schedule, None)
        else:
            await _fire_time(session, schedule, schedule.next_at, now, refusal)


async def fire_now(
    session: Transaction, viewer: viewers.Viewer, schedule_id: bytes, key: str, now: datetime
) -> bytes:
    """Start a run of a schedule at once, in the viewer's name; the same key gives the run it started."""
    schedule = await scheduling.lock(session, viewer, schedule_id)
    if not 1 <= len(key) <= 150 or texts.refusal(key):
        raise errors.Invalid("an idempotency key has 1 to 150 characters", path=("idempotencyKey",))
    public = f"now/{key}"
    known = select(Fire.run_id).where(Fire.schedule_id == schedule_id, Fire.key == public)
    if (run_id := await session.scalar(known)) is not None:
        return bytes(run_id)
    request = requests.decode(schedule.request)
    spec = scheduling.start_spec(request, schedule.pipeline_id, _key(schedule, public))
    started = await starts.start(session, viewer, spec)
    await _insert(session, schedule, _Cause(public, now), now, outcome=Outcome.STARTED, run_id=started)
    return started


async def _fire_time(
    session: Transaction, schedule: Schedule, since: datetime, now: datetime, refusal: DomainError | None
) -> None:
    calendar = schedules.calendar_of(schedules.trigger_of(schedule))
    assert calendar is not None
    until = now if schedule.ends_at is None else min(now, schedule.ends_at)
    most = MOST_CAUGHT_UP if schedule.catch_up is CatchUp.ALL else 1
    # The zone's rules may have changed meanwhile: what was promised is kept.
    times = calendars.latest(calendar, since, until, most) or [since]
    chosen = times[0]
    following = scheduling.following(calendar, chosen, schedule.starts_at, schedule.ends_at)
    await _advance(session, schedule, following)
    if await _is_done(session, schedule, _at(chosen)):
        return  # the clock was set back
    late = (now - scheduling.wake_at(schedule.id, chosen, schedule.jitter_seconds)).total_seconds()
    if schedule.catch_up is CatchUp.SKIP and late > LATE_SECONDS:
        missed = f"missed: due {_when(chosen)}, {_span(late)} ago" + (
            f", as were others from {_when(since)} on" if chosen > since else ""
        )
        await _skip(session, schedule, _Cause(_at(chosen), chosen), now, missed)
        return
    if chosen > since and not await _is_done(session, schedule, _at(since)):
        missed = f"missed: due {_when(since)}, and whatever else before {_when(chosen)}"
        await _skip(session, schedule, _Cause(_at(since), since), now, missed)
    await _start(session, schedule, [_Cause(_at(chosen), chosen)], now, refusal, [])


async def _fire_arrival(
    session: Transaction, schedule: Schedule, fire_id: bytes, now: datetime, refusal: DomainError | None
) -> None:
    pending = (Fire.schedule_id == schedule.id) & (Fire.outcome == Outcome.PENDING)
    first = await session.find(Fire, select(Fire).where(Fire.id == fire_id, pending))
    if first is None:
        return
    members = [first]
    trigger = schedules.trigger_of(schedule)
    if isinstance(trigger, FileTrigger) and trigger.batch_seconds is not None:
        others = select(Fire).where(pending, Fire.id != fire_id, Fire.file_id.is_not(None))
        members += await session.all(Fire, others.order_by(Fire.id).limit(MOST_IN_A_BATCH - 1))
    members.sort(key=lambda member: member.id)
    causes = [
        _Cause(member.key, member.due_at, [member.file_id] if member.file_id else []) for member in members
    ]
    if isinstance(trigger, RunTrigger) and trigger.outputs and first.after_run_id is not None:
        causes = [_Cause(first.key, first.due_at, await _outputs(session, first.after_run_id, trigger))]
    await _start(session, schedule, causes, now, refusal, [member.id for member in members])


async def _start(
    session: Transaction,
    schedule: Schedule,
    causes: Sequence[_Cause],
    now: datetime,
    refusal: DomainError | None,
    pending: Sequence[bytes],
) -> None:
    """Start the one run of these causes, and record it as their fires: new ones, or those PENDING."""
    result: dict[str, Any] = {"outcome": Outcome.STARTED}
    active = await _active(session, schedule.id)
    if refusal is not None:
        result = {"outcome": Outcome.FAILED, "error_code": refusal.code, "message": str(refusal)}
    elif active and schedule.overlap is Overlap.SKIP:
        waiting = f"{ids.encode('run', active[0].id)} is still {active[0].state.value}"
        result = {"outcome": Outcome.SKIPPED, "message": waiting}
    else:
        result["run_id"] = await _start_run(session, schedule, causes, active)
    if pending:
        ours = (Fire.id.in_(pending)) & (Fire.outcome == Outcome.PENDING)
        changed = await session.change(update(Fire).where(ours).values(**result, fired_at=now))
        assert changed == len(pending), "a fire changed without its schedule's lock"
    else:
        await _insert(session, schedule, causes[0], now, **result)
    await _record(session, schedule, now, refusal, result["outcome"])


async def _start_run(
    session: Transaction, schedule: Schedule, causes: Sequence[_Cause], active: Sequence[Any]
) -> bytes:
    viewer = await users.acting(session, schedule.owner_id)
    try:
        viewers.require_writer(viewer, schedule.project_id)
    except errors.Forbidden as error:
        raise errors.Forbidden("the schedule's owner may not start runs in this project any more") from error
    pipeline = await pipelines.find_pipeline(session, viewer, pipeline_id=schedule.pipeline_id)
    if pipeline is None or pipeline.deleted_at is not None:
        name = (
            "there is no such pipeline" if pipeline is None else f"the pipeline {pipeline.name} was deleted"
        )
        raise errors.NotFound(name, path=("pipeline",))
    cancelled = active if schedule.overlap is Overlap.CANCEL_PREVIOUS else ()
    if cancelled:
        await feeds.lock_all(session, sorted(row.feed_id for row in cancelled))
    files = [file for cause in causes for file in cause.files]
    request = requests.decode(schedule.request)
    key = _key(schedule, causes[0].key)
    run_id = await starts.start(
        session, viewer, scheduling.start_spec(request, schedule.pipeline_id, key, files)
    )
    for row in cancelled:
        await runs.cancel(session, viewer, row.id, grace_seconds=_GRACE_SECONDS)
    return run_id


async def _is_done(session: Session, schedule: Schedule, key: str) -> bool:
    done = select(Fire.id).where(Fire.schedule_id == schedule.id, Fire.key == key)
    return await session.scalar(done) is not None


async def _active(session: Session, schedule_id: bytes) -> list[Any]:
    """The runs of its last fires that have not ended, newest first."""
    started = select(Fire.run_id).where(Fire.schedule_id == schedule_id, Fire.run_id.is_not(None))
    last = started.order_by(Fire.id.desc()).limit(100).scalar_subquery()
    statement = select(Run.id, Run.feed_id, Run.state).where(Run.id.in_(last), Run.state.in_(_ACTIVE))
    return list((await session.execute(statement.order_by(Run.id.desc()))).all())


async def _outputs(session: Session, run_id: bytes, trigger: RunTrigger) -> list[bytes]:
    """The files a run made, in the order of its steps: of the steps named, or of those that no other needs."""
    members = await jobs.of_run(session, run_id)
    needed = {position for job in members for position in job.needs}
    chosen = [
        job.id
        for job in members
        if (job.position not in needed if trigger.steps is None else job.step in trigger.steps)
    ]
    order = {job_id: place for place, job_id in enumerate(chosen)}
    statement = select(JobFile).where(JobFile.job_id.in_(chosen), JobFile.direction == Direction.OUTPUT)
    rows = await session.all(JobFile, statement)
    return [row.file_id for row in sorted(rows, key=lambda row: (order[row.job_id], row.position))]


async def _advance(session: Transaction, schedule: Schedule, following: datetime | None) -> None:
    """Move a schedule on to its next due time by compare-and-set; without one it has ended."""
    values: dict[str, Any] = {"next_at": following, "wake_at": None}
    if following is None:
        values["state"] = ScheduleState.ENDED
    else:
        values["wake_at"] = scheduling.wake_at(schedule.id, following, schedule.jitter_seconds)
    was = Schedule.next_at.is_(None) if schedule.next_at is None else Schedule.next_at == schedule.next_at
    changed = await session.change(update(Schedule).where(Schedule.id == schedule.id, was).values(values))
    assert changed == 1, "a schedule changed without its lock"


async def _skip(session: Transaction, schedule: Schedule, cause: _Cause, now: datetime, why: str) -> None:
    await _insert(session, schedule, cause, now, outcome=Outcome.SKIPPED, message=why)


async def _insert(
    session: Transaction, schedule: Schedule, cause: _Cause, now: datetime, **result: Any
) -> None:
    fire_id = ids.new()
    values = {
        "id": fire_id,
        "schedule_id": schedule.id,
        "key": cause.key,
        "due_at": cause.due_at,
        "fired_at": now,
        "chain": [schedule.id.hex()],
    }
    await session.execute(insert(Fire).values(**values, **result))
    if fire_id[-1] == 0:  # now and then
        await _prune(session, schedule.id)


async def _prune(session: Transaction, schedule_id: bytes) -> None:
    """Keep the last fires of a schedule, and those still to be done."""
    mine = (Fire.schedule_id == schedule_id) & (Fire.outcome != Outcome.PENDING)
    oldest = select(Fire.id).where(mine).order_by(Fire.id.desc()).offset(FIRES_KEPT).limit(1)
    await session.execute(delete(Fire).where(mine, Fire.id <= oldest.scalar_subquery()))


async def _record(
    session: Transaction, schedule: Schedule, now: datetime, refusal: DomainError | None, outcome: Outcome
) -> None:
    """What a fire says of its schedule: failures in a row make it FAILING, a success ACTIVE again."""
    if outcome is Outcome.SKIPPED:
        return
    values: dict[str, Any] = {"last_fired_at": now}
    to = ScheduleState.ACTIVE
    if refusal is None:
        values |= {"failures": 0, "last_error_code": None, "last_error": None}
    else:
        failures = schedule.failures + 1
        values |= {"failures": failures, "last_error_code": refusal.code, "last_error": str(refusal)}
        to = ScheduleState.FAILING if failures >= schedules.FAILURES_TO_FAILING else schedule.state
    mine = Schedule.id == schedule.id
    await session.execute(update(Schedule).where(mine).values(values))
    await session.execute(update(Schedule).where(mine, Schedule.state.in_(FIRING)).values(state=to))


def _key(schedule: Schedule, key: str) -> str:
    return f"{ids.encode('schedule', schedule.id)}/{key}"


def _at(moment: datetime) -> str:
    return f"at/{moment.isoformat()}"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
