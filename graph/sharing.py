"""Equal subscriptions are computed once and sent as the same bytes to all who watch.

A topic is a document, its variables without the cursor, and who asks. It follows its feed from the moment it
is made, executes each event once, encodes the answer once, and keeps the last answers in a bounded window. A
watcher is a cursor into it. One that stands before the window, because it resumes from long ago or is slow,
runs the operation for itself until it has caught up. What is unusual is not shared: anything but a
subscription of one field whose `after` is a variable.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
import structlog
from graphql import (
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    parse,
)
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from graph import cost
from graph.context import Context
from graph.events import place

log = structlog.get_logger(__name__)

WINDOW_MESSAGES = 1000
WINDOW_BYTES = 4 << 20
LONGEST_QUERY = 16 << 10
"""Longer ones are not remembered, and so not shared."""

Stream = Callable[[str, dict[str, Any], str | None, Context], Awaitable[AsyncGenerator[Any, None]]]
"""Executes a subscription: query, variables, operation's name, context."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """An operation that may be shared: `cursor` names the variable that `after` comes from."""

    query: str
    variables: dict[str, Any]
    operation_name: str | None
    cursor: str

    @property
    def after(self) -> int | None:
        """Where the watcher stands; None is where the feed ends."""
        found: int | None = self.variables.get(self.cursor)
        return found


def shareable(
    query: str, variables: dict[str, Any] | None, operation_name: str | None
) -> Subscription | None:
    """The operation, if it is one whose answers are the same for all who ask it from the same place."""
    cursor = _cursor_variable(query, operation_name) if len(query) <= LONGEST_QUERY else None
    if cursor is None:
        return None
    after = (variables or {}).get(cursor)
    if after is not None and (type(after) is not int or not 0 <= after < 2**53):
        return None  # refused, with the right words, where it is executed
    return Subscription(query, dict(variables or {}), operation_name, cursor)


@lru_cache(maxsize=500)
def _cursor_variable(query: str, operation_name: str | None) -> str | None:
    try:
        document = parse(query, max_tokens=cost.TOKENS)
    except GraphQLError:
        return None
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    if len(operations) != 1 or operations[0].operation is not OperationType.SUBSCRIPTION:
        return None
    if operation_name is not None and (name := operations[0].name) and name.value != operation_name:
        return None
    selections = operations[0].selection_set.selections
    if len(selections) != 1 or not isinstance(selections[0], FieldNode) or selections[0].directives:
        return None
    arguments = selections[0].arguments or ()
    if any(argument.name.value == "last" for argument in arguments):
        return None  # where it begins is found for each by itself
    for argument in arguments:
        if argument.name.value == "after" and isinstance(argument.value, VariableNode):
            return argument.value.name.value
    return None


class Topics:
    """The topics of one process."""

    def __init__(self, stream: Stream, encode: Callable[[object], bytes]) -> None:
        self._stream = stream
        self._encode = encode
        self._topics: dict[bytes, _Topic] = {}

    @property
    def count(self) -> int:
        """How many different subscriptions are being computed."""
        return len(self._topics)

    async def open(self, wanted: Subscription, context: Context) -> AsyncGenerator[str, None] | None:
        """The answers to a subscription as JSON texts; None where it must be executed to be refused."""
        key = self._key(wanted, context)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = _Topic(self._answers(wanted, context, None))
        topic.watchers += 1
        try:
            await topic.ready.wait()
        except asyncio.CancelledError:
            self._leave(key, topic)
            raise
        if topic.failed:
            self._leave(key, topic)
            return None
        return self._watch(key, topic, wanted, context)

    async def _watch(
        self, key: bytes, topic: "_Topic", wanted: Subscription, context: Context
    ) -> AsyncGenerator[str, None]:
        # From now on is before the end, also where that was told already: it has an odd place.
        cursor = topic.head - topic.head % 2 if wanted.after is None else place(wanted.after)
        try:
            while True:
                if cursor < topic.floor or topic.failed:
                    # Behind the window, or left alone: by itself, until the window is reached.
                    async with aclosing(self._answers(wanted, context, cursor)) as answers:
                        async for at, text in answers:
                            if at is None or text is None:
                                continue
                            yield text
                            cursor = at
                            if topic.floor <= cursor and not topic.failed:
                                break
                        else:
                            return
                tick = topic.tick
                for at, text in topic.past(cursor):
                    yield text
                    cursor = at
                if cursor < topic.head:
                    continue  # the window has moved on meanwhile
                if topic.done:
                    return
                await tick.wait()
        finally:
            self._leave(key, topic)

    async def _answers(
        self, wanted: Subscription, context: Context, after: int | None
    ) -> AsyncGenerator[tuple[int | None, str | None], None]:
        """Execute a subscription: first (where it begins, None), then (place, text) of each event.

        Without a first item it was refused. `after` None follows from now on.
        """
        begun: asyncio.Queue[int] = asyncio.Queue(1)
        own = context.twin(begun.put_nowait)
        variables = {**wanted.variables, wanted.cursor: None if after is None else after // 2}
        source = await self._stream(wanted.query, variables, wanted.operation_name, own)
        async with aclosing(source):
            results = aiter(source)
            first = asyncio.ensure_future(anext(results, None))
            beginning = asyncio.ensure_future(begun.get())
            try:
                await asyncio.wait({first, beginning}, return_when=asyncio.FIRST_COMPLETED)
                if not beginning.done():
                    return  # refused, or failed before it followed anything
                yield beginning.result(), None
                result = await first
            finally:
                beginning.cancel()
                first.cancel()
            while result is not None:
                if isinstance(result, PreExecutionError):
                    return
                yield own.place, self._text(result)
                result = await anext(results, None)

    def _text(self, result: ExecutionResult) -> str:
        payload: dict[str, Any] = {"data": result.data}
        if result.errors:
            payload["errors"] = [error.formatted for error in result.errors]
        return self._encode(payload).decode()

    def _key(self, wanted: Subscription, context: Context) -> bytes:
        variables = {name: value for name, value in wanted.variables.items() if name != wanted.cursor}
        viewer = context.viewer
        scope = [
            viewer.kind.value,
            (viewer.user_id or b"").hex(),
            (viewer.job_id or b"").hex(),
            viewer.attempt,
        ]
        projects = sorted(project.hex() for project in viewer.projects)
        named = [wanted.query, wanted.operation_name, variables, scope, projects]
        return orjson.dumps(named, option=orjson.OPT_SORT_KEYS)

    def _leave(self, key: bytes, topic: "_Topic") -> None:
        topic.watchers -= 1
        if not topic.watchers:
            if self._topics.get(key) is topic:
                del self._topics[key]
            topic.stop()


class _Topic:
    """One subscription's answers: `floor` < every place of the window <= `head` (events.place)."""

    def __init__(self, answers: AsyncGenerator[tuple[int | None, str | None], None]) -> None:
        self.watchers = 0
        self.floor = self.head = 0
        self.done = self.failed = False
        self.ready = asyncio.Event()
        self.tick = asyncio.Event()
        self._window: deque[tuple[int, str]] = deque()
        self._bytes = 0
        self._task = asyncio.create_task(self._run(answers), name="topic")

    def stop(self) -> None:
        """Nobody watches any more."""
        self._task.cancel()

    def past(self, cursor: int) -> list[tuple[int, str]]:
        """The answers of the window past a cursor that is not before its floor."""
        behind = 0
        for at, _ in reversed(self._window):
            if at <= cursor:
                break
            behind += 1
        return list(islice(self._window, len(self._window) - behind, None))

    async def _run(self, answers: AsyncIterator[tuple[int | None, str | None]]) -> None:
        begun = False
        try:
            async for at, text in answers:
                if at is None:
                    continue
                if text is None:
                    self.floor = self.head = at
                    begun = True
                    self.ready.set()
                else:
                    self._keep(at, text)
            self.done, self.failed = begun, not begun
        except Exception as error:
            # Whoever watches goes on for itself, and meets the error there if it lasts.
            log.warning("shared subscription failed", error=repr(error), exc_info=error)
            self.failed = True
        finally:
            self.ready.set()
            self._tell()

    def _keep(self, at: int, text: str) -> None:
        self._window.append((at, text))
        self._bytes += len(text)
        self.head = at
        while len(self._window) > WINDOW_MESSAGES or (self._bytes > WINDOW_BYTES and len(self._window) > 1):
            self.floor, dropped = self._window.popleft()
            self._bytes -= len(dropped)
        self._tell()

    def _tell(self) -> None:
        self.tick.set()
        self.tick = asyncio.Event()
