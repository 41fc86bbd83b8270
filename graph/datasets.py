"""Datasets: making them, adding versions, and finding them again."""

from datetime import datetime
from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from db import dataset_uses, dataset_versions, datasets, errors
from graph import nodes, paging, users
from graph.context import Context, Info
from graph.dataset_versions import DatasetVersion, of_numbers
from graph.errors import UserError, refusing
from graph.nodes import Node, key, loads, maybe_key, public
from graph.paging import Connection


@strawberry.type(description="A named group of files in parts, in immutable versions.")
class Dataset(Node):
    """A dataset."""

    row: strawberry.Private[datasets.Dataset]
    name: str = strawberry.field(description="Unique among its project's datasets that are not deleted.")
    description: str = strawberry.field(description="What it is, for people.")
    tags: JSON = strawberry.field(description="Names with strings, numbers or truth values.")
    created_at: datetime = strawberry.field(description="When it was made.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was taken out of use; its versions stay readable."
    )

    @classmethod
    def of(cls, row: datasets.Dataset) -> "Dataset":
        return cls(
            row=row,
            id=public("dataset", row.id),
            name=row.name,
            description=row.description,
            tags=JSON(row.tags),
            created_at=row.created_at,
            deleted_at=row.deleted_at,
        )

    @strawberry.field(description="Its project.")
    async def project(self, info: Info) -> users.Project:
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(description="The version of this number, or the latest one; null where there is none.")
    async def version(
        self,
        info: Info,
        number: Annotated[
            int | None, strawberry.argument(description="From 1; the latest when not given.")
        ] = None,
    ) -> DatasetVersion | None:
        return await info.context.load(of_numbers, (self.row.id, number))

    @strawberry.field(description="All versions, newest first.")
    async def versions(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[DatasetVersion]:
        page = paging.page(first, after, last, before, paging.a_number)
        async with info.context.database.read() as session:
            rows = await dataset_versions.list_versions(session, self.row.id, page)
        return paging.connect(rows, lambda row: row.number, DatasetVersion.of)


@loads("dataset")
async def load_datasets(context: Context, keys: list[bytes]) -> list[Dataset | None]:
    """Datasets by key."""
    async with context.database.read() as session:
        rows = await datasets.find_datasets(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Dataset.of)


@strawberry.type
class DatasetQuery:
    """Finding datasets."""

    @strawberry.field(
        description="The dataset of this id, or of this name: one of both; null if there is none."
    )
    async def dataset(self, info: Info, id: nodes.ById = None, name: nodes.ByName = None) -> Dataset | None:
        return await nodes.by_id_or_name(info.context, "dataset", id, name, datasets.find_dataset, Dataset.of)

    @strawberry.field(description="Datasets that are not deleted, newest first.")
    async def datasets(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Dataset]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await datasets.list_datasets(session, info.context.viewer, page)
        return paging.connect(rows, lambda row: row.id, Dataset.of)


@strawberry.input(description="A part of a version to come.")
class DatasetPartInput:
    """A part."""

    name: str = strawberry.field(description="train, validation, test, or another lower-case word.")
    files: list[strawberry.ID] = strawberry.field(description="READY files; their names differ in a part.")


@strawberry.input(description="A dataset to make.")
class CreateDatasetInput:
    """Input of createDataset."""

    name: str = strawberry.field(description="1 to 100 characters, unique in the project.")
    description: str = strawberry.field(default="", description="For people.")
    tags: JSON | None = strawberry.field(
        default=None, description="Names with strings, numbers or truth values; at most 100."
    )
    parts: list[DatasetPartInput] | None = strawberry.field(
        default=None, description="Its first version; without, it has none yet."
    )
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.input(description="What to change of a dataset.")
class UpdateDatasetInput:
    """Input of updateDataset."""

    id: strawberry.ID = strawberry.field(description="The dataset.")
    name: str | None = strawberry.field(default=None, description="Kept when not given.")
    description: str | None = strawberry.field(default=None, description="Kept when not given.")
    tags: JSON | None = strawberry.field(default=None, description="All of them; kept when not given.")


@strawberry.input(description="A dataset to take out of use.")
class DeleteDatasetInput:
    """Input of deleteDataset."""

    id: strawberry.ID = strawberry.field(description="The dataset.")


@strawberry.type(description="The dataset, or every mistake.")
class CreateDatasetPayload:
    """Payload of createDataset."""

    dataset: Dataset | None = strawberry.field(default=None, description="The dataset.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type(description="The dataset, or every mistake.")
class UpdateDatasetPayload:
    """Payload of updateDataset."""

    dataset: Dataset | None = strawberry.field(default=None, description="The dataset as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type(description="The dataset, or why it was refused.")
class DeleteDatasetPayload:
    """Payload of deleteDataset."""

    dataset: Dataset | None = strawberry.field(default=None, description="The dataset, deleted.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="A version to add: all of it.")
class AddDatasetVersionInput:
    """Input of addDatasetVersion."""

    dataset: strawberry.ID = strawberry.field(description="The dataset.")
    parts: list[DatasetPartInput] = strawberry.field(description="At most 50, with 10,000 files together.")


@strawberry.type(description="The version, or every mistake.")
class AddDatasetVersionPayload:
    """Payload of addDatasetVersion."""

    version: DatasetVersion | None = strawberry.field(
        default=None, description="PROFILING; or the version of equal content that there is already."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class DatasetMutation:
    """Making and changing datasets."""

    @strawberry.mutation(description="Make a dataset, with its first version if parts are given.")
    @refusing(CreateDatasetPayload)
    async def create_dataset(self, info: Info, input: CreateDatasetInput) -> CreateDatasetPayload:
        context = info.context
        project = maybe_key("project", input.project, "project")
        parts = None if input.parts is None else _parts(input.parts)
        async with context.database.begin() as session:
            dataset_id = await datasets.create(
                session,
                context.viewer,
                input.name,
                description=input.description,
                tags=_tags(input.tags),
                project_id=project,
            )
            if parts is not None:
                await dataset_versions.add(session, context.viewer, dataset_id, parts)
        return CreateDatasetPayload(dataset=await context.load(load_datasets, dataset_id))

    @strawberry.mutation(description="Change a dataset's name, description or tags.")
    @refusing(UpdateDatasetPayload)
    async def update_dataset(self, info: Info, input: UpdateDatasetInput) -> UpdateDatasetPayload:
        context, dataset_id = info.context, key("dataset", input.id, "id")
        await context.act(
            datasets.update_dataset,
            dataset_id,
            name=input.name,
            description=input.description,
            tags=_tags(input.tags),
        )
        return UpdateDatasetPayload(dataset=await context.load(load_datasets, dataset_id))

    @strawberry.mutation(
        description="Take a dataset out of use; refused while a run that has not ended was given it."
    )
    @refusing(DeleteDatasetPayload)
    async def delete_dataset(self, info: Info, input: DeleteDatasetInput) -> DeleteDatasetPayload:
        context, dataset_id = info.context, key("dataset", input.id, "id")
        await context.act(dataset_uses.delete, dataset_id)
        return DeleteDatasetPayload(dataset=await context.load(load_datasets, dataset_id))

    @strawberry.mutation(
        description="Add a version from files; equal parts, names and contents are the version there is."
    )
    @refusing(AddDatasetVersionPayload)
    async def add_dataset_version(
        self, info: Info, input: AddDatasetVersionInput
    ) -> AddDatasetVersionPayload:
        context, dataset_id = info.context, key("dataset", input.dataset, "dataset")
        parts = _parts(input.parts)
        version_id = await context.act(dataset_versions.add, dataset_id, parts)
        return AddDatasetVersionPayload(version=await nodes.get(context, "dataset_version", version_id))


def _parts(given: list[DatasetPartInput]) -> list[dataset_versions.PartSpec]:
    return [
        dataset_versions.PartSpec(
            part.name,
            [key("file", text, "parts", str(at), "files", str(i)) for i, text in enumerate(part.files)],
        )
        for at, part in enumerate(given)
    ]


def _tags(given: object) -> dict[str, object] | None:
    if not isinstance(given, dict | None):
        raise errors.Invalid("tags are an object of values by name", path=("tags",))
    return given
