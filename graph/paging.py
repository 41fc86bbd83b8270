"""Connections: lists by keyset cursors, one rule for all.

Exactly one of `first` and `last`, at most 100, of log lines 500. A cursor is opaque; inside it is the sort
key of its row.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import orjson
import strawberry

from db import errors, paging
from db.paging import Page, Slice

T = TypeVar("T")
DEFAULT = 20

First = Annotated[
    int | None,
    strawberry.argument(
        description="So many from the list's start, at most 100 (of log lines 500); 20 without it and `last`."
    ),
]
After = Annotated[
    str | None,
    strawberry.argument(description="With `first`: only what follows this cursor, as `endCursor` has it."),
]
Last = Annotated[
    int | None, strawberry.argument(description="So many from the list's end, in place of `first`.")
]
Before = Annotated[
    str | None,
    strawberry.argument(description="With `last`: only what precedes this cursor, as `startCursor` has it."),
]


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    """The page's edges."""

    has_next_page: bool = strawberry.field(description="Whether more follows.")
    has_previous_page: bool = strawberry.field(description="Whether more comes before.")
    start_cursor: str | None = strawberry.field(description="The cursor of the first edge.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last edge.")


@strawberry.type(description="An item in its list.")
class Edge(Generic[T]):
    """An edge."""

    cursor: str = strawberry.field(description="Where it stands in the list.")
    node: T = strawberry.field(description="The item.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[T]):
    """A connection."""

    keys: strawberry.Private[Sequence[Any]]

    @strawberry.field(description="The items with their cursors.")
    def edges(self) -> list[Edge[T]]:
        pairs = zip(self.keys, self.nodes, strict=True)
        return [Edge(cursor=cursor(key), node=node) for key, node in pairs]

    nodes: list[T] = strawberry.field(description="The items.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")


def an_id(value: Any) -> bytes | None:
    """The sort key of lists by id, from what a cursor holds; None when it is none."""
    if not isinstance(value, str):
        return None
    key = bytes.fromhex(value)
    return key if len(key) == 16 else None


def a_number(value: Any) -> int | None:
    """The sort key of lists by number."""
    return value if type(value) is int and 0 <= value < 2**31 else None


def a_line(value: Any) -> tuple[int, int] | None:
    """The sort key of log lines: the number of their batch, and their place in it."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    seq, index = value
    fits = type(seq) is int and type(index) is int and 0 <= seq < 2**63 and 0 <= index < 2**31
    return (seq, index) if fits else None


def page(
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    key: Callable[[Any], Any] = an_id,
    most: int = paging.MOST,
) -> Page:
    """The page that a connection's arguments ask for; without `first` and `last` the first 20.

    `key` is the list's kind of sort key: another list's cursor is refused.
    """
    if first is not None and last is not None:
        raise errors.Invalid("give first or last, not both", path=("first",))
    size = first if first is not None else last if last is not None else DEFAULT
    if not 1 <= size <= most:
        raise errors.Invalid(f"a page has 1 to {most} items, not {size}", path=("first",))
    if (after is not None and last is not None) or (before is not None and last is None):
        raise errors.Invalid("after goes with first, before with last", path=("after",))
    return Page(
        size,
        after=None if after is None else _decode(after, "after", key),
        before=None if before is None else _decode(before, "before", key),
        backward=last is not None,
    )


def cursor(key: Any) -> str:
    """The opaque form of a sort key: bytes, a number, or a tuple of numbers."""
    document = key.hex() if isinstance(key, bytes) else key
    return base64.urlsafe_b64encode(orjson.dumps(document)).rstrip(b"=").decode()


def connect(rows: Slice[Any], key: Callable[[Any], Any], node: Callable[[Any], T]) -> "Connection[T]":
    """A connection from a slice of rows."""
    keys = [key(row) for row in rows.rows] if rows.keys is None else rows.keys
    start, end = (cursor(keys[0]), cursor(keys[-1])) if keys else (None, None)
    if rows.resume is not None:
        # A search that ended early goes on behind what it has met, not behind what it shows.
        start, end = (cursor(rows.resume), end) if rows.backward else (start, cursor(rows.resume))
    return Connection(
        keys=keys,
        nodes=[node(row) for row in rows.rows],
        page_info=PageInfo(
            has_next_page=rows.has_next,
            has_previous_page=rows.has_previous,
            start_cursor=start,
            end_cursor=end,
        ),
    )


def _decode(text: str, argument: str, key: Callable[[Any], Any]) -> Any:
    try:
        found = key(orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    except ValueError:
        found = None
    if found is None:
        raise errors.Invalid("this is no cursor of this list", path=(argument,))
    return found
