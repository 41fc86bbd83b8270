"""Versions of datasets as the API shows them: parts, files, the schema and what runs made of them."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from db import dataset_uses, dataset_versions, datasets, profiles
from graph import enums, nodes, paging
from graph.context import Context, Info
from graph.files import File
from graph.nodes import Node, loads, public
from graph.paging import Connection
from graph.scalars import Int64

if TYPE_CHECKING:
    from graph.datasets import Dataset
    from graph.runs import Run

enums.show(
    datasets.DatasetVersionState,
    "How far a version's statistics are; its files can be used.",
    PROFILING="They are being worked out.",
    READY="They are there.",
    FAILED="They could not be worked out; `message` tells why.",
)


@strawberry.type(description="A column of a table.")
class DatasetColumn:
    """A column."""

    name: str = strawberry.field(description="As its header, key or schema says.")
    type: str = strawberry.field(
        description="int, float, bool, str, list, object, mixed, null (no value), or the format's own word."
    )
    nulls: Int64 | None = strawberry.field(description="Rows without a value, where that was counted.")
    min: float | None = strawberry.field(description="Of finite numbers, where that was worked out.")
    max: float | None = strawberry.field(description="Of finite numbers, where that was worked out.")


@strawberry.type(description="A part of a version: train, validation, test or another.")
class DatasetPart:
    """A part."""

    name: str = strawberry.field(description="Unique in its version.")
    file_count: int = strawberry.field(description="How many files it has.")
    size_bytes: Int64 = strawberry.field(description="Of its files together.")
    rows: Int64 | None = strawberry.field(description="Of its tables together; null where there is none.")


@strawberry.type(description="A file in its part.")
class DatasetFile:
    """A file of a version."""

    row: strawberry.Private[datasets.DatasetFile]
    part: str = strawberry.field(description="The part's name.")
    rows: Int64 | None = strawberry.field(description="Of its table; null where it is none that can be read.")
    message: str | None = strawberry.field(description="What was found wrong with its table.")

    @classmethod
    def of(cls, row: datasets.DatasetFile) -> "DatasetFile":
        return cls(row=row, part=row.part, rows=_int64(row.rows), message=row.message)

    @strawberry.field(description="The file.")
    async def file(self, info: Info) -> File | None:
        found: File | None = await nodes.get(info.context, "file", self.row.file_id)
        return found

    @strawberry.field(description="The columns of its table; null where it is none that can be read.")
    def columns(self) -> list[DatasetColumn] | None:
        return _columns(self.row.columns)


@strawberry.type(description="One immutable state of a dataset.")
class DatasetVersion(Node):
    """A version."""

    row: strawberry.Private[datasets.DatasetVersion]
    number: int = strawberry.field(description="Counts the dataset's versions.")
    digest: str = strawberry.field(
        description="Of parts, file names and contents: equal ones are the same version."
    )
    state: datasets.DatasetVersionState = strawberry.field(description="How far its statistics are.")
    message: str | None = strawberry.field(description="Why it could not be described.")
    file_count: int = strawberry.field(description="How many files it has.")
    size_bytes: Int64 = strawberry.field(description="Of its files together.")
    rows: Int64 | None = strawberry.field(description="Of its tables together; null where there is none.")
    created_at: datetime = strawberry.field(description="When it was added.")

    @classmethod
    def of(cls, row: datasets.DatasetVersion) -> "DatasetVersion":
        return cls(
            row=row,
            id=public("dataset_version", row.id),
            number=row.number,
            digest=row.digest,
            state=row.state,
            message=row.message,
            file_count=row.files,
            size_bytes=Int64(row.size_bytes),
            rows=_int64(row.rows),
            created_at=row.created_at,
        )

    @strawberry.field(description="What it is a state of.")
    async def dataset(self, info: Info) -> Annotated["Dataset", strawberry.lazy("graph.datasets")]:
        found: Dataset = await nodes.get(info.context, "dataset", self.row.dataset_id)
        return found

    @strawberry.field(description="Its parts: train, validation and test first, the others by name.")
    def parts(self) -> list[DatasetPart]:
        return [
            DatasetPart(
                name=part["name"],
                file_count=part["files"],
                size_bytes=Int64(part["size_bytes"]),
                rows=_int64(part["rows"]),
            )
            for part in self.row.parts
        ]

    @strawberry.field(description="The columns of its tables together; null where a table has none to tell.")
    def columns(self) -> list[DatasetColumn] | None:
        return _columns(self.row.columns)

    @strawberry.field(description="Its files, by part and name; of one part if given.")
    async def files(
        self,
        info: Info,
        part: Annotated[
            str | None, strawberry.argument(description="Only those of this part; all when not given.")
        ] = None,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[DatasetFile]:
        page = paging.page(first, after, last, before, paging.a_number)
        async with info.context.database.read() as session:
            rows = await dataset_versions.list_files(session, self.row.id, page, part=part)
        return paging.connect(rows, lambda row: row.position, DatasetFile.of)

    @strawberry.field(description="The runs that were given it, newest first.")
    async def runs(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Annotated["Run", strawberry.lazy("graph.runs")]]:
        context, page = info.context, paging.page(first, after, last, before)
        async with context.database.read() as session:
            rows = await dataset_uses.runs_of(session, context.viewer, self.row.id, page)
        loaded = await asyncio.gather(*(nodes.get(context, "run", row.run_id) for row in rows.rows))
        made = dict(zip((row.run_id for row in rows.rows), loaded, strict=True))
        connection: Connection[Run] = paging.connect(
            rows, lambda row: row.run_id, lambda row: made[row.run_id]
        )
        return connection


@strawberry.type(description="A version that a run was given.")
class RunDataset:
    """A dataset of a run."""

    row: strawberry.Private[dataset_uses.RunDataset]
    parts: list[str] = strawberry.field(description="The parts whose files are inputs of the run.")

    @strawberry.field(description="The version, as it was frozen when the run was started.")
    async def version(self, info: Info) -> DatasetVersion:
        found: DatasetVersion = await nodes.get(info.context, "dataset_version", self.row.version_id)
        return found


@loads("dataset_version")
async def load_versions(context: Context, keys: list[bytes]) -> list[DatasetVersion | None]:
    """Versions by key."""
    async with context.database.read() as session:
        rows = await dataset_versions.find_versions(session, context.viewer, keys)
    return nodes.by_key(keys, rows, DatasetVersion.of)


async def of_numbers(context: Context, keys: list[tuple[bytes, int | None]]) -> list[DatasetVersion | None]:
    """Versions by dataset and number; without a number the latest."""
    async with context.database.read() as session:
        found = await dataset_versions.find_numbers(session, context.viewer, keys)
    return [DatasetVersion.of(found[key]) if key in found else None for key in keys]


async def of_runs(context: Context, keys: list[bytes]) -> list[list[RunDataset]]:
    """What runs were given, by run."""
    async with context.database.read() as session:
        rows = await dataset_uses.of_runs(session, keys)
    return nodes.by_owner(
        keys, rows, lambda row: row.run_id, lambda row: RunDataset(row=row, parts=list(row.parts))
    )


def _columns(document: list[dict[str, Any]] | None) -> list[DatasetColumn] | None:
    found = profiles.decode(document)
    if found is None:
        return None
    return [
        DatasetColumn(name=one.name, type=one.type, nulls=_int64(one.nulls), min=one.minimum, max=one.maximum)
        for one in found
    ]


def _int64(value: int | None) -> Int64 | None:
    return None if value is None else Int64(value)
