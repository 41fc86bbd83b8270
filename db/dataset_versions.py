"""Versions of datasets: added whole from files, named by their content, described afterwards.

A version's digest derives from the parts, names and contents of its files and from nothing else, so that
the same content is the same version, in whatever order and from whatever upload it comes. Statistics are
worked out by backends/profiling.py while the version can already be used.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from db import columns, datasets, errors, ids, paging, profiles, viewers
from db.database import Session, Transaction
from db.datasets import Dataset, DatasetFile, DatasetVersion, DatasetVersionState
from db.errors import Problem
from db.files import File, FileState
from db.paging import Page, Slice
from db.profiles import Profile
from db.viewers import Viewer

PARTS = ("train", "validation", "test")
"""The usual parts, which come first and in this order."""
MOST_FILES, MOST_PARTS = 10_000, 50

_PART = re.compile(r"[a-z][a-z0-9_-]{0,49}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PartSpec:
    """A part as its author gives it: a name, and files by id."""

    name: str
    files: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a version that is to be described."""

    position: int
    name: str
    sha256: str


def digest(entries: Iterable[tuple[str, str, str]]) -> str:
    """The name of a content: of (part, file name, SHA-256) triples in any order."""
    return hashlib.sha256(json.dumps(sorted(map(list, entries))).encode()).hexdigest()


async def add(
    session: Transaction, viewer: Viewer, dataset_id: bytes, parts: Sequence[PartSpec], *path: str
) -> bytes:
    """Add a version of these parts and return its id; the version that is equal already, if there is one.

    Raises NotFound, or Invalid with every mistake. An equal version whose description failed is described
    again.
    """
    dataset = await datasets.lock(session, viewer, dataset_id, "dataset")
    members = await _members(session, dataset.project_id, parts, path or ("parts",))
    name = digest((part, file.name, file.sha256 or "") for part, file in members)
    equal = (DatasetVersion.dataset_id == dataset_id) & (DatasetVersion.digest == name)
    known = await session.find(DatasetVersion, select(DatasetVersion).where(equal))
    if known is not None:
        failed = (DatasetVersion.id == known.id) & (DatasetVersion.state == DatasetVersionState.FAILED)
        again = {"state": DatasetVersionState.PROFILING, "message": None}
        if await session.change(update(DatasetVersion).where(failed).values(again)):
            session.wake()
        return known.id
    number = dataset.versions + 1
    await session.execute(update(Dataset).where(Dataset.id == dataset_id).values(versions=number))
    version_id = ids.new()
    version = {
        "id": version_id,
        "project_id": dataset.project_id,
        "dataset_id": dataset_id,
        "number": number,
        "digest": name,
        "state": DatasetVersionState.PROFILING,
        "files": len(members),
        "size_bytes": sum(file.size_bytes for _, file in members),
        "parts": _summaries(members),
        "created_by": viewer.user_id,
        "created_at": columns.now(),
    }
    await session.execute(insert(DatasetVersion).values(version))
    rows = [
        {"version_id": version_id, "position": position, "part": part, "file_id": file.id}
        for position, (part, file) in enumerate(members)
    ]
    await session.execute(insert(DatasetFile), rows)
    session.wake()
    return version_id


async def profiling(session: Session) -> list[bytes]:
    """The versions that wait to be described, oldest first."""
    waiting = DatasetVersion.state == DatasetVersionState.PROFILING
    rows = await session.execute(select(DatasetVersion.id).where(waiting).order_by(DatasetVersion.id))
    return list(rows.scalars())


async def members(session: Session, version_id: bytes) -> list[Member]:
    """The files of a version that is to be described, in order."""
    statement = (
        select(DatasetFile.position, File.name, File.sha256)
        .join(File, File.id == DatasetFile.file_id)
        .where(DatasetFile.version_id == version_id)
        .order_by(DatasetFile.position)
    )
    return [Member(row.position, row.name, row.sha256) for row in (await session.execute(statement)).all()]


async def described(session: Transaction, version_id: bytes, found: Mapping[int, Profile]) -> None:
    """Record what the files' tables are, by position, and what they are together; a repeat changes nothing."""
    waiting = (DatasetVersion.id == version_id) & (DatasetVersion.state == DatasetVersionState.PROFILING)
    version = await session.find(
        DatasetVersion, select(DatasetVersion).where(waiting).with_for_update(key_share=True)
    )
    if version is None:
        return
    statement = select(DatasetFile.position, DatasetFile.part).where(DatasetFile.version_id == version_id)
    part_of = {row.position: row.part for row in (await session.execute(statement)).all()}
    rows = [
        {
            "at": position,
            "new_rows": profile.rows,
            "new_columns": profiles.encode(profile.columns),
            "new_message": profile.message,
        }
        for position, profile in found.items()
    ]
    if rows:
        await session.execute(_DESCRIBE, [{**row, "version": version_id} for row in rows])
    whole = profiles.combine(found.values())
    parts = [
        {**part, "rows": profiles.combine(p for at, p in found.items() if part_of[at] == part["name"]).rows}
        for part in version.parts
    ]
    values = {
        "state": DatasetVersionState.READY,
        "rows": whole.rows,
        "columns": profiles.encode(whole.columns),
        "parts": parts,
    }
    await session.execute(update(DatasetVersion).where(waiting).values(values))


_FILES = DatasetFile.__table__
_DESCRIBE = (
    update(_FILES)  # type: ignore[arg-type]
    .where(_FILES.c.version_id == bindparam("version"), _FILES.c.position == bindparam("at"))
    .values(rows=bindparam("new_rows"), columns=bindparam("new_columns"), message=bindparam("new_message"))
)


async def failed(session: Transaction, version_id: bytes, message: str) -> None:
    """Record that a version cannot be described, and why; a repeat changes nothing."""
    waiting = (DatasetVersion.id == version_id) & (DatasetVersion.state == DatasetVersionState.PROFILING)
    values = {"state": DatasetVersionState.FAILED, "message": message}
    await session.execute(update(DatasetVersion).where(waiting).values(values))


async def find_versions(session: Session, viewer: Viewer, keys: Collection[bytes]) -> list[DatasetVersion]:
    """The versions of these ids that may be seen, those of deleted datasets too."""
    seen = viewers.visible(viewer, DatasetVersion.project_id)
    return await session.all(DatasetVersion, select(DatasetVersion).where(DatasetVersion.id.in_(keys), seen))


async def find_numbers(
    session: Session, viewer: Viewer, wanted: Collection[tuple[bytes, int | None]]
) -> dict[tuple[bytes, int | None], DatasetVersion]:
    """The versions of these datasets and numbers; without a number the latest."""
    statement = select(DatasetVersion, Dataset.versions.label("latest")).join(
        Dataset, Dataset.id == DatasetVersion.dataset_id
    )
    numbers = {number for _, number in wanted if number is not None}
    meant = DatasetVersion.number.in_(numbers) | (DatasetVersion.number == Dataset.versions)
    seen = viewers.visible(viewer, DatasetVersion.project_id)
    statement = statement.where(Dataset.id.in_({key for key, _ in wanted}), meant, seen)
    found: dict[tuple[bytes, int | None], DatasetVersion] = {}
    for row in (await session.execute(statement)).all():
        version: Any = row
        found[version.dataset_id, version.number] = version
        if version.number == row.latest:
            found[version.dataset_id, None] = version
    return found


async def list_versions(session: Session, dataset_id: bytes, page: Page) -> Slice[DatasetVersion]:
    """The versions of a dataset, newest first."""
    statement = select(DatasetVersion).where(DatasetVersion.dataset_id == dataset_id)
    return await paging.fetch(session, DatasetVersion, statement, DatasetVersion.number, page)


async def list_files(
    session: Session, version_id: bytes, page: Page, *, part: str | None = None
) -> Slice[DatasetFile]:
    """The files of a version in order; of one part if asked."""
    statement = select(DatasetFile).where(DatasetFile.version_id == version_id)
    if part is not None:
        statement = statement.where(DatasetFile.part == part)
    return await paging.fetch(session, DatasetFile, statement, DatasetFile.position, page, newest_first=False)


async def _members(
    session: Session, project_id: bytes, parts: Sequence[PartSpec], path: Sequence[str]
) -> list[tuple[str, File]]:
    """The files in order, each with its part; raises Invalid with every mistake."""
    count = sum(len(part.files) for part in parts)
    if not count:
        raise errors.Invalid("a version has at least one file", path=path)
    if count > MOST_FILES or len(parts) > MOST_PARTS:
        raise errors.Invalid(f"a version has at most {MOST_PARTS} parts and {MOST_FILES} files", path=path)
    keys = {key for part in parts for key in part.files}
    rows = await session.all(File, select(File).where(File.id.in_(keys), File.project_id == project_id))
    found = {row.id: row for row in rows}
    problems = _part_problems(parts, path)
    for at, part in enumerate(parts):
        names = Counter(found[key].name for key in part.files if key in found)
        for index, key in enumerate(part.files):
            where = (*path, str(at), "files", str(index))
            file = found.get(key)
            if file is None:
                problems.append(Problem(where, f"there is no file {ids.encode('file', key)} in this project"))
            elif file.state is not FileState.READY:
                problems.append(Problem(where, f"{file.name}: its upload is not complete"))
            elif names[file.name] > 1:
                problems.append(Problem(where, f"{file.name} stands twice in part {part.name}"))
    if problems:
        raise errors.Invalid(problems=problems)
    listed = [(part.name, found[key]) for part in parts for key in part.files]
    return sorted(listed, key=lambda one: (_rank(one[0]), one[0], one[1].name))


def _part_problems(parts: Sequence[PartSpec], path: Sequence[str]) -> list[Problem]:
    problems: list[Problem] = []
    times = Counter(part.name for part in parts)
    for index, part in enumerate(parts):
        where = (*path, str(index), "name")
        if not _PART.fullmatch(part.name):
            rule = "a part's name has up to 50 lower-case letters, digits, _ and -, a letter first"
            problems.append(Problem(where, f"{ids.shorten(part.name)!r}: {rule}"))
        elif times[part.name] > 1:
            problems.append(Problem(where, f"part {part.name} is given twice"))
        if not part.files:
            problems.append(Problem((*path, str(index), "files"), "a part has at least one file"))
    return problems


def _rank(part: str) -> int:
    return PARTS.index(part) if part in PARTS else len(PARTS)


def _summaries(members: Sequence[tuple[str, File]]) -> list[dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {}
    for name, file in members:
        part = parts.setdefault(name, {"name": name, "files": 0, "size_bytes": 0, "rows": None})
        part["files"] += 1
        part["size_bytes"] += file.size_bytes
    return list(parts.values())
