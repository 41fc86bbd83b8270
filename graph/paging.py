"""Connections: lists by keyset cursors, one rule for all.

Exactly one of `first` and `last`, at most 100. A cursor is opaque; inside it is the sort key of its row.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import orjson
import strawberry

from db import errors, paging
from db.paging import Page, Slice

T = TypeVar("T")
DEFAULT = 20


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

    edges: list[Edge[T]] = strawberry.field(description="The items with their cursors.")
    nodes: list[T] = strawberry.field(description="The items.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")


def page(first: int | None, after: str | None, last: int | None, before: str | None) -> Page:
    """The page that a connection's arguments ask for; without `first` and `last` the first 20."""
    if first is not None and last is not None:
        raise errors.Invalid("give first or last, not both", path=("first",))
    size = first if first is not None else last if last is not None else DEFAULT
    if not 1 <= size <= paging.MOST:
        raise errors.Invalid(f"a page has 1 to {paging.MOST} items, not {size}", path=("first",))
    if (after is not None and last is not None) or (before is not None and last is None):
        raise errors.Invalid("after goes with first, before with last", path=("after",))
    return Page(
        size,
        after=None if after is None else _decode(after, "after"),
        before=None if before is None else _decode(before, "before"),
        backward=last is not None,
    )


def cursor(key: Any) -> str:
    """The opaque form of a sort key: bytes, a number, or a tuple of numbers."""
    document = key.hex() if isinstance(key, bytes) else key
    return base64.urlsafe_b64encode(orjson.dumps(document)).rstrip(b"=").decode()


def connect(rows: Slice[Any], key: Callable[[Any], Any], node: Callable[[Any], T]) -> "Connection[T]":
    """A connection from a slice of rows."""
    edges = [Edge(cursor=cursor(key(row)), node=node(row)) for row in rows.rows]
    return Connection(
        edges=edges,
        nodes=[edge.node for edge in edges],
        page_info=PageInfo(
            has_next_page=rows.has_next,
            has_previous_page=rows.has_previous,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
    )


def _decode(text: str, argument: str) -> Any:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if isinstance(value, str):
            return bytes.fromhex(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if _are_numbers(value):
            return tuple(value)
    except ValueError:
        pass
    raise errors.Invalid("this is no cursor of this list", path=(argument,))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(type(part) is int for part in value)
