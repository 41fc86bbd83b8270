"""Node: everything that has an id, and finding it again by that id alone.

A feature registers how its kind is loaded (`loads`); ids carry their kind, so no table is searched.
"""

import asyncio
import functools
import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import groupby
from typing import Annotated, Any, TypeVar

import strawberry

from db import errors, ids, texts
from graph.context import Context, Info
from graph.rows import Batch

R = TypeVar("R")
T = TypeVar("T")

Load = Callable[[Context, list[bytes]], Awaitable[list[Any]]]

ById = Annotated[strawberry.ID | None, strawberry.argument(description="Its id: give this or `name`.")]
ByName = Annotated[str | None, strawberry.argument(description="Its name: give this or `id`.")]

_LOADS: dict[str, Load] = {}
_LISTINGS: dict[str, Callable[..., Awaitable[Any]]] = {}


@strawberry.interface(description="Something with an id of its own.")
class Node:
    """What `node(id)` finds."""

    id: strawberry.ID = strawberry.field(description="Typed and opaque, good for ever.")


def loading(
    fetch: Callable[..., Awaitable[list[Any]]], column: str = "id", *, reads: Collection[str] = ()
) -> Callable[[Callable[..., T]], Callable[..., Awaitable[T]]]:
    """Make a method a resolver that gets what `fetch` gives for a column of its row, batched with all others.

    The method takes that as its first argument, then the field's own. A key of None gives None.
    """

    def decorate(method: Callable[..., T]) -> Callable[..., Awaitable[T]]:
        @functools.wraps(method)
        async def resolve(self: Any, info: Info, **arguments: Any) -> T:
            wanted = getattr(self.row, column)
            loaded = None if wanted is None else await info.context.load(fetch, wanted)
            return method(self, loaded, **arguments)

        signature = inspect.signature(method)
        itself, _, *rest = signature.parameters.values()
        asks = inspect.Parameter("info", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Info)
        resolve.__signature__ = signature.replace(parameters=[itself, asks, *rest])  # type: ignore[attr-defined]
        narrows = "columns" in inspect.signature(fetch).parameters
        resolve.batch = Batch(fetch, column, method, frozenset(reads), narrows)  # type: ignore[attr-defined]
        return resolve

    return decorate


def loads(kind: str) -> Callable[[Load], Load]:
    """Register a loader: nodes, or None, in the order of the keys."""

    def register(load: Load) -> Load:
        _LOADS[kind] = load
        return load

    return register


def lists(kind: str) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    """Register how pages of a kind are read, for features above it to ask for by name."""

    def register(listing: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        _LISTINGS[kind] = listing
        return listing

    return register


def listing(kind: str) -> Callable[..., Awaitable[Any]]:
    """The registered way to read pages of a kind."""
    return _LISTINGS[kind]


def public(kind: str, key: bytes) -> strawberry.ID:
    """The id of a row, as the API shows it."""
    return strawberry.ID(ids.encode(kind, key))


def key(kind: str, text: str, *path: str) -> bytes:
    """The key in a given id; raises NotFound, saying where the id was given."""
    try:
        return ids.decode(kind, text)
    except errors.NotFound as error:
        raise errors.NotFound(str(error), path=path) from error


def maybe_key(kind: str, text: str | None, *path: str) -> bytes | None:
    """The key in an id that may be left out."""
    return None if text is None else key(kind, text, *path)


def found(context: Context, kind: str, text: str) -> bytes | None:
    """The key in a given id, None for what is no such id: queries answer null for what there is not.

    Nobody is told even that: raises Unauthenticated.
    """
    context.require_viewer()
    try:
        return ids.decode(kind, text)
    except errors.NotFound:
        return None


async def by_id_or_name(
    context: Context,
    kind: str,
    id: str | None,
    name: str | None,
    find: Callable[..., Awaitable[R | None]],
    make: Callable[[R], T],
) -> T | None:
    """What a lookup by an id or by a name gives: exactly one of both. `find` knows the row of a `name`."""
    context.require_viewer()
    if (id is None) is (name is None):
        raise errors.Invalid("give either id or name", path=("id",))
    if id is not None:
        seen: T | None = await get(context, kind, found(context, kind, id))
        return seen
    if not texts.is_storable(name or ""):
        return None
    async with context.database.read() as session:
        row = await find(session, context.viewer, name=name)
    return None if row is None else make(row)


def by_key(keys: Iterable[Any], rows: Iterable[Any], make: Callable[[Any], T]) -> list[T | None]:
    """One object a key, in the order of the keys: what `make` makes of the row of that id, else None."""
    made = {row.id: make(row) for row in rows}
    return [made.get(key) for key in keys]


def by_owner(
    keys: Iterable[Any],
    rows: Iterable[Any],
    owner: Callable[[Any], Any],
    make: Callable[[Any], Any] | None = None,
) -> list[list[Any]]:
    """The objects of each key, in the order of the rows: what `make` makes of the rows it owns, or the rows."""
    owned: defaultdict[Any, list[Any]] = defaultdict(list)
    for key, own in groupby(rows, owner):  # most are ordered by it
        some = list(own)
        owned[key] += some if make is None else map(make, some)
    return [owned.get(key, []) for key in keys]


async def get(context: Context, kind: str, key: bytes | None) -> Any:
    """The object of this key, batched with others of its kind; None where there is no key or nothing seen."""
    return None if key is None else await context.load(_LOADS[kind], key)


async def find(context: Context, text: str) -> Any:
    """Whatever has this id and may be seen, else None."""
    context.require_viewer()
    try:
        kind, value = ids.split(text)
    except errors.NotFound:
        return None
    load = _LOADS.get(kind)
    return None if load is None else await context.load(load, value)


@strawberry.type
class NodeQuery:
    """Finding by id."""

    @strawberry.field(description="The object of this id, or null.")
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of any object.")],
    ) -> Node | None:
        found: Node | None = await find(info.context, id)
        return found

    @strawberry.field(description="The objects of these ids, null where there is none; at most 100.")
    async def nodes(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="At most 100, of any objects.")],
    ) -> list[Node | None]:
        if len(ids) > 100:
            raise errors.LimitExceeded("at most 100 ids at once", path=("ids",))
        return list(await asyncio.gather(*(find(info.context, text) for text in ids)))
