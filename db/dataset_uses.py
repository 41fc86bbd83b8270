"""Datasets as inputs of runs: chosen and frozen at the start, recorded for ever.

A run that names a dataset gets its latest version, as of that moment; the files of the chosen parts become
inputs of the run after its own, each once, however many parts it is in. `placed` says afterwards, for
input.json, which of a job's files belong to which part.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ForeignKey, Integer, bindparam, insert, select, update
from sqlalchemy.orm import Mapped, mapped_column

from db import columns, dataset_versions, datasets, errors, ids, paging, texts, viewers
from db.columns import Base, Id, Json
from db.database import Session, Transaction
from db.datasets import Dataset, DatasetFile, DatasetVersion
from db.errors import Problem
from db.files import File
from db.paging import Page, Slice
from db.requests import DatasetUse
from db.states import TERMINAL_RUN
from db.viewers import SUPERVISOR, Viewer

MOST_DATASETS = 20


class RunDataset(Base):
    """A version that a run was given; `parts` are the chosen ones, in the version's order."""

    __tablename__ = "run_datasets"

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    version_id: Mapped[bytes] = mapped_column(Id, ForeignKey("dataset_versions.id"), index=True)
    parts: Mapped[list[str]] = mapped_column(Json)


@dataclass(slots=True)
class Chosen:
    """The versions and parts that were asked for, their files, and what is wrong."""

    versions: list[tuple[bytes, list[str]]] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


async def choose(session: Session, project_id: bytes, uses: Sequence[DatasetUse]) -> Chosen:
    """What a run that asks for these datasets is given; every mistake is named."""
    chosen = Chosen()
    if not uses:
        return chosen
    if len(uses) > MOST_DATASETS:
        rule = f"a run has at most {MOST_DATASETS} datasets"
        chosen.problems.append(Problem(("datasets",), rule))
        return chosen
    versions = await _versions(session, project_id, uses)
    for index, use in enumerate(uses):
        version = versions.get(use)
        if version is None:
            chosen.problems.append(_missing(index, use))
            continue
        parts, wrong = _parts(version, use, index)
        chosen.problems += wrong
        if any(version.id == other for other, _ in chosen.versions):
            message = "this version is given twice; name all its parts once"
            chosen.problems.append(Problem(("datasets", str(index)), message))
            continue
        chosen.versions.append((version.id, parts))
        chosen.files += await _files(session, version.id, parts)
    chosen.files = list({file.id: file for file in chosen.files}.values())
    return chosen


def joined(files: Sequence[File], chosen: Chosen) -> list[File]:
    """A run's own files, then those of its datasets, each file once."""
    return list({file.id: file for file in (*files, *chosen.files)}.values())


async def record(session: Transaction, run_id: bytes, versions: Sequence[tuple[bytes, list[str]]]) -> None:
    """Write down what a run is given; raises Conflict for a dataset that was deleted just now."""
    if not versions:
        return
    keys = [version_id for version_id, _ in versions]
    of_them = select(DatasetVersion.dataset_id).where(DatasetVersion.id.in_(keys))
    # Held until the commit: whoever deletes waits, and then sees this run.
    held = select(Dataset.name, Dataset.deleted_at).where(Dataset.id.in_(of_them)).with_for_update(read=True)
    for row in (await session.execute(held.order_by(Dataset.id))).all():
        if row.deleted_at is not None:
            raise errors.Conflict(f"the dataset {row.name!r} has just been deleted", path=("datasets",))
    await _insert(session, run_id, versions)


async def copy(session: Transaction, from_run: bytes, to_run: bytes) -> None:
    """Give a run that repeats another the very versions the other had, deleted meanwhile or not."""
    rows = await of_runs(session, [from_run])
    await _insert(session, to_run, [(row.version_id, row.parts) for row in rows])


async def of_runs(session: Session, runs: Collection[bytes]) -> list[RunDataset]:
    """What these runs were given, in order."""
    statement = select(RunDataset).where(RunDataset.run_id.in_(runs))
    return await session.all(RunDataset, statement.order_by(RunDataset.run_id, RunDataset.position))


async def runs_of(session: Session, viewer: Viewer, version_id: bytes, page: Page) -> Slice[Any]:
    """The ids (`run_id`) of the runs that were given this version, newest first."""
    runs = Base.metadata.tables["runs"]
    there = viewers.visible(viewer, runs.c.project_id, runs.c.id) & runs.c.deleted_at.is_(None)
    statement = (
        select(RunDataset.run_id)
        .join(runs, runs.c.id == RunDataset.run_id)
        .where(RunDataset.version_id == version_id, there)
    )
    return await paging.fetch(session, RunDataset, statement, RunDataset.run_id, page)


_PLACED = (
    select(
        RunDataset.run_id,
        RunDataset.position,
        RunDataset.parts,
        Dataset.name,
        DatasetVersion.number,
        DatasetFile.part,
        DatasetFile.file_id,
    )
    .join(DatasetVersion, DatasetVersion.id == RunDataset.version_id)
    .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    .join(DatasetFile, DatasetFile.version_id == DatasetVersion.id)
    .where(RunDataset.run_id.in_(bindparam("runs", expanding=True)))
    .order_by(RunDataset.run_id, RunDataset.position, DatasetFile.position)
)


async def placed(session: Session, runs: Collection[bytes]) -> dict[bytes, list[Any]]:
    """Rows (name, number, part, file_id) of what each of these runs was given, in order."""
    found: dict[bytes, list[Any]] = {}
    for row in (await session.execute(_PLACED, {"runs": list(runs)})).all():
        if row.part in row.parts:
            found.setdefault(row.run_id, []).append(row)
    return found


_PARTS = (
    select(DatasetFile.version_id, DatasetFile.part, DatasetFile.file_id, Dataset.name)
    .join(DatasetVersion, DatasetVersion.id == DatasetFile.version_id)
    .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    .where(DatasetFile.version_id.in_(bindparam("versions", expanding=True)))
)


async def parts_of(session: Session, chosen: Sequence[tuple[bytes, Sequence[str]]]) -> dict[bytes, list[str]]:
    """The `dataset/part` that each file of these versions is in, of the parts that were chosen, by file."""
    if not chosen:
        return {}
    wanted = {(version_id, part) for version_id, parts in chosen for part in parts}
    found: dict[bytes, list[str]] = {}
    versions = {"versions": [version_id for version_id, _ in chosen]}
    for row in (await session.execute(_PARTS, versions)).all():
        if (row.version_id, row.part) in wanted:
            found.setdefault(row.file_id, []).append(f"{row.name}/{row.part}")
    return found


async def delete(session: Transaction, viewer: Viewer, dataset_id: bytes) -> None:
    """Take a dataset out of use; raises Conflict while a run that has not ended was given it."""
    runs = Base.metadata.tables["runs"]
    await datasets.lock(session, viewer, dataset_id)
    active = (
        select(runs.c.id)
        .join(RunDataset, RunDataset.run_id == runs.c.id)
        .join(DatasetVersion, DatasetVersion.id == RunDataset.version_id)
        .where(DatasetVersion.dataset_id == dataset_id, runs.c.state.not_in(TERMINAL_RUN))
        .limit(1)
    )
    run_id = await session.scalar(active)
    if run_id is not None:
        raise errors.Conflict(f"{ids.encode('run', run_id)} uses it and has not ended", path=("id",))
    deleted = update(Dataset).where(Dataset.id == dataset_id).values(deleted_at=columns.now())
    await session.execute(deleted)


async def _insert(session: Transaction, run_id: bytes, versions: Sequence[tuple[bytes, list[str]]]) -> None:
    rows = [
        {"run_id": run_id, "position": position, "version_id": version_id, "parts": parts}
        for position, (version_id, parts) in enumerate(versions)
    ]
    if rows:
        await session.execute(insert(RunDataset), rows)


async def _versions(
    session: Session, project_id: bytes, uses: Sequence[DatasetUse]
) -> dict[DatasetUse, DatasetVersion]:
    """The version each use means, for those that mean one of this project that is not deleted."""
    named = {(use.dataset_id, None) for use in uses if use.dataset_id is not None}
    latest = await dataset_versions.find_numbers(session, SUPERVISOR, named) if named else {}
    exact = await dataset_versions.find_versions(
        session, SUPERVISOR, [use.version_id for use in uses if use.version_id is not None]
    )
    by_id = {version.id: version for version in exact}
    meant = {
        use: by_id.get(use.version_id) if use.version_id else latest.get((use.dataset_id or b"", None))
        for use in uses
        if (use.dataset_id is None) is not (use.version_id is None)
    }
    keys = {version.dataset_id for version in meant.values() if version is not None}
    live = select(Dataset.id).where(
        Dataset.id.in_(keys), Dataset.project_id == project_id, Dataset.deleted_at.is_(None)
    )
    usable = set((await session.execute(live)).scalars())
    return {use: version for use, version in meant.items() if version and version.dataset_id in usable}


def _missing(index: int, use: DatasetUse) -> Problem:
    if (use.dataset_id is None) is (use.version_id is None):
        return Problem(("datasets", str(index)), "give either a dataset or a version")
    if use.version_id is not None:
        word = ids.encode("dataset_version", use.version_id)
        return Problem(
            ("datasets", str(index), "version"), f"there is no dataset version {word} in this project"
        )
    word = ids.encode("dataset", use.dataset_id or b"")
    message = f"there is no dataset {word} with a version in this project"
    return Problem(("datasets", str(index), "dataset"), message)


def _parts(version: DatasetVersion, use: DatasetUse, index: int) -> tuple[list[str], list[Problem]]:
    """The chosen parts in the version's order, and those it does not have."""
    has = [part["name"] for part in version.parts]
    wrong = [
        Problem(
            ("datasets", str(index), "parts", str(at)),
            f"version {version.number} has no part {ids.shorten(part)!r}{texts.suggestion(part, has)}",
        )
        for at, part in enumerate(use.parts)
        if part not in has
    ]
    return [part for part in has if not use.parts or part in use.parts], wrong


async def _files(session: Session, version_id: bytes, parts: Sequence[str]) -> list[File]:
    statement = (
        select(File)
        .join(DatasetFile, DatasetFile.file_id == File.id)
        .where(DatasetFile.version_id == version_id, DatasetFile.part.in_(parts))
        .order_by(DatasetFile.position)
    )
    return await session.all(File, statement)
