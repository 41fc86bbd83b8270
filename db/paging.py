"""Keyset pages: a cursor is the sort key of a row, so that a page costs the same wherever it begins.

No offset and no count. A walk repeats no unchanged row, whatever is inserted meanwhile; it does not freeze
the order.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select

from db.database import Session

T = TypeVar("T")

MOST = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list: `size` rows past the key `after` (or before `before`, counted from the end)."""

    size: int
    after: Any = None
    before: Any = None
    backward: bool = False


@dataclass(frozen=True, slots=True)
class Slice(Generic[T]):
    """The rows of a page in list order, and whether there are more on either side.

    `keys` are the rows' places in the order, where that is not by id. A search that has met enough ends
    before its page is full: `resume` says where it goes on, in the direction of the page.
    """

    rows: list[T]
    has_next: bool
    has_previous: bool
    keys: list[Any] | None = None
    resume: Any = None
    backward: bool = False


async def fetch(
    session: Session,
    kind: type[T],
    statement: Select[Any],
    key: Any,
    page: Page,
    *,
    newest_first: bool = True,
) -> Slice[T]:
    """The page of a statement ordered by a unique column, `key`."""
    descending = newest_first is not page.backward
    if page.after is not None:
        statement = statement.where(key < page.after if newest_first else key > page.after)
    if page.before is not None:
        statement = statement.where(key > page.before if newest_first else key < page.before)
    statement = statement.order_by(key.desc() if descending else key.asc()).limit(page.size + 1)
    rows = await session.all(kind, statement)
    more = len(rows) > page.size
    rows = rows[: page.size]
    if page.backward:
        return Slice(rows[::-1], has_next=page.before is not None, has_previous=more)
    return Slice(rows, has_next=more, has_previous=page.after is not None)
