"""Jobs, their attempts and workers, as the API shows them."""

from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import strawberry
from strawberry.scalars import JSON

from db import attempts, expectations, jobs, logs, states
from db.rows import Columns, including
from graph import enums, functions, log_search, nodes, paging, waiting
from graph.context import Context, Info
from graph.files import File
from graph.log_search import LogFilter
from graph.logs import LogGap, LogLine, connect
from graph.metrics import JobMetric, headlines_of_jobs
from graph.nodes import Node, found, loading, loads, public
from graph.paging import Connection
from graph.rows import OfRow
from graph.states import EndReason, JobState

if TYPE_CHECKING:
    from graph.runs import Run

enums.show(
    states.WorkerPhase,
    "The phase of a worker.",
    PENDING="It has no process yet.",
    RUNNING="Its process lives.",
    SUCCEEDED="It exited with 0.",
    FAILED="It exited with another code, or by a signal.",
    LOST="Its backend no longer knows it.",
)


@strawberry.type(description="One process, container or pod of an attempt.")
class Worker(Node):
    """A worker."""

    rank: int = strawberry.field(description="From 0.")
    phase: states.WorkerPhase = strawberry.field(description="Where it is in its life.")
    node: str | None = strawberry.field(description="The machine it runs on.")
    address: str | None = strawberry.field(description="Where others reach it.")
    devices: list[int] = strawberry.field(description="The GPUs it has to itself, by index.")
    exit_code: int | None = strawberry.field(description="Negative for a signal.")
    started_at: datetime | None = strawberry.field(description="When its process existed.")
    ended_at: datetime | None = strawberry.field(description="When it was gone.")

    @classmethod
    def of(cls, row: attempts.Worker) -> "Worker":
        return cls(
            id=public("worker", row.id.to_bytes(16)),
            rank=row.rank,
            phase=row.phase,
            node=row.node,
            address=row.address,
            devices=row.devices or [],
            exit_code=row.exit_code,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )


async def _workers_of(context: Context, keys: list[bytes]) -> list[list[Worker]]:
    async with context.database.read() as session:
        rows = await attempts.workers_of(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.attempt_id, Worker.of)


@strawberry.type(description="One launch of a job.")
class Attempt(OfRow, Node):
    """An attempt."""

    kind = "attempt"
    row: strawberry.Private[attempts.Attempt]
    number: int = strawberry.field(description="From 1.")
    reason: EndReason | None = strawberry.field(description="Why it ended.")
    message: str | None = strawberry.field(description="What the reason leaves open.")
    exit_code: int | None = strawberry.field(description="The one that decided; negative for a signal.")
    created_at: datetime = strawberry.field(description="When its launch was decided.")
    started_at: datetime | None = strawberry.field(description="When all its workers existed.")
    ended_at: datetime | None = strawberry.field(description="When all were gone.")
    suspended_seconds: float = strawberry.field(
        description="How long it stood still before it was last resumed; timeouts do not count that."
    )

    @strawberry.field(description="By rank.")
    @loading(_workers_of)
    def workers(self, found: list[Worker]) -> list[Worker]:
        return found


async def _attempts_of(context: Context, keys: list[bytes]) -> list[list[Attempt]]:
    async with context.database.read() as session:
        rows = await attempts.of_jobs(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.job_id, Attempt.of)


async def _inputs_of(context: Context, keys: list[bytes]) -> list[list[File]]:
    return await _files_of(context, keys, jobs.Direction.INPUT)


async def _outputs_of(context: Context, keys: list[bytes]) -> list[list[File]]:
    return await _files_of(context, keys, jobs.Direction.OUTPUT)


async def _files_of(context: Context, keys: list[bytes], direction: jobs.Direction) -> list[list[File]]:
    async with context.database.read() as session:
        rows = await jobs.files_of(session, keys, direction)
    return nodes.by_owner(keys, rows, lambda row: row.owner, File.of)


async def _gaps_of(context: Context, keys: list[bytes]) -> list[list[LogGap]]:
    async with context.database.read() as session:
        rows = await logs.gaps(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.job_id or b"", LogGap.of)


@strawberry.type(description="One step of a run.")
class Job(OfRow, Node):
    """A job."""

    kind = "job"
    row: strawberry.Private[jobs.Job]
    step: str = strawberry.field(
        description="The step's name; of a matrix `step[option=value,…]`, unique in the run."
    )
    position: int = strawberry.field(description="Its place in the run, from 0.")
    state: JobState = strawberry.field(description="Where it is in its life.")
    reason: EndReason | None = strawberry.field(description="Why its last attempt ended.")
    message: str | None = strawberry.field(description="What the reason leaves open.")
    exit_code: int | None = strawberry.field(description="Of its last attempt.")
    arguments: JSON = strawberry.field(description="Every option with its value, frozen at the start.")
    matrix: JSON | None = strawberry.field(description="Its values of what its step's matrix varies.")
    output: JSON | None = strawberry.field(description="Its output.json, as it wrote it.")
    workers: int = strawberry.field(description="How many run together.")
    queued_at: datetime | None = strawberry.field(description="When it was ready.")
    started_at: datetime | None = strawberry.field(description="When its first attempt ran.")
    ended_at: datetime | None = strawberry.field(description="When it ended.")

    @strawberry.field(description="From its start to its end, or until now.")
    def duration_seconds(self) -> float | None:
        return duration(self.started_at, self.ended_at)

    @strawberry.field(description="What each worker asks for.")
    def resources(self) -> functions.Resources:
        return functions.resources_of(self.row)

    @strawberry.field(
        description="Seconds to its end if all goes as it usually does, what it waits for included; null when"
        " unknown, or ended."
    )
    async def expected_seconds_left(self, info: Info) -> float | None:
        if self.state in states.TERMINAL_JOB:
            return None
        expected = await info.context.load(expected_of, self.row.run_id)
        return None if expected is None else expected.jobs.get(self.row.id)

    @strawberry.field(description="The job whose result stands for its own; null when it was executed.")
    async def reused_from(self, info: Info) -> "Job | None":
        found: Job | None = await nodes.get(info.context, "job", self.row.reused_from)
        return found

    @strawberry.field(description="Why it is not running; null while it runs, and once it has ended.")
    async def waiting_for(self, info: Info) -> waiting.WaitingFor | None:
        if self.state in states.TERMINAL_JOB:
            return None
        return await info.context.load(waiting.of_jobs, self.row.id)

    @strawberry.field(description="Its run.")
    async def run(self, info: Info) -> Annotated["Run", strawberry.lazy("graph.runs")]:
        found: Run = await nodes.get(info.context, "run", self.row.run_id)
        return found

    @strawberry.field(description="What it executes, in the version frozen at the start.")
    async def function(self, info: Info) -> functions.Function | None:
        found: functions.Function | None = await nodes.get(info.context, "function", self.row.function_id)
        return found

    @strawberry.field(description="The steps that must have succeeded first.")
    async def needs(self, info: Info) -> list[str]:
        if not self.row.needs:
            return []
        siblings = await info.context.load(of_run, self.row.run_id)
        return [siblings[position].step for position in self.row.needs]

    @strawberry.field(description="The steps that must have ended first, however: its condition asks how.")
    async def awaits(self, info: Info) -> list[str]:
        if not self.row.awaits:
            return []
        siblings = await info.context.load(of_run, self.row.run_id)
        return [siblings[position].step for position in self.row.awaits]

    @strawberry.field(description="Its launches, in order.")
    @loading(_attempts_of)
    def attempts(self, found: list[Attempt]) -> list[Attempt]:
        return found

    @strawberry.field(description="The files it reads; known once it is ready.")
    @loading(_inputs_of)
    def inputs(self, found: list[File]) -> list[File]:
        return found

    @strawberry.field(description="The files it hands on.")
    @loading(_outputs_of)
    def outputs(self, found: list[File]) -> list[File]:
        return found

    @strawberry.field(
        description="Its own headline values, the first hundred by name; of these names if given. One that was "
        "reused has none of its own: ask `reusedFrom`."
    )
    @loading(headlines_of_jobs)
    def metrics(
        self,
        found: list[JobMetric],
        names: Annotated[
            list[str] | None, strawberry.argument(description="Only these; all when not given.")
        ] = None,
    ) -> list[JobMetric]:
        return found if names is None else [each for each in found if each.name in names]

    @strawberry.field(
        description="What it printed, of all attempts, oldest first. With a filter a page may have fewer lines than "
        "it was asked for, even none, and still `hasNextPage`: much was searched, and `endCursor` goes on."
    )
    async def logs(
        self,
        info: Info,
        filter: Annotated[
            LogFilter | None, strawberry.argument(description="Only the lines that it takes.")
        ] = None,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[LogLine]:
        page = paging.page(first, after, last, before, paging.a_line, logs.MOST_A_PAGE)
        if filter is not None:
            return connect(
                await log_search.search(info.context, self.row.id, log_search.wanted(filter), page)
            )
        async with info.context.database.read() as session:
            return connect(await logs.of_job(session, self.row.id, page))

    @strawberry.field(description="Where the whole log is as text, for the same credentials.")
    def log_url(self) -> str:
        return f"/jobs/{self.id}/log"

    @strawberry.field(
        description="What is missing in the middle of `logs`, of each worker that printed much."
    )
    async def log_gaps(self, info: Info) -> list[LogGap]:
        return await info.context.load(_gaps_of, self.row.id)


@loads("job")
async def load_jobs(context: Context, keys: list[bytes]) -> list[Job | None]:
    """Jobs by key."""
    async with context.database.read() as session:
        rows = await jobs.find_jobs(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Job.of)


@loads("attempt")
async def load_attempts(context: Context, keys: list[bytes]) -> list[Attempt | None]:
    """Attempts by key."""
    async with context.database.read() as session:
        rows = await attempts.find_attempts(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Attempt.of)


@loads("worker")
async def load_workers(context: Context, keys: list[bytes]) -> list[Worker | None]:
    """Workers by key."""
    numbers = [number for key in keys if (number := int.from_bytes(key)) < 2**63]
    async with context.database.read() as session:
        rows = await attempts.find_workers(session, context.viewer, numbers)
    by_key = {row.id: Worker.of(row) for row in rows}
    return [by_key.get(int.from_bytes(key)) for key in keys]


async def expected_of(context: Context, keys: list[bytes]) -> list[expectations.Expected | None]:
    """What is expected of runs that go on."""
    async with context.database.read() as session:
        found = await expectations.of_runs(session, keys)
    return [found.get(key) for key in keys]


async def of_run(context: Context, keys: list[bytes], columns: Columns = None) -> list[list[Job]]:
    """The jobs of runs, in order."""
    async with context.database.single() as session:
        rows = await jobs.of_runs(session, keys, including(columns, "run_id"))
    return nodes.by_owner(keys, rows, attrgetter("run_id"), Job.of)


def duration(started_at: datetime | None, ended_at: datetime | None) -> float | None:
    """Seconds from a start to an end, or until now; None before the start."""
    if started_at is None:
        return None
    return ((ended_at or datetime.now(started_at.tzinfo)) - started_at).total_seconds()


@strawberry.type
class JobQuery:
    """Finding jobs."""

    @strawberry.field(description="The job of this id, or null.")
    async def job(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The id of the job.")]
    ) -> Job | None:
        wanted = found(info.context, "job", id)
        return None if wanted is None else await info.context.load(load_jobs, wanted)
