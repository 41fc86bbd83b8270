"""Queries a level at a time: each field is read from all objects of a level at once, instead of each alone.

graphql-core walks an answer object by object, and pays for every value what a general engine pays: an info, a
path, a completion, and on the way to a loader a task and a future. Here a level's objects go through a field
together (levels.py), and a resolver that asks a loader is parked without a task until all that can be asked
for is known. Resolvers are the same and do not notice. It knows only success: whatever goes wrong, the query
is executed again by graphql-core, which has the exact errors, paths and nulls. Of a mutation only what it made goes
this way, where no resolver is needed any more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Sequence
from contextlib import suppress
from itertools import chain, islice, repeat
from operator import attrgetter
from types import coroutine
from typing import Any, TypeVar

import numpy as np
from graphql.pyutils import Path

from db.rows import Columns
from graph.leaves import Unusual
from graph.levels import Field, Level, Shape, plain_part, runtime_levels
from graph.literals import as_ever
from graph.scalars import Records

MOST_KEYS = 1000
"""What a loader is asked for at once."""

Fetch = Callable[..., Awaitable[list[Any]]]
Made = TypeVar("Made")

_driving: "Sweep | None" = None
"""The sweep whose resolver runs in this very moment: never set while anything is awaited."""


def current() -> "Sweep | None":
    """The sweep that runs who asks, so that it may be parked; None for whoever has a task of its own."""
    return _driving


class RootFailed(Exception):
    """A resolver of the query itself has raised its cause: nothing else of that field is known yet."""

    def __init__(self, field: Field) -> None:
        super().__init__(field.key)
        self.field = field


class Want:
    """A resolver's wish for what `fetch` gives for a key: awaiting it parks the resolver."""

    __slots__ = ("fetch", "key")

    def __init__(self, fetch: Fetch, key: Hashable) -> None:
        self.fetch = fetch
        self.key = key

    def __await__(self) -> Generator["Want", Any, Any]:
        return (yield self)


class _Column:
    """One field's values for all objects of a level, some still to come; `outs` are the objects' answers."""

    __slots__ = ("field", "missing", "outs", "parents", "values")

    def __init__(self, field: Field, parents: Sequence[Any]) -> None:
        self.field = field
        self.parents = parents
        self.values: list[Any] = [None] * len(parents)
        self.outs: Sequence[dict[str, Any]] = ()
        self.missing = 0


_Asked = tuple[Fetch, Columns]
"""A loader, and which columns of its rows are asked for."""
_Parked = tuple[Coroutine[Any, Any, Any], _Column, int]


class _Wanted:
    """What is wanted of one loader: by resolvers that are parked, and for whole columns, with their keys."""

    __slots__ = ("columns", "parked")

    def __init__(self) -> None:
        self.parked: dict[Any, list[_Parked]] = {}
        self.columns: list[tuple[_Column, list[Any], dict[str, Any]]] = []


class Sweep:
    """One execution of a query."""

    def __init__(self, execution: Any) -> None:
        self._execution = execution
        self._context = execution.context_value
        self._wanted: dict[_Asked, _Wanted] = {}
        self._waiting: dict[_Asked, _Wanted] = {}
        self._loaded: dict[_Asked, dict[Any, Any]] = {}

    async def run(self, level: Level) -> dict[str, Any]:
        """The answer's data; raises whatever goes wrong, and leaves nothing behind then."""
        (data,) = await self._whole(self._level(level, [self._execution.root_value]))
        return data

    async def _whole(self, beginning: Coroutine[Any, Any, Made]) -> Made:
        """What this makes, once all that it lacks has been fetched."""
        try:
            made = await beginning
            while self._wanted:
                self._waiting, self._wanted = self._wanted, {}
                await self._fetch()
                for asked, wanted in self._waiting.items():
                    await self._hand_on(asked, wanted)
            return made
        finally:
            for wanted in (*self._wanted.values(), *self._waiting.values()):
                for parked in wanted.parked.values():
                    for resolver, _, _ in parked:
                        resolver.close()

    def called(self, field: Field, arguments: dict[str, Any]) -> Awaitable[Any]:
        """Call the resolver of the operation itself, which does not know of the sweep."""
        assert field.function is not None
        root = (self._execution.root_value,) if field.takes_self else ()
        made: Awaitable[Any] = field.function(*root, **arguments)
        return made

    async def completed(self, field: Field, made: Any) -> Any:
        """What a field made as a part of the answer; raises whatever goes wrong."""
        with suppress(Unusual, AttributeError):
            return plain_part(field.shape, made)
        (part,) = await self._whole(self._parts(field, [made]))
        return part

    async def load(self, fetch: Fetch, key: Hashable) -> Any:
        """What `fetch` gives for a key: what it gave before, or once everybody has asked."""
        loaded = self._loaded.get((fetch, None))
        if loaded is not None and key in loaded:
            return loaded[key]
        return await Want(fetch, key)

    async def _fetch(self) -> None:
        """Fetch for all who wait, from all loaders at once: a database elsewhere answers them side by side."""
        loads = [self._load(asked, wanted) for asked, wanted in self._waiting.items()]
        if len(loads) == 1:
            await loads[0]
            return
        for failure in await asyncio.gather(*loads, return_exceptions=True):
            if failure is not None:
                raise failure

    async def _load(self, asked: _Asked, wanted: _Wanted) -> None:
        """Fetch what one loader is asked for and has not given yet."""
        fetch, columns = asked
        loaded = self._loaded.setdefault(asked, {None: None})
        keys = dict.fromkeys(wanted.parked)
        for _, some, _ in wanted.columns:
            keys.update(dict.fromkeys(some))
        missing = [key for key in keys if key not in loaded]
        for at in range(0, len(missing), MOST_KEYS):
            some = missing[at : at + MOST_KEYS]
            fetching = fetch(self._context, some) if columns is None else fetch(self._context, some, columns)
            loaded.update(zip(some, await fetching, strict=True))

    async def _hand_on(self, asked: _Asked, wanted: _Wanted) -> None:
        """Let all who have asked go on with what was fetched."""
        loaded = self._loaded[asked]
        for column, keys, arguments in wanted.columns:
            await self._finish(column, [loaded[key] for key in keys], arguments)
        for key, parked in wanted.parked.items():
            for resolver, column, index in parked:
                await self._resume(resolver, loaded[key], column, index)

    async def _finish(self, column: _Column, loaded: Sequence[Any], arguments: dict[str, Any]) -> None:
        """What was fetched for a whole column becomes its values."""
        batch = column.field.batch
        assert batch is not None
        pairs = zip(column.parents, loaded, strict=True)
        column.values = [batch.make(parent, found, **arguments) for parent, found in pairs]
        await self._place(column)

    async def _place(self, column: _Column) -> None:
        """Put a column that has all its values into the answers."""
        key = column.field.key
        for out, part in zip(column.outs, await self._parts(column.field, column.values), strict=True):
            out[key] = part

    async def _resume(
        self, resolver: Coroutine[Any, Any, Any], value: Any, column: _Column, index: int
    ) -> None:
        want, made = await _advance(self, resolver, value)
        if want is not None:
            self._park(want, resolver, column, index)
            return
        column.values[index] = made
        column.missing -= 1
        if not column.missing:
            await self._place(column)

    def _park(self, want: Want, resolver: Coroutine[Any, Any, Any], column: _Column, index: int) -> None:
        self._of((want.fetch, None)).parked.setdefault(want.key, []).append((resolver, column, index))

    def _of(self, asked: _Asked) -> _Wanted:
        wanted = self._wanted.get(asked)
        if wanted is None:
            wanted = self._wanted[asked] = _Wanted()
        return wanted

    async def _level(self, level: Level, parents: Sequence[Any]) -> list[dict[str, Any]]:
        """The answers of the objects of a level; what has to be waited for comes into them later."""
        columns: list[Sequence[Any]] = []
        later: list[_Column] = []
        rows = parents if level.of_row is None else [parent.row for parent in parents]
        kinds = set(map(type, rows))
        direct = level.columns(kinds.pop()) if len(kinds) == 1 else repeat(None)
        for field, parts in zip(level.fields, direct, strict=False):
            if parts is not None:
                columns.append(parts(rows))
            elif field.constant is not None:
                columns.append([field.constant] * len(parents))
            elif field.attribute is not None:
                columns.append(await self._parts(field, list(map(attrgetter(field.attribute), parents))))
            else:
                column = await self._resolve(field, parents)
                if column.missing:
                    later.append(column)
                    columns.append(column.values)
                else:
                    columns.append(await self._parts(field, column.values))
        outs = level.answers(columns)
        for column in later:
            column.outs = outs
        return outs

    async def _resolve(self, field: Field, parents: Sequence[Any]) -> _Column:
        """What a field's resolver makes of each object; None stands for what is still to come."""
        function, arguments = field.function, self.arguments(field)
        assert function is not None
        column = _Column(field, parents)
        if field.batch is not None:
            key = attrgetter(field.batch.column)
            keys = [key(parent.row) for parent in parents]
            self._of((field.batch.fetch, field.fetched)).columns.append((column, keys, arguments))
            column.missing = len(parents)
            return column
        try:
            for index, parent in enumerate(parents):
                made = function(parent, **arguments) if field.takes_self else function(**arguments)
                if field.is_async:
                    want, made = await _advance(self, made, None)
                    if want is not None:
                        column.missing += 1
                        self._park(want, made, column, index)
                        continue
                column.values[index] = made
        except Exception as error:
            if field.parent is self._execution.schema.query_type:
                raise RootFailed(field) from error
            raise
        return column

    def arguments(self, field: Field) -> dict[str, Any]:
        """The arguments of a field, the same for all objects, as its resolver takes them."""
        takes_info = field.info_name is not None and field.batch is None
        if field.given is not None and not takes_info:
            return field.given
        info = self._info(field)
        given = field.given
        if given is None:
            given = self._given(field, info) if field.wants_arguments else {}
            given.pop(field.info_name or "", None)
            if field.is_the_same():
                field.given = given
        return {**given, field.info_name: info} if takes_info and field.info_name else given

    def _info(self, field: Field) -> Any:
        execution = self._execution
        nodes = [each.node for each in field.details]
        path = Path(None, field.key, field.parent.name)
        raw = execution.build_resolve_info(field.definition, nodes, field.parent, path)
        config = execution.schema.extensions["strawberry-definition"].config
        info = config.info_class(_raw_info=raw, _field=field.source)
        info.columns = field.asked
        return info

    def _given(self, field: Field, info: Any) -> dict[str, Any]:
        if field.filled is not None:
            with suppress(Exception):  # nothing is done yet: graphql-core says what is wrong, and where
                return field.filled.made(self._execution.variable_values, info)
        return as_ever(self._execution, field.definition, field.details, field.source, info)

    async def _parts(self, field: Field, values: Sequence[Any]) -> Sequence[Any]:
        """Values of a field as parts of the answer."""
        shape = field.shape
        if not shape.is_list:
            return await self._items(shape, values, nullable=shape.nullable)
        kinds = set(map(type, values))
        if any(issubclass(kind, Records) for kind in kinds):
            return [self._records(shape, value) for value in values]
        if np.ndarray in kinds:
            return [await self._leaves(shape, value) for value in values]
        if type(None) in kinds and shape.nullable:
            kinds.remove(type(None))
        if not all(issubclass(kind, list | tuple) for kind in kinds):
            raise Unusual("no list")
        flat = list(chain.from_iterable(value for value in values if value is not None))
        self._execution.count(len(flat))
        left = iter(await self._items(shape, flat, nullable=shape.item_nullable))
        return [None if value is None else list(islice(left, len(value))) for value in values]

    def _list(self, shape: Shape, value: Any) -> Sequence[Any] | None:
        if value is None and shape.nullable:
            return None
        if not isinstance(value, list | tuple):
            raise Unusual("no list")
        self._execution.count(len(value))
        return value

    def _records(self, shape: Shape, value: Any) -> Any:
        items = self._list(shape, value)
        return None if items is None else self._execution.records(shape.kind, shape.details, items)

    async def _leaves(self, shape: Shape, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value  # a column is complete as it is
        items = self._list(shape, value)
        return None if items is None else await self._items(shape, items, nullable=shape.item_nullable)

    async def _items(self, shape: Shape, values: Sequence[Any], *, nullable: bool) -> Sequence[Any]:
        there: Sequence[Any] = [value for value in values if value is not None]
        if len(there) < len(values) and not nullable:
            raise Unusual("null where there may be none")
        if shape.convert is not None:
            made = shape.convert(there)
        elif shape.level is not None:
            made = await self._level(shape.level, there) if there else []
        else:
            made = await self._mixed(shape, there)
        if len(there) == len(values):
            return made
        left = iter(made)
        return [None if value is None else next(left) for value in values]

    async def _mixed(self, shape: Shape, values: Sequence[Any]) -> Sequence[Any]:
        """Objects of an abstract type: those of each type together."""
        assert shape.levels is not None
        levels = runtime_levels(shape.levels, values)
        made: list[Any] = [None] * len(values)
        for level in dict.fromkeys(levels):
            places = [at for at, each in enumerate(levels) if each is level]
            for at, part in zip(places, await self._level(level, [values[at] for at in places]), strict=True):
                made[at] = part
        return made


@coroutine
def _advance(
    sweep: Sweep, resolver: Coroutine[Any, Any, Any], value: Any
) -> Generator[Any, Any, tuple[Want | None, Any]]:
    """Run a resolver until it ends (None, what it made) or asks a loader (what it wants, the resolver).

    Whatever else it awaits is handed on to the event loop, as if it were awaited here: its cancellation and
    timeouts are those of the task that executes the query.
    """
    global _driving
    go, argument = resolver.send, value
    while True:
        outer, _driving = _driving, sweep
        try:
            asked = go(argument)
        except StopIteration as end:
            return None, end.value
        finally:
            _driving = outer
        if type(asked) is Want:
            return asked, resolver
        go = resolver.send
        try:
            argument = yield asked
        except BaseException as error:  # noqa: BLE001 - it is the resolver's to take
            go, argument = resolver.throw, error
