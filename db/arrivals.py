"""What schedules wait for beside time: a file that is READY, a run that has ended.

Called in the transaction in which that happens: it inserts one PENDING fire for each schedule that waits for
it, so that a crash neither loses nor repeats one. Nothing is started here; the scheduler does that.

No loop can come of it: every fire carries the chain of schedules that led to it, and what came of a
schedule's own fire, by whatever way, does not fire it again.
"""

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import bindparam, select

from db import columns, ids
from db.columns import Base
from db.database import Transaction
from db.fires import Fire, Outcome
from db.schedules import FIRING, FileTrigger, RunTrigger, Schedule, TriggerKind, trigger_of


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that is READY."""

    file_id: bytes
    name: str
    kind: str
    tags: dict[str, Any]


# FOR KEY SHARE: a schedule that is found stays until its fires are in, so that they break no reference.
_WAITING = (
    select(Schedule).where(Schedule.state.in_(FIRING)).with_for_update(read=True, key_share=True, of=Schedule)
)
_FOR_FILES = _WAITING.where(
    Schedule.project_id == bindparam("project"), Schedule.kind == TriggerKind.FILE
).order_by(Schedule.id)
_CHAIN = select(Fire.chain).where(Fire.run_id == bindparam("run")).order_by(Fire.id).limit(1)


@cache
def _for_runs() -> Any:
    # Built late, for runs.py imports this file.
    runs = Base.metadata.tables["runs"]
    return (
        _WAITING.add_columns(runs.c.id.label("ended"))
        .join(runs, runs.c.pipeline_id == Schedule.after_pipeline_id)
        .where(columns.Among(runs.c.id, "runs"))
        .order_by(Schedule.id, runs.c.id)
    )


async def files_ready(
    session: Transaction,
    project_id: bytes,
    files: Sequence[Arrival],
    at: datetime,
) -> None:
    """Files are READY that no run made."""
    await files_made(session, project_id, {None: files}, at)


async def files_made(
    session: Transaction,
    project_id: bytes,
    made: Mapping[bytes | None, Sequence[Arrival]],
    at: datetime,
) -> None:
    """Files of a project are READY, by the run that made them."""
    waiting = await session.all(Schedule, _FOR_FILES, {"project": project_id})
    if not waiting:
        return
    rows: list[dict[str, Any]] = []
    for run_id, files in made.items():
        chain = await _chain(session, run_id)
        for schedule in waiting:
            trigger = trigger_of(schedule)
            assert isinstance(trigger, FileTrigger)
            if schedule.id.hex() in chain or _is_over(schedule, at):
                continue
            wait = timedelta(seconds=trigger.batch_seconds or 0.0)
            for file in files:
                if matches(trigger, file):
                    key = ids.encode("file", file.file_id)
                    rows.append({**_pending(schedule, key, at + wait, chain), "file_id": file.file_id})
    await _insert(session, rows)


async def runs_ended(session: Transaction, states: Mapping[bytes, str], at: datetime) -> None:
    """These runs have ended, each in its state."""
    waiting = await session.all(Schedule, _for_runs(), {"runs": list(states)})
    rows: list[dict[str, Any]] = []
    for schedule in waiting:
        run_id: bytes = schedule.ended  # type: ignore[attr-defined]  # the statement's own column
        chain = await _chain(session, run_id)
        trigger = trigger_of(schedule)
        assert isinstance(trigger, RunTrigger)
        told = states[run_id] in trigger.states
        if told and schedule.id.hex() not in chain and not _is_over(schedule, at):
            row = _pending(schedule, ids.encode("run", run_id), at, chain)
            rows.append({**row, "after_run_id": run_id})
    await _insert(session, rows)


def matches(trigger: FileTrigger, file: Arrival) -> bool:
    """Whether a trigger waits for a file like this; its glob tells letters' case apart."""
    return (
        file.kind in trigger.kinds
        and fnmatch.fnmatchcase(file.name, trigger.glob)
        and all(name in file.tags and file.tags[name] == value for name, value in trigger.tags.items())
    )


def _is_over(schedule: Schedule, at: datetime) -> bool:
    begun = schedule.starts_at is None or schedule.starts_at <= at
    return not begun or (schedule.ends_at is not None and schedule.ends_at <= at)


def _pending(schedule: Schedule, key: str, due_at: datetime, chain: Collection[str]) -> dict[str, Any]:
    return {
        "id": ids.new(),
        "schedule_id": schedule.id,
        "key": key,
        "outcome": Outcome.PENDING,
        "due_at": due_at,
        "file_id": None,
        "after_run_id": None,
        "chain": [*chain, schedule.id.hex()],
    }


async def _chain(session: Transaction, run_id: bytes | None) -> list[str]:
    """The schedules that led to a run."""
    if run_id is None:
        return []
    found: list[str] | None = await session.scalar(_CHAIN, {"run": run_id})
    return found or []


async def _insert(session: Transaction, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        once = columns.insert_once(session.postgresql, Fire, ("schedule_id", "key"))
        await session.execute(once, rows)
        session.wake()
