"""Running again what has run: exactly as it was (`retry`), or with changes (`rerun`).

A retry is a new run with everything frozen as in the old one: function versions, arguments, limits, files. From
the failure on, jobs that SUCCEEDED stand with their outputs and say whence (`reused_from`). A rerun starts anew
from what the old run was asked for, with the functions and defaults of today. Terminal is final: neither
changes the old run.
"""

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from db import (
    columns,
    dataset_uses,
    errors,
    ids,
    jobs,
    policies,
    reported,
    reuse,
    runs,
    source_uses,
    starts,
    viewers,
)
from db.backends import Backend
from db.database import Session, Transaction
from db.files import File, FileState
from db.jobs import Direction, Job, JobFile
from db.plans import StartSpec
from db.policies import Rule
from db.requests import DatasetUse
from db.resources import StepResources
from db.reuse import Source
from db.runs import Run
from db.states import TERMINAL_RUN, EndReason, JobState, RunState
from db.viewers import Viewer


class From(enum.Enum):
    """Where a retry begins."""

    START = "START"
    FAILURE = "FAILURE"


class Revised(enum.Enum):
    """Which revision of the pipeline a rerun executes."""

    ORIGINAL = "ORIGINAL"
    LATEST = "LATEST"


@dataclass(frozen=True, slots=True)
class RerunSpec:
    """What to take from a run and what to change; None is as it was there.

    `arguments` are added to those the run was given, or take their place with `only_these`; `resources` take the
    place of what the run was given for the same steps. Without `cache` no job takes its outputs from another.
    """

    run_id: bytes
    backend: str | None = None
    revision: Revised = Revised.ORIGINAL
    idempotency_key: str | None = None
    name: str | None = None
    priority: int | None = None
    arguments: Sequence[tuple[str, Mapping[str, Any]]] = ()
    only_these: bool = False
    files: Sequence[bytes] | None = None
    datasets: Sequence[DatasetUse] | None = None
    sources: Sequence[bytes] | None = None
    resources: Sequence[StepResources] = ()
    retry: Sequence[Rule] | None = None
    tags: Sequence[tuple[str, str]] | None = None
    fail_fast: bool | None = None
    cache: bool = True

    def sha256(self) -> bytes:
        """The digest that tells a repeated request from another one under the same key."""
        return starts.digest(
            "rerun",
            self.run_id.hex(),
            self.backend,
            self.revision.value,
            self.name,
            self.priority,
            sorted(json.dumps([step, dict(given)], sort_keys=True) for step, given in self.arguments),
            self.only_these,
            self.files and [file.hex() for file in self.files],
            None if self.datasets is None else [use.document() for use in self.datasets],
            self.tags and sorted(self.tags),
            self.fail_fast,
            *self._added(),
        )

    def _added(self) -> list[Any]:
        """What a rerun could not say once: not in the digest when not said, so that keys from then still match."""
        said = {
            "sources": None if self.sources is None else [source.hex() for source in self.sources],
            "resources": [each.document() for each in self.resources] or None,
            "retry": None if self.retry is None else policies.documents(self.retry),
            "cache": None if self.cache else False,
        }
        return [[name, value] for name, value in said.items() if value is not None]


_BACKEND_OF = (
    select(Backend.name)
    .join(Job, Job.backend_id == Backend.id)
    .where(Job.run_id == bindparam("run"))
    .limit(1)
)
_LIFE = {"id", "run_id", "feed_id", "state", "attempts", "not_before", "suspended", "reason", "message"} | {
    "exit_code",
    "output",
    "reuse_key",
    "reused_from",
    "headlines",
    "queued_at",
    "started_at",
    "ended_at",
}
"""What happens to a job; the rest of its row is frozen at the start."""
_FROZEN = tuple(column.name for column in Job.__table__.columns if column.name not in _LIFE)

_LISTED = tuple(column.name for column in JobFile.__table__.columns)


async def retry(
    session: Transaction, viewer: Viewer, run_id: bytes, begin: From, *, idempotency_key: str | None = None
) -> bytes:
    """Run an ended run again as it was; returns the new run. Raises NotFound, Invalid or Conflict."""
    old = await _get(session, viewer, run_id, "retried")
    sha256 = starts.digest("retry", run_id.hex(), begin.value)
    if idempotency_key is not None:
        started = await starts.find_started(session, old.project_id, idempotency_key, sha256)
        if started is not None:
            return started
    if old.state not in TERMINAL_RUN:
        raise errors.Conflict(
            f"the run is {old.state.value}: only one that has ended is retried", path=("id",)
        )
    members = await jobs.of_run(session, run_id)
    kept = await _standing(session, members, old.fail_fast) if begin is From.FAILURE else frozenset()
    if old.state is RunState.SUCCEEDED and begin is From.FAILURE and len(kept) == _succeeded(members):
        raise errors.Invalid("nothing of this run failed: retry it from START", path=("from",))
    taken = (
        "project_id",
        "pipeline_id",
        "revision_id",
        "name",
        "priority",
        "fail_fast",
        "overrides",
        "resources",
        "retry",
    )
    run = {
        **{name: getattr(old, name) for name in (*taken, "parent_id")},
        "idempotency_key": idempotency_key,
        "request_sha256": sha256,
        "retry_of": run_id,
        "created_by": viewer.user_id,
    }
    files = await runs.files_of(session, [run_id])
    tags = [(tag.name, tag.value) for tag in await runs.tags_of(session, [run_id])]
    rows = [_again(job, job.id in kept) for job in members]
    if begin is From.START:  # what is to run anew takes nothing from the run that is retried
        rows = [{**row, "cache": False} for row in rows]
    head, new_id = await starts.insert_run(session, run, rows, tags=tags, files=[file.id for file in files])
    await dataset_uses.copy(session, run_id, new_id)
    await source_uses.copy(session, run_id, new_id)
    await _stand_in(
        session, new_id, {row["id"]: job for job, row in zip(members, rows, strict=True) if job.id in kept}
    )
    await starts.begin(session, head, new_id, rows, old.fail_fast)
    return new_id


async def rerun(session: Transaction, viewer: Viewer, asked: RerunSpec) -> bytes:
    """Start a run from what another was asked for, with changes; returns the new run.

    Raises NotFound, Conflict, or Invalid with every mistake, as a start does.
    """
    old = await _get(session, viewer, asked.run_id, "run again")
    assert old.pipeline_id is not None
    arguments: dict[str, dict[str, Any]] = {}
    before = () if asked.only_these else [(step, given) for step, given in old.overrides or ()]
    # Those asked for come first, so that a mistake in them is told under their own index.
    for step, given in (*asked.arguments, *before):
        arguments[step] = {**given, **arguments.get(step, {})}
    files, datasets = asked.files, asked.datasets
    if files is None:
        files = [file.id for file in await runs.files_of(session, [old.id])]
    if datasets is None:
        given_to = await dataset_uses.of_runs(session, [old.id])
        datasets = [DatasetUse(version_id=row.version_id, parts=tuple(row.parts)) for row in given_to]
    sources = asked.sources
    if sources is None:
        sources = [row.source_id for row in await source_uses.of_runs(session, [old.id])]
    said = {each.step for each in asked.resources}
    before_them = (StepResources(**each) for each in old.resources or ())
    tags = asked.tags
    if tags is None:
        tags = [(tag.name, tag.value) for tag in await runs.tags_of(session, [old.id])]
    spec = StartSpec(
        pipeline_id=old.pipeline_id,
        backend=await _backend_of(session, old.id) if asked.backend is None else asked.backend,
        idempotency_key=asked.idempotency_key,
        name=old.name if asked.name is None else asked.name,
        priority=old.priority if asked.priority is None else asked.priority,
        arguments=list(arguments.items()),
        files=files,
        datasets=datasets,
        sources=sources,
        tags=tags,
        fail_fast=old.fail_fast if asked.fail_fast is None else asked.fail_fast,
        revision_id=old.revision_id if asked.revision is Revised.ORIGINAL else None,
        based_on=old.id,
        # Those asked for first, for the same reason.
        retry=policies.rules_of(old.retry or ()) if asked.retry is None else asked.retry,
        resources=[*asked.resources, *(each for each in before_them if each.step not in said)],
        cache=asked.cache,
        digest=asked.sha256(),
    )
    return await starts.start(session, viewer, spec)


async def _get(session: Session, viewer: Viewer, run_id: bytes, done: str) -> Run:
    run = await runs.get(session, viewer, run_id)
    viewers.require_writer(viewer, run.project_id)
    if run.external:
        raise errors.Invalid(f"the run is external: it cannot be {done} from here", path=("id",))
    return run


async def _standing(session: Session, members: Sequence[Job], fail_fast: bool) -> frozenset[bytes]:
    """The jobs that succeeded, whose outputs are there, and for which all they need and await comes out the same.

    So does what its condition skipped, for what that was decided from stands; what a first failure skipped does not.
    """
    stopped = fail_fast and any(job.state is JobState.FAILED for job in members)
    succeeded = [job for job in members if job.state is JobState.SUCCEEDED]
    unusable = select(JobFile.job_id).join(File, File.id == JobFile.file_id)
    unusable = unusable.where(
        JobFile.job_id.in_([job.id for job in succeeded]),
        JobFile.direction == Direction.OUTPUT,
        File.state != FileState.READY,
    )
    lost = {row.job_id for row in (await session.execute(unusable)).all()}
    kept: set[bytes] = set()
    lasting: set[int] = set()
    for job in members:  # in order: needs point backwards
        if lasting >= {*job.needs, *(job.awaits or ())} and job.id not in lost:
            if job.state is JobState.SUCCEEDED:
                kept.add(job.id)
            if job.state is JobState.SUCCEEDED or (job.state is JobState.SKIPPED and not stopped):
                lasting.add(job.position)
    return frozenset(kept)


def _again(job: Job, kept: bool) -> dict[str, Any]:
    """The row of a job that is as this one was before its life, or as it ended where it is kept."""
    row: dict[str, Any] = {name: getattr(job, name) for name in _FROZEN}
    row |= {"id": ids.new(), "state": JobState.WAITING, "output": None, "exit_code": None, "reason": None}
    row |= {"reused_from": None, "reuse_key": None, "headlines": None, "ended_at": None}
    if kept:
        row |= {
            "state": JobState.SUCCEEDED,
            "output": job.output,
            "exit_code": job.exit_code,
            "reason": EndReason.COMPLETED,
            "reused_from": job.reused_from or job.id,
            "reuse_key": job.reuse_key,
            "ended_at": columns.now(),
        }
    return row


async def _stand_in(session: Transaction, run_id: bytes, kept: Mapping[bytes, Job]) -> None:
    """Let kept jobs read, hand on and have reported what those did which they stand for."""
    if not kept:
        return
    files = await session.all(
        JobFile, select(JobFile).where(JobFile.job_id.in_([j.id for j in kept.values()]))
    )
    reports = await reported.of_jobs(
        session, [next(iter(kept.values())).run_id], [j.id for j in kept.values()]
    )
    for new_id, job in kept.items():
        own = sorted((row for row in files if row.job_id == job.id), key=lambda row: row.position)
        inputs = [
            {**{name: getattr(row, name) for name in _LISTED}, "job_id": new_id}
            for row in own
            if row.direction is Direction.INPUT
        ]
        if inputs:
            await session.execute(insert(JobFile), inputs)
        outputs = tuple(row.file_id for row in own if row.direction is Direction.OUTPUT)
        metrics = {name: value.encode() for (owner, name), value in reports.items() if owner == job.id}
        source = Source(job.id, job.reused_from or job.id, job.exit_code, job.output, outputs, metrics)
        await reuse.take(session, new_id, run_id, job.project_id, source)
        await session.execute(update(Job).where(Job.id == new_id).values(headlines=metrics))


def _succeeded(members: Sequence[Job]) -> int:
    return sum(job.state is JobState.SUCCEEDED for job in members)


async def _backend_of(session: Session, run_id: bytes) -> str:
    name: str | None = await session.scalar(_BACKEND_OF, {"run": run_id})
    return name or ""
