"""Files: announcing an upload, completing it, and files as the API shows them. Contents go by content.py."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry
from strawberry.scalars import JSON

from db import errors, files, lineage
from graph import enums, nodes, paging
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.nodes import Node, found, key, loads, maybe_key, public
from graph.paging import Connection
from graph.scalars import Int64

if TYPE_CHECKING:
    from graph.jobs import Job

enums.show(
    files.FileKind,
    "Whether a file was given or made.",
    INPUT="Given: uploaded, or fetched from a data source.",
    OUTPUT="Made by a job.",
)
enums.show(
    files.FileState,
    "Whether the content is there and was checked.",
    UPLOADING="Not yet.",
    READY="Its size and SHA-256 were checked; it can be used.",
)


@strawberry.type(
    description="A managed blob: a name, tags and lineage for a content stored once by its SHA-256."
)
class File(Node):
    """A file."""

    row: strawberry.Private[files.File]
    name: str = strawberry.field(description="As it was given, without a folder.")
    state: files.FileState = strawberry.field(description="Whether it can be used.")
    size_bytes: Int64 = strawberry.field(
        description="The content's size; what was announced while uploading."
    )
    sha256: str | None = strawberry.field(description="The content's digest in hex, once it has arrived.")
    media_type: str = strawberry.field(description="As given, or guessed from the name.")
    kind: files.FileKind = strawberry.field(description="Whether it was given or made.")
    tags: JSON = strawberry.field(description="Names with strings, numbers or truth values.")
    created_at: datetime = strawberry.field(description="When it was announced, or its job ended.")

    @classmethod
    def of(cls, row: files.File) -> "File":
        return cls(
            row=row,
            id=public("file", row.id),
            name=row.name,
            state=row.state,
            size_bytes=Int64(row.size_bytes),
            sha256=row.sha256,
            media_type=row.media_type,
            kind=row.kind,
            tags=JSON(row.tags),
            created_at=row.created_at,
        )

    @strawberry.field(description="Where the content is, by GET with ranges; null until it is complete.")
    def url(self) -> str | None:
        return f"/files/{self.id}" if self.row.state is files.FileState.READY else None

    @strawberry.field(description="The job that made it.")
    async def job(self, info: Info) -> Annotated["Job", strawberry.lazy("graph.jobs")] | None:
        found: Job | None = await nodes.get(info.context, "job", self.row.job_id)
        return found

    @strawberry.field(description="The files that are other states of it, newest first.")
    async def derived(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection["File"]:
        context, page = info.context, paging.page(first, after, last, before)
        async with context.database.read() as session:
            rows = await lineage.derived_of(session, context.viewer, self.row.id, page)
        return paging.connect(rows, lambda row: row.id, File.of)

    @strawberry.field(description="The jobs that read it, newest first.")
    async def used_by(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Annotated["Job", strawberry.lazy("graph.jobs")]]:
        context, page = info.context, paging.page(first, after, last, before)
        async with context.database.read() as session:
            rows = await lineage.readers_of(session, context.viewer, self.row.id, page)
        loaded = await asyncio.gather(*(nodes.get(context, "job", row.job_id) for row in rows.rows))
        made = dict(zip((row.job_id for row in rows.rows), loaded, strict=True))
        connection: Connection[Job] = paging.connect(
            rows, lambda row: row.job_id, lambda row: made[row.job_id]
        )
        return connection

    @strawberry.field(description="The file it is another state of.")
    async def derived_from(self, info: Info) -> "File | None":
        found: File | None = await nodes.get(info.context, "file", self.row.derived_from)
        return found


@loads("file")
async def load_files(context: Context, keys: list[bytes]) -> list[File | None]:
    """Files by key."""
    async with context.database.read() as session:
        rows = await files.find_files(session, context.viewer, keys)
    return nodes.by_key(keys, rows, File.of)


@strawberry.input(description="Which files; all that is given must hold.")
class FileFilter:
    """A filter."""

    run: strawberry.ID | None = strawberry.field(default=None, description="Made by this run.")
    kind: files.FileKind | None = strawberry.field(default=None, description="Given or made.")
    tags: JSON | None = strawberry.field(
        default=None, description="With all of these tags, values by name; of a run's files only."
    )


@strawberry.type
class FileQuery:
    """Finding files."""

    @strawberry.field(description="The file of this id, or null.")
    async def file(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The id of the file.")]
    ) -> File | None:
        wanted = found(info.context, "file", id)
        return None if wanted is None else await info.context.load(load_files, wanted)

    @strawberry.field(description="Files, newest first.")
    async def files(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
        filter: FileFilter | None = None,
    ) -> Connection[File]:
        asked, context = filter or FileFilter(), info.context
        if not isinstance(asked.tags, dict | None):
            raise errors.Invalid("tags are an object of values by name", path=("filter", "tags"))
        async with context.database.read() as session:
            rows = await files.list_files(
                session,
                context.viewer,
                paging.page(first, after, last, before),
                run_id=maybe_key("run", asked.run, "filter", "run"),
                kind=asked.kind,
                tags=asked.tags,
            )
        return paging.connect(rows, lambda row: row.id, File.of)


@strawberry.input(description="A file to come.")
class CreateUploadInput:
    """Input of createUpload."""

    name: str = strawberry.field(description="The file's name, without a folder.")
    size_bytes: Int64 = strawberry.field(description="The content's size.")
    media_type: str | None = strawberry.field(
        default=None, description="Guessed from the name when not given."
    )
    tags: JSON | None = strawberry.field(
        default=None, description="Names with strings, numbers or truth values."
    )
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.type(description="Where to send the content.")
class Upload:
    """An upload."""

    url: str = strawberry.field(description="PUT the content here, with the same credentials.")


@strawberry.type(description="The announced file, or why it was refused.")
class CreateUploadPayload:
    """Payload of createUpload."""

    file: File | None = strawberry.field(default=None, description="The file, UPLOADING.")
    upload: Upload | None = strawberry.field(default=None, description="Where to send the content.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="What was sent, so that it is what was meant.")
class CompleteUploadInput:
    """Input of completeUpload."""

    id: strawberry.ID = strawberry.field(description="The announced file.")
    sha256: str = strawberry.field(description="The content's SHA-256 in hex.")
    size_bytes: Int64 = strawberry.field(description="The content's size.")


@strawberry.type(description="The complete file, or what is wrong.")
class CompleteUploadPayload:
    """Payload of completeUpload."""

    file: File | None = strawberry.field(default=None, description="The file, READY.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class FileMutation:
    """Uploading."""

    @strawberry.mutation(description="Announce a file; then PUT its content, then completeUpload.")
    @refusing(CreateUploadPayload)
    async def create_upload(self, info: Info, input: CreateUploadInput) -> CreateUploadPayload:
        context = info.context
        project = maybe_key("project", input.project, "project")
        if not isinstance(input.tags, dict | None):
            raise errors.Invalid("tags are an object of values by name", path=("tags",))
        if input.size_bytes > context.around.max_upload_bytes:
            message = f"a file has at most {context.around.max_upload_bytes} bytes"
            raise errors.LimitExceeded(message, path=("sizeBytes",))
        file_id = await context.act(
            files.create_upload,
            input.name,
            input.size_bytes,
            media_type=input.media_type,
            tags=input.tags,
            project_id=project,
        )
        file = await context.load(load_files, file_id)
        url = f"/files/{public('file', file_id)}"
        return CreateUploadPayload(file=file, upload=Upload(url=url))

    @strawberry.mutation(description="Make a sent file usable, if what arrived is what was meant.")
    @refusing(CompleteUploadPayload)
    async def complete_upload(self, info: Info, input: CompleteUploadInput) -> CompleteUploadPayload:
        context = info.context
        file_id = key("file", input.id, "id")
        await context.act(files.complete_upload, file_id, sha256=input.sha256, size_bytes=input.size_bytes)
        return CompleteUploadPayload(file=await context.load(load_files, file_id))
