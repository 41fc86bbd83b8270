"""Types that show a row: their plain fields are its columns, read when they are asked for.

A page makes thousands of values and shows a few, so nothing is copied before it is wanted; and where an operation
is known beforehand to want but some columns, the others are not even read. A resolver that says which columns it
reads (`reads`) keeps it so; beside one that does not say, rows are whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import strawberry

from db import ids

F = TypeVar("F", bound=Callable[..., Any])


class OfRow:
    """Has its row's columns as attributes, and the id that goes with its `kind`."""

    kind: ClassVar[str]
    row: strawberry.Private[Any]

    @classmethod
    def of(cls, row: Any) -> Self:
        """The object of a row."""
        made = cls.__new__(cls)
        made.row = row
        return made

    def __getattr__(self, name: str) -> Any:
        if name == "row":
            raise AttributeError(name)
        return ids.encode(self.kind, self.row.id) if name == "id" else getattr(self.row, name)


@dataclass(frozen=True, slots=True)
class Batch:
    """How a field of many objects is loaded at once: `make` makes each one's value of what `fetch` gives for its key.

    The key is in `column` of the object's row; `make` itself reads `reads` of the rows that are fetched. A fetch
    that `narrows` takes, third, the columns of its rows that will be read.
    """

    fetch: Callable[..., Any]
    column: str
    make: Callable[..., Any]
    reads: frozenset[str]
    narrows: bool


def reads(*columns: str) -> Callable[[F], F]:
    """Say which columns of its object's row a resolver reads; those alone may be there."""

    def decorate(resolve: F) -> F:
        resolve.reads = frozenset(columns)  # type: ignore[attr-defined]
        return resolve

    return decorate
