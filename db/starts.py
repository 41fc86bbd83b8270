"""Starting a run: everything is checked, frozen and inserted in one transaction, or nothing is.

Function versions, arguments with their defaults, resources and limits are decided here and never again:
what a module or pipeline becomes later changes no run that has been started.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, insert, select

from db import columns, errors, feeds, ids, jobs, manifests, modules, pipelines, runs, viewers
from db.backends import Backend
from db.database import Session, Transaction
from db.errors import Problem
from db.files import File, FileState
from db.runs import Run, RunFile, RunTag
from db.states import JobState, RunState
from db.viewers import Viewer

MOST_TAGS = 100
PRIORITIES = range(-1000, 1001)


@dataclass(frozen=True, slots=True)
class StartSpec:
    """What a user asks for. `arguments` overrides per step name what the pipeline says."""

    pipeline_id: bytes
    backend: str
    idempotency_key: str | None = None
    name: str | None = None
    priority: int = 0
    arguments: Sequence[tuple[str, Mapping[str, Any]]] = ()
    files: Sequence[bytes] = ()
    tags: Sequence[tuple[str, str]] = ()
    fail_fast: bool = False

    def sha256(self) -> bytes:
        """The digest that tells a repeated request from another one under the same key.

        Of anything that JSON can say, as it is taken before anything is checked.
        """
        content = [
            self.pipeline_id.hex(),
            self.backend,
            self.name,
            self.priority,
            sorted(json.dumps([step, dict(given)], sort_keys=True) for step, given in self.arguments),
            [file.hex() for file in self.files],
            sorted(self.tags),
            self.fail_fast,
        ]
        return hashlib.sha256(json.dumps(content).encode()).digest()


# Statements of hot paths are built once: building one costs as much as running it.
_BACKEND = select(Backend.id).where(Backend.name == bindparam("backend"))
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
    plan = await _plan(session, viewer, pipeline, spec)
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
        "created_by": viewer.user_id,
        "created_at": at,
    }
    await session.execute(_INSERT_RUN, run)
    head.emit(feeds.Subject.RUN, run_id, at, state=RunState.QUEUED)
    if spec.tags:
        tags = [{"run_id": run_id, "name": name, "value": value} for name, value in spec.tags]
        await session.execute(_INSERT_TAGS, tags)
    if plan.files:
        rows = [{"run_id": run_id, "position": i, "file_id": file.id} for i, file in enumerate(plan.files)]
        await session.execute(_INSERT_FILES, rows)
    common = {
        "run_id": run_id,
        "project_id": pipeline.project_id,
        "feed_id": head.id,
        "priority": spec.priority,
    }
    await session.execute(_INSERT_JOBS, [{**common, **job} for job in plan.jobs])
    inserted = await jobs.of_run(session, run_id)
    for job in inserted:
        jobs.emit(head, job, job.state, at)
    await runs.settle(session, head, run_id, inserted, at, RunState.QUEUED, spec.fail_fast, False, plan.files)
    return run_id


@dataclass(frozen=True, slots=True)
class _Plan:
    revision_id: bytes
    jobs: list[dict[str, Any]]
    files: list[File]


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


async def _plan(session: Transaction, viewer: Viewer, pipeline: pipelines.Pipeline, spec: StartSpec) -> _Plan:
    revision = (await pipelines.latest_revisions(session, [pipeline.id]))[0]
    steps = await pipelines.steps_of(session, [revision.id])
    problems = _spec_problems(spec, [step.name for step in steps])
    files, missing = await _files(session, viewer, pipeline.project_id, spec.files)
    problems += missing
    names = {step.address.partition("/")[0] for step in steps}
    functions = await modules.addressed(session, pipeline.project_id, names)
    backend: bytes | None = await session.scalar(_BACKEND, {"backend": spec.backend})
    if backend is None:
        problems.append(Problem(("backend",), f"there is no backend named {ids.shorten(spec.backend)!r}"))
    overrides = {step: (index, given) for index, (step, given) in enumerate(spec.arguments)}
    planned: list[dict[str, Any]] = []
    for step in steps:
        job, wrong = _job(step, functions, *overrides.get(step.name, (None, {})))
        problems += wrong
        planned.append({**job, "backend_id": backend})
    if problems:
        raise errors.Invalid(problems=problems)
    return _Plan(revision.id, planned, files)


def _job(
    step: pipelines.Step, functions: Mapping[str, Any], index: int | None, given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    """The row of a step's job, or what is wrong with it."""
    function = functions.get(step.address)
    if function is None:
        message = f"{step.name}: {pipelines.unknown_function(step.address, functions)}"
        return {}, [Problem(("pipeline",), message)]
    spec = manifests.decode_function(function.spec)
    resolved = manifests.resolve(spec, {**step.arguments, **given})
    at = ("arguments", "" if index is None else str(index), "arguments")
    problems = [
        Problem((*(part for part in at if part), *map(str, p.path)), f"{step.name}: {p.path[0]} {p.message}")
        for p in resolved.problems
    ]
    job = {
        "id": ids.new(),
        "position": step.position,
        "step": step.name,
        "function_id": function.id,
        "version_id": function.version_id,
        "arguments": resolved.arguments,
        "needs": step.needs,
        "workers": spec.workers,
        "cpus": spec.resources.cpus,
        "memory_bytes": spec.resources.memory_bytes,
        "gpus": spec.resources.gpus,
        "timeout_seconds": spec.timeout_seconds,
        "retries": spec.retries,
        "state": JobState.WAITING,
    }
    return job, problems


def _spec_problems(spec: StartSpec, steps: Sequence[str]) -> list[Problem]:
    problems: list[Problem] = []
    for index, (step, _) in enumerate(spec.arguments):
        if step not in steps:
            close = manifests.suggestion(step, steps)
            problems.append(
                Problem(("arguments", str(index), "step"), f"no step is named {ids.shorten(step)!r}{close}")
            )
    if len({step for step, _ in spec.arguments}) < len(spec.arguments):
        problems.append(Problem(("arguments",), "a step is named twice"))
    if spec.priority not in PRIORITIES:
        problems.append(Problem(("priority",), f"a priority is {PRIORITIES[0]} to {PRIORITIES[-1]}"))
    if len(spec.tags) > MOST_TAGS:
        problems.append(Problem(("tags",), f"a run has at most {MOST_TAGS} tags"))
    if len({name for name, _ in spec.tags}) < len(spec.tags):
        problems.append(Problem(("tags",), "a tag is named twice"))
    for index, (name, value) in enumerate(spec.tags):
        if not 1 <= len(name) <= 100 or len(value) > 500 or "\0" in name + value:
            rule = "a tag has a name of 1 to 100 and a value of up to 500 characters"
            problems.append(Problem(("tags", str(index)), rule))
    if spec.name is not None and (not 1 <= len(spec.name) <= 200 or "\0" in spec.name):
        problems.append(Problem(("name",), "a name has 1 to 200 characters"))
    return problems


async def _files(
    session: Session, viewer: Viewer, project_id: bytes, keys: Sequence[bytes]
) -> tuple[list[File], list[Problem]]:
    if not keys:
        return [], []
    rows = await session.all(File, select(File).where(File.id.in_(keys), File.project_id == project_id))
    found = {row.id: row for row in rows}
    problems: list[Problem] = []
    for index, key in enumerate(keys):
        at = ("files", str(index))
        if key not in found:
            problems.append(Problem(at, f"there is no file {ids.encode('file', key)} in this project"))
        elif found[key].state is not FileState.READY:
            problems.append(Problem(at, f"{found[key].name}: its upload is not complete"))
        elif key in keys[:index]:
            problems.append(Problem(at, f"{found[key].name} is given twice"))
    return [found[key] for key in keys if key in found], problems
