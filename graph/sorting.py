"""The input that says in which order runs are listed; db/sorting.py reads it."""

from enum import Enum

import strawberry

from db.conditions import Headline


@strawberry.enum(description="What runs are sorted by.")
class RunSortKey(Enum):
    """Orders of runs."""

    CREATED = strawberry.enum_value("CREATED", description="When they were asked for.")
    STARTED = strawberry.enum_value("STARTED", description="When their first job was launched.")
    ENDED = strawberry.enum_value("ENDED", description="When their last job ended.")
    DURATION = strawberry.enum_value("DURATION", description="From start to end, of those that have ended.")
    NAME = strawberry.enum_value("NAME", description="By the letters' code points.")
    PRIORITY = strawberry.enum_value("PRIORITY", description="The highest first, when descending.")
    STATE = strawberry.enum_value("STATE", description="QUEUED first, CANCELLED last, when ascending.")
    METRIC = strawberry.enum_value("METRIC", description="A headline value of the metric `name`.")
    ARGUMENT = strawberry.enum_value(
        "ARGUMENT",
        description="The option `name` of `step`, else of the first step that has it; numbers first.",
    )
    TAG = strawberry.enum_value("TAG", description="The value of the tag `name`.")


@strawberry.enum(description="Which way a list runs.")
class Direction(Enum):
    """Directions."""

    ASCENDING = strawberry.enum_value("ASCENDING", description="The least first.")
    DESCENDING = strawberry.enum_value("DESCENDING", description="The greatest first.")


@strawberry.input(
    description="An order of runs. What has no such value comes last either way; ties go by id, the same way."
)
class RunSort:
    """An order."""

    by: RunSortKey = strawberry.field(description="What to sort by.")
    direction: Direction | None = strawberry.field(default=None, description="DESCENDING when not given.")
    name: str | None = strawberry.field(
        default=None, description="Of the metric, the option or the tag, for those three."
    )
    step: str | None = strawberry.field(default=None, description="Whose argument.")
    of: Headline | None = strawberry.field(
        default=None, description="Which value of a metric; LAST when not given."
    )
