"""Runs as the API shows them.

Listing them is in listing.py, starting and cancelling in starts.py, editing in edits.py, deleting in deletions.py,
following in watching.py.
"""

from datetime import datetime
from typing import Annotated

import strawberry

from db import runs, states, suspensions
from graph import (
    dataset_versions,
    fires,
    jobs,
    metrics,
    nodes,
    paging,
    pipelines,
    source_uses,
    users,
    waiting,
)
from graph.context import Context, Info
from graph.export_formats import ExportFormat
from graph.files import File
from graph.jobs import Job, of_run
from graph.metrics import RunMetric
from graph.nodes import Node, found, loading, loads
from graph.paging import Connection
from graph.rows import OfRow
from graph.scalars import Int64
from graph.timeline import TimelineEntry, of_feed


@strawberry.type(description="A name and a value on a run.")
class Tag:
    """A tag."""

    name: str = strawberry.field(description="Unique on its run.")
    value: str = strawberry.field(description="May be empty.")


async def _tags_of(context: Context, keys: list[bytes]) -> list[list[Tag]]:
    async with context.database.single() as session:
        rows = await runs.tags_of(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.run_id, lambda row: Tag(name=row.name, value=row.value))


async def _files_of(context: Context, keys: list[bytes]) -> list[list[File]]:
    async with context.database.single() as session:
        rows = await runs.files_of(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.owner, File.of)


@strawberry.type(description="One execution of a pipeline's revision on input files.")
class Run(OfRow, Node):
    """A run."""

    kind = "run"
    row: strawberry.Private[runs.Run]
    name: str = strawberry.field(description="The pipeline's, unless it was given one.")
    state: states.RunState = strawberry.field(description="Derived from its jobs.")
    priority: int = strawberry.field(description="Higher ones are launched first.")
    fail_fast: bool = strawberry.field(description="Whether a failure skips everything not launched yet.")
    external: bool = strawberry.field(description="Whether code outside reports it.")
    notes: str = strawberry.field(description="What people wrote about it.")
    archived: bool = strawberry.field(description="Whether lists leave it out unless asked.")
    edition: int = strawberry.field(description="Counts its edits: name it in an edit made from this one.")
    idempotency_key: str | None = strawberry.field(description="The key it was started under.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    started_at: datetime | None = strawberry.field(description="When its first job was launched.")
    ended_at: datetime | None = strawberry.field(description="When its last job ended.")
    seq: Int64 = strawberry.field(
        description="The last number of the run's feed, as of the same moment: follow the run after it."
    )

    @strawberry.field(description="Whether it stands still, whatever its state: resumeRun lets it go on.")
    def suspended(self) -> bool:
        return suspensions.is_suspended(self.row)

    @strawberry.field(description="From its start to its end, or until now.")
    def duration_seconds(self) -> float | None:
        return jobs.duration(self.started_at, self.ended_at)

    @strawberry.field(
        description="Seconds to its end if all goes as it usually does; null when unknown, or ended."
    )
    async def expected_seconds_left(self, info: Info) -> float | None:
        if self.state in states.TERMINAL_RUN:
            return None
        expected = await info.context.load(jobs.expected_of, self.row.id)
        return None if expected is None else expected.seconds

    @strawberry.field(description="Its project.")
    async def project(self, info: Info) -> users.Project:
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(description="What it executes; null for an external one.")
    async def pipeline(self, info: Info) -> pipelines.Pipeline | None:
        found: pipelines.Pipeline | None = await nodes.get(info.context, "pipeline", self.row.pipeline_id)
        return found

    @strawberry.field(description="The revision it executes.")
    async def revision(self, info: Info) -> pipelines.PipelineRevision | None:
        found: pipelines.PipelineRevision | None = await nodes.get(
            info.context, "revision", self.row.revision_id
        )
        return found

    @strawberry.field(description="By name.")
    @loading(_tags_of)
    def tags(self, found: list[Tag]) -> list[Tag]:
        return found

    @strawberry.field(description="Its input files, in the order given.")
    @loading(_files_of)
    def files(self, found: list[File]) -> list[File]:
        return found

    @strawberry.field(description="The versions of datasets it was given, in order.")
    async def datasets(self, info: Info) -> list[dataset_versions.RunDataset]:
        return await info.context.load(dataset_versions.of_runs, self.row.id)

    @strawberry.field(description="The data sources that its jobs read for themselves, in order.")
    async def sources(self, info: Info) -> list[source_uses.RunSource]:
        return await info.context.load(source_uses.of_runs, self.row.id)

    @strawberry.field(description="Its steps' jobs, in order.")
    @loading(of_run)
    def jobs(self, found: list[Job]) -> list[Job]:
        return found

    @strawberry.field(description="The job of this step, or null.")
    @loading(of_run, reads=["step"])
    def job(
        self, found: list[Job], step: Annotated[str, strawberry.argument(description="Its label in the run.")]
    ) -> Job | None:
        return next((job for job in found if job.step == step), None)

    @strawberry.field(description="Its headline values, by name; of these names if given.")
    @loading(metrics.headlines_of, reads=["name"])
    def metrics(
        self,
        found: list[RunMetric],
        names: Annotated[
            list[str] | None, strawberry.argument(description="Only these; all when not given.")
        ] = None,
    ) -> list[RunMetric]:
        return found if names is None else [each for each in found if each.name in names]

    @strawberry.field(description="Where all its metrics are as a table, for the same credentials.")
    def metrics_url(
        self,
        format: Annotated[
            ExportFormat | None, strawberry.argument(description="How it is written; CSV if not given.")
        ] = None,
    ) -> str:
        return f"/runs/{self.id}/metrics.{(format or ExportFormat.CSV).value}"

    @strawberry.field(description="Where everything of it is as a zip file, for the same credentials.")
    def archive_url(self) -> str:
        return f"/runs/{self.id}/archive.zip"

    @strawberry.field(description="Every change of state, in order.")
    @loading(of_feed, "feed_id")
    def timeline(self, found: list[TimelineEntry]) -> list[TimelineEntry]:
        return found

    @strawberry.field(
        description="Why nothing of it runs: of the first of its jobs that are launched, else ready. Null while "
        "one runs or is about to, and once it has ended."
    )
    async def waiting_for(self, info: Info) -> waiting.WaitingFor | None:
        if self.state in states.TERMINAL_RUN:
            return None
        return await info.context.load(waiting.of_runs, self.row.id)

    @strawberry.field(
        description="The fire of a schedule that started it; null where a person or program did."
    )
    @loading(fires.of_runs)
    def fire(self, found: fires.Fire | None) -> fires.Fire | None:
        return found

    @strawberry.field(description="The run that it repeats, as retryRun made it.")
    async def retry_of(self, info: Info) -> "Run | None":
        found: Run | None = await nodes.get(info.context, "run", self.row.retry_of)
        return found

    @strawberry.field(description="The run whose input it took and changed, as rerunRun made it.")
    async def based_on(self, info: Info) -> "Run | None":
        found: Run | None = await nodes.get(info.context, "run", self.row.based_on)
        return found

    @strawberry.field(description="The run that it is a part of.")
    async def parent(self, info: Info) -> "Run | None":
        found: Run | None = await nodes.get(info.context, "run", self.row.parent_id)
        return found

    @strawberry.field(description="The runs that are a part of it, newest first, archived ones too.")
    async def children(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection["Run"]:
        page = paging.page(first, after, last, before)
        found: Connection[Run] = await nodes.listing("run")(
            info.context, page, parent_id=self.row.id, columns=info.columns
        )
        return found


@loads("run")
async def load_runs(context: Context, keys: list[bytes]) -> list[Run | None]:
    """Runs by key."""
    async with context.database.single() as session:
        rows = await runs.find_runs(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Run.of)


@strawberry.type
class RunQuery:
    """Finding runs."""

    @strawberry.field(description="The run of this id, or null.")
    async def run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The id of the run.")]
    ) -> Run | None:
        wanted = found(info.context, "run", id)
        return None if wanted is None else await info.context.load(load_runs, wanted)
