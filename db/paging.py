"""Keyset pages: a cursor is the sort key of a row, so that a page costs the same wherever it begins.

No offset and no count. A walk repeats no unchanged row, whatever is inserted meanwhile; it does not freeze
the order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Integer, Select, bindparam

from db.database import Session
from db.rows import Columns, Query, including

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
    parameters: Mapping[str, Any] | None = None,
    columns: Columns = None,
) -> Slice[T]:
    """The page of a statement ordered by a unique column, `key`.

    A statement that is given `parameters` is one of few and the same every time: its pages are built once, and
    may have no more than these `columns` and the key.
    """
    arguments = key, page.after is not None, page.before is not None, page.backward, newest_first
    built = _paged(statement, *arguments) if parameters is None else _query(statement, *arguments)
    wanted = including(columns, key.key)
    edges = {"page_after": page.after, "page_before": page.before}
    given = {name: value for name, value in edges.items() if value is not None}
    rows = await session.all(kind, built, {**given, **(parameters or {}), "page_size": page.size + 1}, wanted)
    more = len(rows) > page.size
    rows = rows[: page.size]
    if page.backward:
        return Slice(rows[::-1], has_next=page.before is not None, has_previous=more)
    return Slice(rows, has_next=more, has_previous=page.after is not None)


@lru_cache(maxsize=64)
def _query(statement: Select[Any], *arguments: Any) -> Query:
    return Query(_paged(statement, *arguments))


def _paged(
    statement: Select[Any], key: Any, begun: bool, ended: bool, backward: bool, newest_first: bool
) -> Select[Any]:
    after, before = bindparam("page_after", type_=key.type), bindparam("page_before", type_=key.type)
    if begun:
        statement = statement.where(key < after if newest_first else key > after)
    if ended:
        statement = statement.where(key > before if newest_first else key < before)
    order = key.desc() if newest_first is not backward else key.asc()
    return statement.order_by(order).limit(bindparam("page_size", type_=Integer))
