"""External runs: created here, executed anywhere, reported by whoever holds the run's token."""

import strawberry

from db import columns, errors, external_reports, externals, states
from db.lines import Line
from graph import jobs
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.filters import TagInput
from graph.jobs import Job, load_jobs
from graph.logs import LogStream
from graph.nodes import key, maybe_key
from graph.runs import Run, load_runs
from graph.scalars import Int64


@strawberry.input(description="A run that code outside will report to.")
class CreateRunInput:
    """Input of createRun."""

    name: str = strawberry.field(description="1 to 200 characters.")
    step: str = strawberry.field(default="main", description="What its one job is called.")
    notes: str = strawberry.field(default="", description="Up to 100,000 characters.")
    tags: list[TagInput] = strawberry.field(default_factory=list, description="At most 100.")
    heartbeat_seconds: float = strawberry.field(
        default=60.0, description="It is LOST when nothing is heard for three times as long; 1 to 86,400."
    )
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )
    parent: strawberry.ID | None = strawberry.field(
        default=None, description="A run of the same project that this one is a part of."
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same key with the same input gives the run and token it gave."
    )


@strawberry.type(description="The run and what to report with, or every mistake.")
class CreateRunPayload:
    """Payload of createRun."""

    run: Run | None = strawberry.field(default=None, description="RUNNING.")
    job: Job | None = strawberry.field(default=None, description="What to report for; the token knows it.")
    token: str | None = strawberry.field(
        default=None, description="Reports to this run and reads it, nothing else; good until it is deleted."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="A line of a log.")
class LineInput:
    """A line."""

    text: str = strawberry.field(description="Up to 65,536 characters; newlines make several lines of it.")
    stream: LogStream | None = strawberry.field(default=None, description="STDOUT when not given.")
    time: Int64 | None = strawberry.field(
        default=None, description="Microseconds since the epoch; now when not given."
    )


@strawberry.input(description="A batch of lines. A repeat of (producer, number) changes nothing.")
class LogLinesInput:
    """Input of logLines."""

    producer: str = strawberry.field(description="Who sends, for example a random word a process.")
    number: Int64 = strawberry.field(description="Grows with every batch of lines of the producer.")
    lines: list[LineInput] = strawberry.field(description="1 to 10,000, in order.")
    job: strawberry.ID | None = strawberry.field(
        default=None, description="The token's own job when not given."
    )


@strawberry.type(description="Where the batch stands, or why it was refused.")
class LogLinesPayload:
    """Payload of logLines."""

    seq: Int64 | None = strawberry.field(default=None, description="The number in the run's feed.")
    duplicate: bool = strawberry.field(default=False, description="Whether it had been committed before.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Who lives.")
class HeartbeatInput:
    """Input of heartbeat."""

    job: strawberry.ID | None = strawberry.field(
        default=None, description="The token's own job when not given."
    )


@strawberry.type(description="What the reporter should know, or why it was refused.")
class HeartbeatPayload:
    """Payload of heartbeat."""

    cancel_requested: bool = strawberry.field(
        default=False, description="Whether it should stop and say so with finishRun."
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="Uploaded files that the run made.")
class AddOutputsInput:
    """Input of addOutputs."""

    files: list[strawberry.ID] = strawberry.field(description="Complete uploads, in order; at most 1,000.")
    job: strawberry.ID = strawberry.field(description="The job that made them.")


@strawberry.type(description="The job, or why it was refused.")
class AddOutputsPayload:
    """Payload of addOutputs."""

    job: Job | None = strawberry.field(default=None, description="With them among its outputs.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="How the run ended.")
class FinishRunInput:
    """Input of finishRun."""

    state: states.JobState = strawberry.field(description="SUCCEEDED, FAILED or CANCELLED.")
    message: str | None = strawberry.field(default=None, description="Why, up to 10,000 characters.")
    exit_code: int | None = strawberry.field(default=None, description="If there is one.")
    job: strawberry.ID | None = strawberry.field(
        default=None, description="The token's own job when not given."
    )


@strawberry.type(description="The run, or why it was refused.")
class FinishRunPayload:
    """Payload of finishRun."""

    run: Run | None = strawberry.field(default=None, description="CANCELLED where that had been asked for.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class ExternalMutation:
    """Reporting from outside."""

    @strawberry.mutation(
        description="Make a run that nothing is launched for: code anywhere reports to it with its token, by"
        " logMetrics, logLines, heartbeat and finishRun."
    )
    @refusing(CreateRunPayload)
    async def create_run(self, info: Info, input: CreateRunInput) -> CreateRunPayload:
        context = info.context
        spec = externals.ExternalSpec(
            name=input.name,
            step=input.step,
            notes=input.notes,
            tags=[(tag.name, tag.value) for tag in input.tags],
            heartbeat_seconds=input.heartbeat_seconds,
            project_id=maybe_key("project", input.project, "project"),
            parent_id=maybe_key("run", input.parent, "parent"),
            idempotency_key=input.idempotency_key,
        )
        run_id = await context.act(externals.create, spec)
        async with context.database.read() as session:
            external = await externals.get(session, run_id)
        (job,) = await context.load(jobs.of_run, run_id)
        token = context.around.credentials.attempt_token(external.attempt_id)
        return CreateRunPayload(run=await context.load(load_runs, run_id), job=job, token=token)

    @strawberry.mutation(description="Add lines to an external run's log; answered once they are committed.")
    @refusing(LogLinesPayload)
    async def log_lines(self, info: Info, input: LogLinesInput) -> LogLinesPayload:
        context = info.context
        now = columns.microseconds(columns.now())
        lines = [
            Line(now if one.time is None else one.time, (one.stream or LogStream.STDOUT).value, one.text)
            for one in input.lines
        ]
        seq, duplicate = await context.act(
            external_reports.log_lines, _job(context, input.job), input.producer, input.number, lines
        )
        return LogLinesPayload(seq=Int64(seq), duplicate=duplicate)

    @strawberry.mutation(description="Say that an external run goes on, and learn whether it should stop.")
    @refusing(HeartbeatPayload)
    async def heartbeat(self, info: Info, input: HeartbeatInput) -> HeartbeatPayload:
        context = info.context
        asked = await context.act(external_reports.heartbeat, _job(context, input.job))
        return HeartbeatPayload(cancel_requested=asked)

    @strawberry.mutation(
        description="List uploaded files as outputs of an external run; not with the run's own token."
    )
    @refusing(AddOutputsPayload)
    async def add_outputs(self, info: Info, input: AddOutputsInput) -> AddOutputsPayload:
        context = info.context
        job_id = key("job", input.job, "job")
        files = [key("file", text, "files", str(at)) for at, text in enumerate(input.files)]
        await context.act(external_reports.add_outputs, job_id, files)
        return AddOutputsPayload(job=await context.load(load_jobs, job_id))

    @strawberry.mutation(description="End an external run; a repeat changes nothing.")
    @refusing(FinishRunPayload)
    async def finish_run(self, info: Info, input: FinishRunInput) -> FinishRunPayload:
        context = info.context
        job_id = _job(context, input.job)
        run_id = await context.act(
            external_reports.finish, job_id, input.state, message=input.message, exit_code=input.exit_code
        )
        return FinishRunPayload(run=await context.load(load_runs, run_id))


def _job(context: Context, given: str | None) -> bytes:
    """The job that is meant: the given one, or the token's own."""
    if given is not None:
        return key("job", given, "job")
    if context.viewer.job_id is None:
        raise errors.Invalid("say which job, or use the run's token", path=("job",))
    return context.viewer.job_id
