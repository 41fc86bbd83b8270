"""Steps of pipelines: as the API shows them, and as it takes them.

What is given becomes the document that documents.py reads, so that a pipeline means the same whether it comes
from here or from a file.
"""

from typing import Any

import strawberry
from strawberry.scalars import JSON

from db import conditions, documents, errors, modules, selections, steps
from graph import enums, functions, states
from graph.context import Context, Info

enums.show(
    conditions.Op,
    "How two values are compared.",
    name="Comparison",
    LT="Less than.",
    LTE="Less than, or equal.",
    GT="Greater than.",
    GTE="Greater than, or equal.",
    EQ="Equal.",
    NE="Not equal.",
)
enums.show(
    conditions.Jobs,
    "Of a step with several jobs: for each, or for one of them.",
    name="Quantifier",
    EVERY="For each of them.",
    ANY="For at least one of them.",
)


@strawberry.type(description="Files that a step reads.")
class Selection:
    """A selection."""

    step: str | None = strawberry.field(description="The step that hands them on; null is the run itself.")
    matrix: JSON | None = strawberry.field(
        description="Only its jobs with these values; null is all of them."
    )
    files: str = strawberry.field(description="A glob that their names fit.")
    prefix: bool = strawberry.field(description="Whether their job's label and a dash precede their names.")


@strawberry.type(description="A function with arguments, in its place in the graph.")
class Step:
    """A step."""

    row: strawberry.Private[steps.Step]
    all_names: strawberry.Private[list[str]]
    name: str = strawberry.field(description="Unique in its pipeline.")
    address: str = strawberry.field(description="module/function.")
    arguments: JSON = strawberry.field(description="As its author gave them.")
    cache: bool = strawberry.field(
        description="Whether its jobs may take the outputs of one that has done the same."
    )
    matrix: JSON | None = strawberry.field(
        description="Lists of values by option: it has a job for each combination."
    )
    when: JSON | None = strawberry.field(
        description="The condition under which it runs, as ConditionInput has it."
    )

    @strawberry.field(description="The function as it is active now; null when it is gone.")
    async def function(self, info: Info) -> functions.Function | None:
        return await info.context.load(_active_functions, (self.row.module_id, self.address))

    @strawberry.field(description="The steps that come first; so does what `inputs` and `when` name.")
    def needs(self) -> list[str]:
        return [self.all_names[position] for position in self.row.needs]

    @strawberry.field(description="What it reads; null: what `needs` hands on, without any the run's files.")
    def inputs(self) -> list[Selection] | None:
        if self.row.inputs is None:
            return None
        found = (selections.Selection.decode(document) for document in self.row.inputs)
        return [
            Selection(
                step=one.source.step if one.source else None,
                matrix=JSON(dict(one.source.matrix)) if one.source and one.source.matrix else None,
                files=one.files,
                prefix=one.prefix,
            )
            for one in found
        ]


async def of_revision(context: Context, keys: list[bytes]) -> list[list[Step]]:
    """The steps of revisions, in order."""
    async with context.database.read() as session:
        rows = await steps.steps_of(session, keys)
    return [_steps([row for row in rows if row.revision_id == key]) for key in keys]


def _steps(rows: list[steps.Step]) -> list[Step]:
    names = [row.name for row in rows]
    return [
        Step(
            row=row,
            all_names=names,
            name=row.name,
            address=row.address,
            arguments=JSON(row.arguments),
            cache=row.cache,
            matrix=JSON(row.matrix),
            when=JSON(row.condition),
        )
        for row in rows
    ]


async def _active_functions(
    context: Context, keys: list[tuple[bytes, str]]
) -> list[functions.Function | None]:
    async with context.database.read() as session:
        rows = await modules.active_functions(session, {module_id for module_id, _ in keys})
    by_key = {(row.module_id, row.name): functions.Function.of(row) for row in rows}
    return [by_key.get((module_id, address.partition("/")[2])) for module_id, address in keys]


@strawberry.input(description="Files to read: of a step, or of the run where none is named.")
class SelectionInput:
    """A selection as its author gives it."""

    step: str | None = strawberry.field(
        default=None, description="It is needed then; the run's own files when not given."
    )
    matrix: JSON | None = strawberry.field(
        default=None, description="Values by option: only the step's jobs that have them."
    )
    files: str | None = strawberry.field(default=None, description="A glob of names; `*` when not given.")
    prefix: bool = strawberry.field(
        default=False, description="Put the label of a file's job and a dash before its name."
    )

    def document(self) -> dict[str, Any]:
        """As documents.py reads it."""
        return {"step": self.step, "matrix": self.matrix, "files": self.files, "prefix": self.prefix}


@strawberry.input(
    description="One of: metric with op and value; tag with op and value; state; all; any; not."
)
class ConditionInput:
    """A condition as its author gives it."""

    step: str | None = strawberry.field(
        default=None, description="The step it asks about; it is needed then."
    )
    matrix: JSON | None = strawberry.field(
        default=None, description="Only the step's jobs with these values."
    )
    metric: str | None = strawberry.field(
        default=None, description="A metric of the step's job, of its latest attempt, rank 0."
    )
    of: conditions.Headline | None = strawberry.field(default=None, description="LAST when not given.")
    tag: str | None = strawberry.field(default=None, description="A tag of any file that the step hands on.")
    state: states.JobState | None = strawberry.field(
        default=None, description="How the step ended; it need not succeed then."
    )
    op: conditions.Op | None = strawberry.field(default=None, description="Of a state EQ, or NE.")
    value: JSON | None = strawberry.field(default=None, description="What to compare with.")
    jobs: conditions.Jobs | None = strawberry.field(default=None, description="EVERY when not given.")
    all: list["ConditionInput"] | None = strawberry.field(default=None, description="All of these hold.")
    any: list["ConditionInput"] | None = strawberry.field(default=None, description="One of these holds.")
    not_: "ConditionInput | None" = strawberry.field(
        name="not", default=None, description="It does not hold."
    )

    def document(self) -> dict[str, Any]:
        """As documents.py reads it."""
        return {
            "step": self.step,
            "matrix": self.matrix,
            "metric": self.metric,
            "of": self.of.value if self.of else None,
            "tag": self.tag,
            "state": self.state.value if self.state else None,
            "op": self.op.value if self.op else None,
            "value": self.value,
            "jobs": self.jobs.value if self.jobs else None,
            "all": None if self.all is None else [part.document() for part in self.all],
            "any": None if self.any is None else [part.document() for part in self.any],
            "not": None if self.not_ is None else self.not_.document(),
        }


@strawberry.input(description="A step of a pipeline.")
class StepInput:
    """A step as its author gives it."""

    name: str = strawberry.field(description="Unique in the pipeline.")
    function: str = strawberry.field(description="module/function.")
    arguments: JSON | None = strawberry.field(
        default=None, description="Options by name; none when not given."
    )
    needs: list[str] | None = strawberry.field(
        default=None, description="Names of steps that come first; the step above when not given."
    )
    inputs: list[SelectionInput] | None = strawberry.field(
        default=None, description="What it reads; what `needs` hands on when not given, or the run's files."
    )
    when: ConditionInput | None = strawberry.field(
        default=None, description="It is SKIPPED where this does not hold when its turn comes."
    )
    matrix: JSON | None = strawberry.field(
        default=None, description="Lists of values by option: a job for each combination."
    )
    cache: bool = strawberry.field(
        default=False,
        description="Take the outputs of a job that has done the same, if there is one; never in a run that is given "
        "data sources.",
    )

    def document(self) -> dict[str, Any]:
        """As documents.py reads it."""
        return {
            "name": self.name,
            "function": self.function,
            "arguments": self.arguments,
            "needs": self.needs,
            "inputs": None if self.inputs is None else [one.document() for one in self.inputs],
            "when": None if self.when is None else self.when.document(),
            "matrix": self.matrix,
            "cache": self.cache,
        }


def specs(given: list[StepInput]) -> list[steps.StepSpec]:
    """Steps as the system of record takes them; raises Invalid with every mistake in how they are written."""
    found, problems = documents.read_steps([step.document() for step in given])
    if problems:
        raise errors.Invalid(problems=problems)
    return found


def arguments(value: Any, *path: str) -> dict[str, Any]:
    """Arguments must be an object, or nothing; raises Invalid with the path."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise errors.Invalid("arguments are an object of options by name", path=path)
    return value
