"""Starting a run: everything is checked, frozen and inserted in one transaction, or nothing is.

Function versions, arguments with their defaults, resources and limits are decided here and never again:
what a module or pipeline becomes later changes no run that has been started.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, select

from db import (
    arguments,
    columns,
    dataset_uses,
    errors,
    families,
    feeds,
    ids,
    jobs,
    limits,
    modules,
    pipelines,
    plans,
    policies,
    runs,
    source_uses,
    texts,
    vacancies,
)
from db.database import Session, Transaction
from db.plans import IfBusy, StartSpec
from db.runs import Run, RunFile, RunTag
from db.states import TERMINAL_JOB, RunState
from db.viewers import Viewer

__all__ = ["StartSpec", "start"]

# Statements of hot paths are built once: building one costs as much as running it.
_INSERT_RUN = insert(Run)
_INSERT_TAGS = insert(RunTag)
_INSERT_FILES = insert(RunFile)
_INSERT_JOBS = insert(jobs.Job)


async def start(session: Transaction, viewer: Viewer, spec: StartSpec) -> bytes:
    """Start a run and return its id; the same key with the same input returns the run it started.

    Raises NotFound, Invalid with every mistake, or Conflict for a key that was used for something else, and for a
    run that would have to wait and was not to.
    """
    pipeline = await pipelines.hold(session, viewer, spec.pipeline_id)
    if spec.idempotency_key is not None:
        started = await find_started(session, pipeline.project_id, spec.idempotency_key, spec.sha256())
        if started is not None:
            return started
    await families.require_parent(session, viewer, pipeline.project_id, spec.parent_id)
    plan = await plans.make(session, viewer, pipeline, spec)
    if plan.problems:
        raise errors.Invalid(problems=plan.problems)
    run = {
        "project_id": pipeline.project_id,
        "pipeline_id": pipeline.id,
        "revision_id": plan.revision_id,
        "name": spec.name or pipeline.name,
        "priority": spec.priority,
        "fail_fast": spec.fail_fast,
        "idempotency_key": spec.idempotency_key,
        "request_sha256": spec.sha256(),
        "overrides": [[step, dict(given)] for step, given in spec.arguments],
        "resources": [each.document() for each in spec.resources] or None,
        "retry": policies.documents(spec.retry) or None,
        "parent_id": spec.parent_id,
        "based_on": spec.based_on,
        "created_by": viewer.user_id,
    }
    files = [file.id for file in plan.files]
    head, run_id = await insert_run(session, run, plan.jobs, tags=spec.tags, files=files)
    await dataset_uses.record(session, run_id, plan.datasets)
    await source_uses.record(session, run_id, plan.sources)
    await begin(session, head, run_id, plan.jobs, spec.fail_fast)
    if spec.if_busy is IfBusy.REJECT:
        await vacancies.require(session, run_id)
    return run_id


async def insert_run(
    session: Transaction,
    run: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    *,
    tags: Sequence[tuple[str, str]],
    files: Sequence[bytes],
) -> tuple[feeds.Head, bytes]:
    """Insert a run that is QUEUED with its jobs, tags and files; `begin` it in the same transaction."""
    await modules.hold(session, _needed(members))
    run_id, at = ids.new(), columns.now()
    project_id = run["project_id"]
    head = await feeds.create(session, feeds.Kind.RUN, run_id, project_id)
    new = {"id": run_id, "feed_id": head.id, "state": RunState.QUEUED, "created_at": at}
    await session.execute(_INSERT_RUN, {**run, **new})
    head.emit(feeds.Subject.RUN, run_id, at, state=RunState.QUEUED)
    if tags:
        owner = {"run_id": run_id, "project_id": project_id}
        await session.execute(_INSERT_TAGS, [{**owner, "name": name, "value": value} for name, value in tags])
    if files:
        rows = [{"run_id": run_id, "position": index, "file_id": file} for index, file in enumerate(files)]
        await session.execute(_INSERT_FILES, rows)
    common = {
        "run_id": run_id,
        "project_id": project_id,
        "feed_id": head.id,
        "pipeline_id": run["pipeline_id"],
        "priority": run["priority"],
    }
    matter = await limits.looked_at(session, project_id, tags)
    rows = [{**common, **job} for job in members]
    await session.execute(_INSERT_JOBS, [{**row, "kind": jobs.kind_of(row, matter)} for row in rows])
    steps = ((job["step"], job["arguments"]) for job in members)
    await arguments.record(session, project_id, run_id, steps)
    return head, run_id


def _needed(members: Sequence[Mapping[str, Any]]) -> set[bytes]:
    """The versions of the jobs that are still to be done."""
    versions = (job.get("version_id") for job in members if job["state"] not in TERMINAL_JOB)
    return {version for version in versions if version is not None}


async def begin(
    session: Transaction,
    head: feeds.Head,
    run_id: bytes,
    inserted: Sequence[Mapping[str, Any]],
    fail_fast: bool,
) -> None:
    """Tell of a new run's jobs and make everything that follows from how they stand."""
    members, at = [_member(job) for job in inserted], columns.now()
    for member in members:
        jobs.emit(head, member, member.state, at)
    await runs.settle(session, head, run_id, members, at, RunState.QUEUED, fail_fast, False)


def _member(job: Mapping[str, Any]) -> jobs.Member:
    return jobs.Member(job["id"], job["position"], job["step"], job["state"], job["needs"], job["awaits"])


def digest(*content: Any) -> bytes:
    """What tells a repeated request from another one under the same key, of anything that JSON can say."""
    return hashlib.sha256(json.dumps(content).encode()).digest()


async def find_started(session: Transaction, project_id: bytes, key: str, sha256: bytes) -> bytes | None:
    """The run that this request started before under this key; raises Conflict if another request did."""
    _check_key(key)
    if session.postgresql:
        # Two first requests under one key at once: the second waits for the first's commit.
        lock = func.pg_advisory_xact_lock(func.hashtextextended(key, 0))
        await session.execute(select(lock))
    return await look_up(session, project_id, key, sha256)


async def look_up(session: Session, project_id: bytes, key: str, sha256: bytes) -> bytes | None:
    """As `find_started`, as of now: another request under this key may be about to commit."""
    _check_key(key)
    keyed = (Run.project_id == project_id) & (Run.idempotency_key == key)
    row = (await session.execute(select(Run.id, Run.request_sha256).where(keyed))).first()
    if row is None:
        return None
    if row.request_sha256 != sha256:
        message = "this key has started another run, from another input"
        raise errors.Conflict(message, path=("idempotencyKey",))
    found: bytes = row.id
    return found


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= 200 or texts.refusal(key):
        raise errors.Invalid("an idempotency key has 1 to 200 characters", path=("idempotencyKey",))
