"""Starting a run: everything is checked, frozen and inserted in one transaction, or nothing is.

Function versions, arguments with their defaults, resources and limits are decided here and never again:
what a module or pipeline becomes later changes no run that has been started.
"""

from collections.abc import Mapping
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
    manifests,
    pipelines,
    plans,
    runs,
    viewers,
)
from db.database import Transaction
from db.plans import StartSpec
from db.runs import Run, RunFile, RunTag
from db.states import JobState, RunState
from db.viewers import Viewer

__all__ = ["StartSpec", "start"]

# Statements of hot paths are built once: building one costs as much as running it.
_INSERT_RUN = insert(Run)
_INSERT_TAGS = insert(RunTag)
_INSERT_FILES = insert(RunFile)
_INSERT_JOBS = insert(jobs.Job)


async def start(session: Transaction, viewer: Viewer, spec: StartSpec) -> bytes:
    """Start a run and return its id; the same key with the same input returns the run it started.

    Raises NotFound, Invalid with every mistake, or Conflict for a key that was used for something else.
    """
    pipeline = await pipelines.find_pipeline(session, viewer, pipeline_id=spec.pipeline_id)
    if pipeline is None:
        raise errors.NotFound("there is no such pipeline", path=("pipeline",))
    viewers.require_writer(viewer, pipeline.project_id)
    if spec.idempotency_key is not None:
        started = await _find_started(session, pipeline.project_id, spec)
        if started is not None:
            return started
    await families.require_parent(session, viewer, pipeline.project_id, spec.parent_id)
    plan = await plans.make(session, viewer, pipeline, spec)
    if plan.problems:
        raise errors.Invalid(problems=plan.problems)
    run_id, at = ids.new(), columns.now()
    head = await feeds.create(session, feeds.Kind.RUN, run_id, pipeline.project_id)
    run = {
        "id": run_id,
        "project_id": pipeline.project_id,
        "feed_id": head.id,
        "pipeline_id": pipeline.id,
        "revision_id": plan.revision_id,
        "name": spec.name or pipeline.name,
        "state": RunState.QUEUED,
        "priority": spec.priority,
        "fail_fast": spec.fail_fast,
        "idempotency_key": spec.idempotency_key,
        "request_sha256": spec.sha256(),
        "overrides": [[step, dict(given)] for step, given in spec.arguments],
        "parent_id": spec.parent_id,
        "created_by": viewer.user_id,
        "created_at": at,
    }
    await session.execute(_INSERT_RUN, run)
    head.emit(feeds.Subject.RUN, run_id, at, state=RunState.QUEUED)
    if spec.tags:
        owner = {"run_id": run_id, "project_id": pipeline.project_id}
        tags = [{**owner, "name": name, "value": value} for name, value in spec.tags]
        await session.execute(_INSERT_TAGS, tags)
    if plan.files:
        rows = [{"run_id": run_id, "position": i, "file_id": file.id} for i, file in enumerate(plan.files)]
        await session.execute(_INSERT_FILES, rows)
    await dataset_uses.record(session, run_id, plan.datasets)
    common = {
        "run_id": run_id,
        "project_id": pipeline.project_id,
        "feed_id": head.id,
        "pipeline_id": pipeline.id,
        "priority": spec.priority,
    }
    await session.execute(_INSERT_JOBS, [{**common, **job} for job in plan.jobs])
    steps = ((job["step"], job["arguments"]) for job in plan.jobs)
    await arguments.record(session, pipeline.project_id, run_id, steps)
    members = [_member(job) for job in plan.jobs]
    for member in members:
        jobs.emit(head, member, member.state, at)
    await runs.settle(session, head, run_id, members, at, RunState.QUEUED, spec.fail_fast, False)
    return run_id


def _member(job: Mapping[str, Any]) -> jobs.Member:
    return jobs.Member(job["id"], job["position"], job["step"], JobState.WAITING, job["needs"], job["awaits"])


async def _find_started(session: Transaction, project_id: bytes, spec: StartSpec) -> bytes | None:
    if not 1 <= len(spec.idempotency_key or "") <= 200 or manifests.text_refusal(spec.idempotency_key):
        raise errors.Invalid("an idempotency key has 1 to 200 characters", path=("idempotencyKey",))
    if session.postgresql:
        # Two first requests under one key at once: the second waits for the first's commit.
        lock = func.pg_advisory_xact_lock(func.hashtextextended(spec.idempotency_key, 0))
        await session.execute(select(lock))
    keyed = (Run.project_id == project_id) & (Run.idempotency_key == spec.idempotency_key)
    row = (await session.execute(select(Run.id, Run.request_sha256).where(keyed))).first()
    if row is None:
        return None
    if row.request_sha256 != spec.sha256():
        message = "this key has started another run, from another input"
        raise errors.Conflict(message, path=("idempotencyKey",))
    found: bytes = row.id
    return found
