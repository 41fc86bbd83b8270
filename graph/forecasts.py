"""validateRun: what startRun would do with the same input, and every mistake that it would tell."""

import strawberry
from strawberry.scalars import JSON

from db import forecasts
from db.errors import Invalid
from graph import functions, nodes
from graph.context import Context, Info
from graph.errors import UserError, refusing, told
from graph.jobs import Job
from graph.pipelines import PipelineRevision
from graph.preparations import Preparation
from graph.runs import Run
from graph.starts import StartRunInput, spec_of


@strawberry.type(description="Files that a job would read.")
class PlannedInput:
    """What a selection would pick."""

    jobs: list[str] | None = strawberry.field(
        description="The labels of the jobs that hand them on; null: the run's own files."
    )
    files: str = strawberry.field(description="A glob that their names fit.")
    prefix: bool = strawberry.field(description="Whether their job's label and a dash precede their names.")
    names: list[str] | None = strawberry.field(
        description=f"Of the run's own files those it picks, at most {forecasts.MOST_NAMES}; else null."
    )
    count: int | None = strawberry.field(description="How many of the run's own files it picks; else null.")


@strawberry.type(description="A job that the run would have.")
class PlannedJob:
    """A planned job."""

    plan: strawberry.Private[forecasts.PlannedJob]
    label: str = strawberry.field(description="What Job.step would be: unique in the run.")
    step: str = strawberry.field(description="The step's name.")
    matrix: JSON | None = strawberry.field(description="Its values of what its step's matrix varies.")
    arguments: JSON = strawberry.field(description="Every option with its value.")
    needs: list[str] = strawberry.field(description="The labels of jobs that must have succeeded first.")
    awaits: list[str] = strawberry.field(
        description="The labels of jobs that must have ended first, however."
    )
    when: str | None = strawberry.field(description="Its condition, in words; null when it runs anyway.")
    workers: int = strawberry.field(description="How many run together.")
    timeout_seconds: float | None = strawberry.field(description="How long an attempt may take.")
    retries: int = strawberry.field(
        description="Attempts after the first, where EXIT_CODE, OUT_OF_MEMORY, PREEMPTED or LOST ended the last."
    )
    cache: bool = strawberry.field(description="Whether it may take the outputs of another job.")
    prepared: bool = strawberry.field(
        description="Whether its module version is ready on the backend; if not, it waits for that."
    )
    rejection: str | None = strawberry.field(
        description="Why it would end LAUNCH_REJECTED: it asks for more than the whole backend has."
    )
    bad_input: str | None = strawberry.field(
        description="Why it would end BAD_INPUT, where the run's own files alone decide that."
    )

    @strawberry.field(description="What it would execute, in this version.")
    async def function(self, info: Info) -> functions.Function:
        found: functions.Function = await nodes.get(info.context, "function", self.plan.function_id)
        return found

    @strawberry.field(description="What each worker asks for.")
    def resources(self) -> functions.Resources:
        return functions.resources_of(self.plan)

    @strawberry.field(
        description="Attempts after certain ends, one rule a reason: the run's, then the function's."
    )
    def retry(self) -> list[functions.RetryRule]:
        return [functions.RetryRule.of(rule) for rule in self.plan.retry]

    @strawberry.field(description="What it would read.")
    def inputs(self) -> list[PlannedInput]:
        return [
            PlannedInput(
                jobs=None if one.jobs is None else list(one.jobs),
                files=one.files,
                prefix=one.prefix,
                names=None if one.names is None else list(one.names),
                count=one.count,
            )
            for one in self.plan.inputs
        ]

    @strawberry.field(description="How far its module version is made ready on the backend.")
    async def preparation(self, info: Info) -> Preparation | None:
        found: Preparation | None = await nodes.get(info.context, "preparation", self.plan.preparation_id)
        return found

    @strawberry.field(
        description="The job whose outputs it would take now; null where there is none, or where what it reads "
        "is not known yet."
    )
    async def reuses(self, info: Info) -> Job | None:
        found: Job | None = await nodes.get(info.context, "job", self.plan.reuses)
        return found


@strawberry.type(description="What startRun would do with this input.")
class RunPlan:
    """A plan."""

    plan: strawberry.Private[forecasts.Forecast | None] = None
    valid: bool = strawberry.field(default=False, description="Whether startRun would succeed.")
    errors: list[UserError] = strawberry.field(
        default_factory=list, description="Every mistake, as startRun would tell it."
    )
    jobs: list[PlannedJob] = strawberry.field(
        default_factory=list, description="In order; with errors, those that are right."
    )

    @strawberry.field(description="The revision that would be executed.")
    async def revision(self, info: Info) -> PipelineRevision | None:
        revision_id = None if self.plan is None else self.plan.revision_id
        found: PipelineRevision | None = await nodes.get(info.context, "revision", revision_id)
        return found

    @strawberry.field(
        description="The run that this idempotency key has started from this input: startRun would answer it."
    )
    async def run(self, info: Info) -> Run | None:
        started = None if self.plan is None else self.plan.started
        found: Run | None = await nodes.get(info.context, "run", started)
        return found


@strawberry.type
class ForecastQuery:
    """Looking ahead."""

    @strawberry.field(
        description="What startRun would do with this input: its jobs, or every mistake. Nothing is started."
    )
    async def validate_run(self, info: Info, input: StartRunInput) -> RunPlan:
        info.context.require_viewer()
        return await _foreseen(info.context, input)


@refusing(RunPlan)
async def _foreseen(context: Context, input: StartRunInput) -> RunPlan:
    spec = spec_of(context, input)
    # A plan may have a thousand jobs and a dataset's files: other requests need not wait for reading them.
    async with context.database.scan() as session:
        plan = await forecasts.make(session, context.viewer, spec)
    return RunPlan(
        plan=plan,
        valid=not plan.problems,
        errors=told(Invalid(problems=plan.problems)) if plan.problems else [],
        jobs=[_job(job) for job in plan.jobs],
    )


def _job(plan: forecasts.PlannedJob) -> PlannedJob:
    return PlannedJob(
        plan=plan,
        label=plan.label,
        step=plan.step,
        matrix=JSON(dict(plan.matrix)) if plan.matrix else None,
        arguments=JSON(dict(plan.arguments)),
        needs=list(plan.needs),
        awaits=list(plan.awaits),
        when=plan.when,
        workers=plan.workers,
        timeout_seconds=plan.timeout_seconds,
        retries=plan.retries,
        cache=plan.cache,
        prepared=plan.prepared,
        rejection=plan.rejection,
        bad_input=plan.bad_input,
    )
