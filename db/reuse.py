"""Reuse: a job that would do what another has done takes its outputs instead of being launched.

What a job does is told by `key_of`: its function in that state of its module, its arguments, its workers and
GPUs, and its input files by name, content, tags and part of a dataset, all that it is shown but for its own ids.
A run that was given data sources has no keys: nobody knows what lay there. The outputs become its own as the
same files, without a copy, and so do the headline values. The files are locked against being deleted
meanwhile; a job whose files have gone is no source.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import LargeBinary, bindparam, column, exists, insert, select, text, values

from db import columns, reported
from db.columns import Base
from db.database import Session, Transaction
from db.files import File
from db.headlines import RunMetric
from db.jobs import Direction, Job, JobFile
from db.reported import Reported
from db.selections import Chosen

_LOOKED_AT = 10
"""The latest jobs of a key; who has deleted so many of equal runs has it done anew."""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Source:
    """A job to take outputs from. `origin` was launched; it is the source, or what that took its own from."""

    id: bytes
    origin: bytes
    exit_code: int | None
    output: Any
    files: tuple[bytes, ...]
    metrics: Mapping[str, Sequence[Any]]


def key_of(
    digest: str,
    function: str,
    arguments: Mapping[str, Any],
    files: Sequence[Chosen],
    parts: Mapping[bytes, Sequence[str]],
    workers: int,
    gpus: int,
) -> bytes:
    """What tells jobs that do the same, as a digest; `parts` are those of datasets that files belong to."""
    given = [
        [one.name, one.file.sha256, sorted(one.file.tags.items()), sorted(parts.get(one.file.file_id, ()))]
        for one in files
    ]
    content = json.dumps([digest, function, sorted(arguments.items()), given, workers, gpus])
    return hashlib.sha256(content.encode()).digest()


# Statements of hot paths are built once: building one costs as much as running it.
_JOBS = (
    select(Job.id, Job.run_id, Job.exit_code, Job.output, Job.reused_from, Job.headlines)
    .where(
        Job.project_id == bindparam("project"),
        Job.reuse_key == bindparam("key"),
        text("jobs.state = 'SUCCEEDED'"),  # as the partial index has it
    )
    .order_by(Job.id.desc())
    .limit(_LOOKED_AT)
)
_EXISTS = select(Job.id).where(Job.id == bindparam("job"))
_LISTED = (
    select(JobFile.file_id)
    .where(JobFile.job_id == bindparam("job"), JobFile.direction == Direction.OUTPUT)
    .order_by(JobFile.position)
)
_LOCKED = (
    select(File.id)
    .where(File.id.in_(bindparam("files", expanding=True)))
    .with_for_update(read=True, key_share=True)
)


async def find(session: Transaction, project_id: bytes, key: bytes) -> Source | None:
    """The latest job of the project that succeeded in doing this and whose outputs are all there."""
    for row in (await session.execute(_JOBS, {"project": project_id, "key": key})).all():
        files = tuple((await session.execute(_LISTED, {"job": row.id})).scalars())
        kept = set((await session.execute(_LOCKED, {"files": list(files)})).scalars()) if files else set()
        # Asked last: what is not marked as deleted now had lost nothing when it was read.
        if kept.issuperset(files) and await _is_kept(session, row.run_id):
            return await _source(session, row, files)
    return None


async def foresee(session: Session, project_id: bytes, keys: Collection[bytes]) -> dict[bytes, bytes]:
    """The job that `find` would take for each of these keys now, for those that have one. Nothing is locked."""
    found: dict[bytes, bytes] = {}
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), _AT_ONCE):
        wanted = values(column("key", LargeBinary), name="wanted").data(
            [(key,) for key in ordered[start : start + _AT_ONCE]]
        )
        rows = wanted.cte("wanted_keys")
        latest = _latest(rows.c.key, project_id)
        answer = await session.execute(select(rows.c.key, latest.label("job_id")))
        found |= {bytes(row.key): row.job_id for row in answer.all() if row.job_id is not None}
    return found


def _latest(key: Any, project_id: bytes) -> Any:
    """The latest job of a key whose run is there, and its outputs with it, as a scalar subquery."""
    runs = Base.metadata.tables["runs"]
    kept = exists().where(runs.c.id == Job.run_id, runs.c.deleted_at.is_(None))
    return (
        select(Job.id)
        .where(
            Job.project_id == project_id,
            Job.reuse_key == key,
            text("jobs.state = 'SUCCEEDED'"),  # as the partial index has it
            kept,
        )
        .order_by(Job.id.desc())
        .limit(1)
        .scalar_subquery()
    )


async def _is_kept(session: Transaction, run_id: bytes) -> bool:
    runs = Base.metadata.tables["runs"]
    kept = select(runs.c.id).where(runs.c.id == run_id, runs.c.deleted_at.is_(None))
    return await session.scalar(kept) is not None


async def _source(session: Transaction, row: Any, files: tuple[bytes, ...]) -> Source:
    origin = row.reused_from
    if origin is None or await session.scalar(_EXISTS, {"job": origin}) is None:
        origin = row.id
    metrics = row.headlines
    if metrics is None:
        found = await reported.of_jobs(session, [row.run_id], [row.id])
        metrics = {name: value.encode() for (_, name), value in found.items()}
    return Source(row.id, origin, row.exit_code, row.output, files, metrics)


async def take(session: Transaction, job_id: bytes, run_id: bytes, project_id: bytes, source: Source) -> None:
    """Make a source's outputs and headline values a job's own; the caller moves it to SUCCEEDED."""
    if source.files:
        listed = [
            {"job_id": job_id, "direction": Direction.OUTPUT, "position": position, "file_id": file_id}
            for position, file_id in enumerate(source.files)
        ]
        await session.execute(insert(JobFile), listed)
    if source.metrics:
        rows = [
            {
                "run_id": run_id,
                "name": name,
                "project_id": project_id,
                "job_id": job_id,
                "attempt": 0,
                **Reported(*values).columns(),
            }
            for name, values in source.metrics.items()
        ]
        upsert = columns.upsert(session.postgresql, RunMetric, ("run_id", "name"))
        await session.execute(upsert, rows)
