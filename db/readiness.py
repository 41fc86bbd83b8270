"""Readiness: what becomes of jobs whose turn has come, decided once, in the transaction in which it comes.

First the condition, from what earlier jobs reported; then the inputs, which are recorded; then whether another
job has done the same before. settling.py makes the moves.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, literal, select

from db import (
    conditions,
    contracts,
    dataset_uses,
    expansions,
    manifests,
    reported,
    reuse,
    selections,
    verdicts,
)
from db.columns import Base
from db.conditions import Condition, Headline
from db.database import Session, Transaction
from db.files import File
from db.jobs import Direction, Job, JobFile, Member
from db.modules import Function, ModuleVersion
from db.selections import Bound, Candidate, Chosen
from db.source_uses import RunSource
from db.states import EndReason, JobState
from db.verdicts import Facts


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a job: QUEUED, SKIPPED by its condition, FAILED by its inputs, or SUCCEEDED by a source."""

    state: JobState
    project_id: bytes
    reason: EndReason | None = None
    message: str | None = None
    key: bytes | None = None
    source: reuse.Source | None = None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A job whose turn has come, decoded."""

    row: Any
    inputs: tuple[Bound, ...]
    condition: Condition | None


@dataclass(frozen=True, slots=True)
class Known:
    """A function of ready jobs: its declaration, and the state of its module."""

    spec: manifests.Function
    digest: str


# Statements of hot paths are built once: building one costs as much as running it.
_READY = select(
    Job.id,
    Job.position,
    Job.project_id,
    Job.function_id,
    Job.arguments,
    Job.needs,
    Job.inputs,
    Job.condition,
    Job.cache,
    Job.workers,
    Job.gpus,
    select(literal(1)).where(RunSource.run_id == Job.run_id).limit(1).scalar_subquery().label("has_sources"),
).where(Job.id.in_(bindparam("jobs", expanding=True)))
_FUNCTIONS = (
    select(Function.id, Function.spec, ModuleVersion.digest)
    .join(ModuleVersion, ModuleVersion.id == Function.version_id)
    .where(Function.id.in_(bindparam("ids", expanding=True)))
)
_MADE = (
    select(File.id, File.name, File.sha256, File.tags, Job.step, Job.position)
    .join(JobFile, JobFile.file_id == File.id)
    .join(Job, Job.id == JobFile.job_id)
    .where(JobFile.job_id.in_(bindparam("jobs", expanding=True)), JobFile.direction == Direction.OUTPUT)
    .order_by(Job.position, JobFile.position)
)
_INSERT_FILES = insert(JobFile.__table__)  # type: ignore[arg-type]


async def decide(
    session: Transaction,
    run_id: bytes,
    ready: Sequence[bytes],
    by_position: Mapping[int, Job | Member],
    state: Mapping[int, JobState],
) -> dict[int, Fate]:
    """What becomes of these jobs of a run, by position; the inputs of those that run are recorded."""
    rows = [_decoded(row) for row in (await session.execute(_READY, {"jobs": list(ready)})).all()]
    made = await _made(session, rows, by_position, state)
    fates = await _skipped(session, run_id, rows, by_position, state, made)
    left = [job for job in rows if job.row.position not in fates]
    own = await _own(session, run_id, left)
    functions = await functions_of(session, {job.row.function_id for job in left} - {None})
    labels = {position: job.step for position, job in by_position.items()}
    parts = await _parts(session, run_id) if own else {}
    listed: list[dict[str, Any]] = []
    for job in left:
        chosen, empty = selections.choose(job.inputs, own, made)
        listed += _listed(job.row.id, chosen)
        known = functions.get(job.row.function_id)
        missing = [selections.words(one, labels) for one in empty if _has_succeeded(one, state)]
        if known and (message := refusal(known.spec, job.row.arguments, chosen, missing)):
            fates[job.row.position] = Fate(JobState.FAILED, job.row.project_id, EndReason.BAD_INPUT, message)
        else:
            fates[job.row.position] = await _run(session, job, known, chosen, parts)
    if listed:
        await session.execute(_INSERT_FILES, listed)
    return fates


def _decoded(row: Any) -> _Ready:
    inputs = None if row.inputs is None else [Bound.decode(document) for document in row.inputs]
    condition = None if row.condition is None else conditions.decode(row.condition)
    return _Ready(row, expansions.selections_of(row.needs, inputs), condition)


async def _made(
    session: Session,
    rows: Sequence[_Ready],
    by_position: Mapping[int, Job | Member],
    state: Mapping[int, JobState],
) -> dict[int, list[Candidate]]:
    """What the jobs that these select from, or whose tags they ask for, handed on, by position."""
    wanted = {position for job in rows for bound in job.inputs for position in bound.jobs or ()}
    for job in rows:
        if job.condition is not None:
            asked = [leaf for _, leaf in conditions.leaves(job.condition) if leaf.kind == "tag"]
            wanted |= {position for leaf in asked for position in leaf.positions}
    jobs = [by_position[p].id for p in wanted if state[p] is JobState.SUCCEEDED]
    found: dict[int, list[Candidate]] = {}
    for row in (await session.execute(_MADE, {"jobs": jobs})).all() if jobs else ():
        candidate = Candidate(row.id, row.name, row.sha256, row.tags, row.step)
        found.setdefault(row.position, []).append(candidate)
    return found


async def _skipped(
    session: Session,
    run_id: bytes,
    rows: Sequence[_Ready],
    by_position: Mapping[int, Job | Member],
    state: Mapping[int, JobState],
    made: Mapping[int, Sequence[Candidate]],
) -> dict[int, Fate]:
    """The fates of jobs whose condition does not hold."""
    asking = [job for job in rows if job.condition is not None]
    if not asking:
        return {}
    leaves = [leaf for job in asking if job.condition for _, leaf in conditions.leaves(job.condition)]
    names = {leaf.name for leaf in leaves if leaf.kind == "metric"}
    measured = {by_position[p].id for leaf in leaves if leaf.kind == "metric" for p in leaf.positions}
    metrics: dict[bytes, dict[str, dict[Headline, float | None]]] = {}
    for (job_id, name), value in (await reported.of_jobs(session, [run_id], measured, names)).items():
        by_kind = {Headline.LAST: value.last, Headline.MIN: value.minimum, Headline.MAX: value.maximum}
        metrics.setdefault(job_id, {})[name] = by_kind
    facts = {
        position: Facts(
            by_position[position].step,
            state[position],
            metrics.get(by_position[position].id, {}),
            [file.tags for file in made.get(position, ())],
        )
        for leaf in leaves
        for position in leaf.positions
    }
    found: dict[int, Fate] = {}
    for job in asking:
        assert job.condition is not None
        verdict = verdicts.decide(job.condition, facts)
        if not verdict.holds:
            fate = Fate(JobState.SKIPPED, job.row.project_id, message=verdict.message)
            found[job.row.position] = fate
    return found


async def _own(session: Session, run_id: bytes, rows: Sequence[_Ready]) -> list[Candidate]:
    """The run's own files, where any of these jobs reads them."""
    if not any(bound.jobs is None for job in rows for bound in job.inputs):
        return []
    found = (await session.execute(_run_files(), {"run": run_id})).all()
    return [Candidate(row.id, row.name, row.sha256 or "", row.tags) for row in found]


async def _parts(session: Session, run_id: bytes) -> dict[bytes, list[str]]:
    """The datasets and their parts that the run's files belong to, which a job is shown, by file."""
    found: dict[bytes, list[str]] = {}
    for row in (await dataset_uses.placed(session, [run_id])).get(run_id, ()):
        found.setdefault(row.file_id, []).append(f"{row.name}/{row.part}")
    return found


@functools.cache
def _run_files() -> Any:
    """Made when it is first asked for: runs.py, whose table this is, is above this file."""
    run_files = Base.metadata.tables["run_files"]
    return (
        select(File.id, File.name, File.sha256, File.tags)
        .join(run_files, run_files.c.file_id == File.id)
        .where(run_files.c.run_id == bindparam("run"))
        .order_by(run_files.c.position)
    )


async def functions_of(session: Session, keys: Collection[bytes]) -> dict[bytes | None, Known]:
    """The functions of these ids as jobs know them."""
    if not keys:
        return {}
    rows = (await session.execute(_FUNCTIONS, {"ids": list(keys)})).all()
    return {row.id: Known(manifests.decode_function(row.spec), row.digest or "") for row in rows}


def _has_succeeded(bound: Bound, state: Mapping[int, JobState]) -> bool:
    """Whether a selection could have found anything: what did not succeed hands on nothing."""
    return bound.jobs is None or any(state[position] is JobState.SUCCEEDED for position in bound.jobs)


def refusal(
    spec: manifests.Function, arguments: Mapping[str, Any], chosen: Sequence[Chosen], missing: Sequence[str]
) -> str | None:
    """Why a job's inputs cannot be right, in words."""
    problems = contracts.check_inputs(spec, arguments, [one.contract for one in chosen])
    said = [f"{'.'.join(map(str, problem.path))}: {problem.message}" for problem in problems]
    if missing and selections.requires_files(spec):
        said = [f"inputs: {message}, and {spec.name} takes files" for message in missing] + said
    return "; ".join(said) or None


def _listed(job_id: bytes, chosen: Sequence[Chosen]) -> list[dict[str, Any]]:
    return [
        {
            "job_id": job_id,
            "direction": Direction.INPUT,
            "position": position,
            "file_id": one.file.file_id,
            "name": one.name if one.name != one.file.name else None,
        }
        for position, one in enumerate(chosen)
    ]


async def _run(
    session: Transaction,
    job: _Ready,
    known: Known | None,
    chosen: Sequence[Chosen],
    parts: Mapping[bytes, Sequence[str]],
) -> Fate:
    """Queued, unless what it would do has been done and its step wants that."""
    row = job.row
    if known is None or row.has_sources:
        return Fate(JobState.QUEUED, row.project_id)
    key = reuse.key_of(known.digest, known.spec.name, row.arguments, chosen, parts, row.workers, row.gpus)
    source = await reuse.find(session, row.project_id, key) if row.cache else None
    if source is None:
        return Fate(JobState.QUEUED, row.project_id, key=key)
    return Fate(JobState.SUCCEEDED, row.project_id, EndReason.COMPLETED, None, key, source)
