"""The inputs that say which runs: typed here, read by db/filters.py from the plain document they make.

A saved view keeps that document, so what a page asks and what it has saved are read by one reader.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import strawberry
from strawberry.scalars import JSON
from strawberry.utils.str_converters import to_camel_case

from db.conditions import Headline
from graph import enums
from graph.states import RunState


@strawberry.input(description="A name and a value.")
class TagInput:
    """A tag."""

    name: str = strawberry.field(description="1 to 100 characters.")
    value: str = strawberry.field(default="", description="Up to 500 characters.")


enums.show(
    Headline,
    "Which of a metric's headline values.",
    LAST="Of the highest step.",
    MIN="The least.",
    MAX="The greatest.",
)


@strawberry.input(description="A range of time; what has no such time is not in it.")
class TimeRange:
    """A range."""

    since: datetime | None = strawberry.field(default=None, description="At this moment or later.")
    before: datetime | None = strawberry.field(default=None, description="Earlier than this moment.")


@strawberry.input(description="An argument as it was resolved for a step. All that is given must hold.")
class ArgumentFilter:
    """An argument."""

    name: str = strawberry.field(description="The option.")
    step: str | None = strawberry.field(default=None, description="Of this step; of any when not given.")
    eq: JSON | None = strawberry.field(
        default=None, description="A number, a word, true or false; numbers compare as numbers."
    )
    lt: float | None = strawberry.field(default=None, description="Less than.")
    lte: float | None = strawberry.field(default=None, description="At most.")
    gt: float | None = strawberry.field(default=None, description="More than.")
    gte: float | None = strawberry.field(default=None, description="At least.")


@strawberry.input(description="A headline value of a metric. All that is given must hold.")
class MetricFilter:
    """A metric."""

    name: str = strawberry.field(description="The metric.")
    of: Headline | None = strawberry.field(default=None, description="Which value; LAST when not given.")
    eq: float | None = strawberry.field(default=None, description="Equal to.")
    lt: float | None = strawberry.field(default=None, description="Less than.")
    lte: float | None = strawberry.field(default=None, description="At most.")
    gt: float | None = strawberry.field(default=None, description="More than.")
    gte: float | None = strawberry.field(default=None, description="At least.")


@strawberry.input(
    description="Which runs; all that is given must hold. At most 50 conditions, nested at most 5 deep."
)
class RunFilter:
    """A filter."""

    in_states: list[RunState] | None = strawberry.field(
        name="states", default=None, description="In one of these states."
    )
    project: strawberry.ID | None = strawberry.field(default=None, description="Of this project.")
    pipeline: strawberry.ID | None = strawberry.field(default=None, description="Of this pipeline.")
    module: strawberry.ID | None = strawberry.field(
        default=None, description="With a job of any version of this module."
    )
    created_by: strawberry.ID | None = strawberry.field(default=None, description="Started by this user.")
    parent: strawberry.ID | None = strawberry.field(default=None, description="Children of this run.")
    schedule: strawberry.ID | None = strawberry.field(
        default=None, description="Started by a fire of this schedule that its history has."
    )
    dataset: strawberry.ID | None = strawberry.field(
        default=None, description="Given any version of this dataset."
    )
    dataset_version: strawberry.ID | None = strawberry.field(
        default=None, description="Given this version of a dataset."
    )
    name: str | None = strawberry.field(default=None, description="Of this very name.")
    search: str | None = strawberry.field(
        default=None, description="With this in the name or the notes, in capital or small letters (A to Z)."
    )
    tags: list[TagInput] | None = strawberry.field(default=None, description="With all of these tags.")
    has_tags: list[str] | None = strawberry.field(
        default=None, description="With tags of all of these names, whatever their values."
    )
    created_at: TimeRange | None = strawberry.field(default=None, description="Asked for in this time.")
    started_at: TimeRange | None = strawberry.field(default=None, description="Started in this time.")
    ended_at: TimeRange | None = strawberry.field(default=None, description="Ended in this time.")
    arguments: list[ArgumentFilter] | None = strawberry.field(
        default=None, description="With all of these arguments."
    )
    metrics: list[MetricFilter] | None = strawberry.field(
        default=None, description="With all of these headline values."
    )
    external: bool | None = strawberry.field(
        default=None, description="Whether code outside reports them; either when not given."
    )
    archived: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="Archived ones alone, or none of them; both when null. Where nothing in the filter says, "
        "archived ones are left out.",
    )
    every: list["RunFilter"] | None = strawberry.field(
        name="and", default=None, description="All of these hold."
    )
    some: list["RunFilter"] | None = strawberry.field(
        name="or", default=None, description="At least one of these holds."
    )
    none: "RunFilter | None" = strawberry.field(name="not", default=None, description="This does not hold.")


def document(given: Any) -> Any:
    """An input as plain JSON, without what was not given."""
    if dataclasses.is_dataclass(given):
        named = ((_name(field), getattr(given, field.name)) for field in dataclasses.fields(given))
        # Null says something of `archived` alone, whose default is not to be given.
        return {
            name: document(value)
            for name, value in named
            if value is not strawberry.UNSET and (value is not None or name == "archived")
        }
    if isinstance(given, list):
        return [document(one) for one in given]
    if isinstance(given, Enum):
        return given.value
    return given.isoformat() if isinstance(given, datetime) else given


def together(*documents: Mapping[str, Any] | None) -> dict[str, Any]:
    """One filter for which all of these hold."""
    found = [dict(one) for one in documents if one]
    if len(found) < 2:
        return found[0] if found else {}
    return {"and": found}


def _name(field: Any) -> str:
    return field.graphql_name or to_camel_case(field.name)
