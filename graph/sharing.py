"""Equal subscriptions are computed once and sent as the same bytes to all who watch.

A topic (topics.py) is a document, its variables without the cursor, and who asks. It follows its feed from the
moment it is made, executes each event once and encodes the answer once. A watcher is a cursor into it. One
that stands before the topic's window, because it resumes from long ago or is slow, runs the operation for
itself until it has caught up. What is unusual is not shared: anything but a subscription of one field that
takes `after`, and gets it from a variable, as a number, or not at all.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from graphql import (
    FieldNode,
    GraphQLError,
    IntValueNode,
    NullValueNode,
    OperationDefinitionNode,
    OperationType,
    ValueNode,
    VariableNode,
    parse,
)
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from graph import cost
from graph.context import FROM_NOW, Context, Course
from graph.events import place
from graph.topics import Answer, Tell, Topic, Watcher

Stream = Callable[[str, dict[str, Any], str | None, Context], Awaitable[AsyncGenerator[Any, None]]]
"""Executes a subscription: query, variables, operation's name, context."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """An operation that may be shared: `cursor` names the variable that `after` comes from, if one does.

    `after` is where the watcher stands; None is where the feed ends.
    """

    query: str
    variables: dict[str, Any]
    operation_name: str | None
    cursor: str | None
    after: int | None


def shareable(
    query: str,
    variables: dict[str, Any] | None,
    operation_name: str | None,
    fields: Collection[str],
    *,
    resume: int | None = None,
) -> Subscription | None:
    """The operation, if it is one whose answers are the same for all who ask it from the same place.

    `fields` are those that take `after`. `resume` is where the watcher stands, whatever the operation says.
    """
    begin = _begin(query, operation_name) if cost.is_remembered(query, operation_name) else None
    if begin is None or begin.field not in fields:
        return None
    given = dict(variables or {})
    after = begin.after if begin.cursor is None or begin.cursor not in given else given[begin.cursor]
    if resume is not None:
        after = resume
    if after is not None and (type(after) is not int or not 0 <= after < 2**53):
        return None  # refused, with the right words, where it is executed
    return Subscription(query, given, operation_name, begin.cursor, after)


@dataclass(frozen=True, slots=True)
class _Begin:
    """Which field is subscribed, which variable says where to begin, and where without that variable."""

    field: str
    cursor: str | None
    after: int | None


@lru_cache(maxsize=500)
def _begin(query: str, operation_name: str | None) -> _Begin | None:
    try:
        document = parse(query, max_tokens=cost.TOKENS)
    except (GraphQLError, RecursionError):
        return None
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    if len(operations) != 1 or operations[0].operation is not OperationType.SUBSCRIPTION:
        return None
    (operation,) = operations
    if operation_name is not None and (name := operation.name) and name.value != operation_name:
        return None
    selections = operation.selection_set.selections
    field = selections[0]
    if len(selections) != 1 or not isinstance(field, FieldNode) or field.directives:
        return None
    arguments = {argument.name.value: argument.value for argument in field.arguments or ()}
    if "last" in arguments:
        return None  # where it begins is found for each by itself
    value = arguments.get("after")
    if not isinstance(value, VariableNode):
        return _fixed(field.name.value, None, value)
    cursor = value.name.value
    for variable in operation.variable_definitions or ():
        if variable.variable.name.value == cursor:
            return _fixed(field.name.value, cursor, variable.default_value)
    return None


def _fixed(field: str, cursor: str | None, value: ValueNode | None) -> _Begin | None:
    """A beginning that the document itself says: a number, or none."""
    if value is None or isinstance(value, NullValueNode):
        return _Begin(field, cursor, None)
    return _Begin(field, cursor, int(value.value)) if isinstance(value, IntValueNode) else None


class Topics:
    """The topics of one process."""

    def __init__(self, stream: Stream, encode: Callable[[object], bytes]) -> None:
        self._stream = stream
        self._encode = encode
        self._topics: dict[bytes, Topic] = {}

    @property
    def count(self) -> int:
        """How many different subscriptions are being computed."""
        return len(self._topics)

    async def watch(self, wanted: Subscription, context: Context, tell: Tell) -> bool:
        """Tell every answer to a subscription until it ends; False where it must be executed to be refused."""
        key = _key(wanted, context)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(self._answers(wanted, context.twin(Course(FROM_NOW))))
        topic.watchers += 1
        try:
            await topic.ready.wait()
            if topic.failed:
                return False
            # From now on is before the end, also where that was told already: it has an odd place.
            cursor = topic.head - topic.head % 2 if wanted.after is None else place(wanted.after)
            await self._follow(topic, Watcher(cursor, tell), wanted, context)
            return True
        finally:
            topic.watchers -= 1
            if not topic.watchers:
                if self._topics.get(key) is topic:
                    del self._topics[key]
                topic.stop()

    async def _follow(self, topic: Topic, watcher: Watcher, wanted: Subscription, context: Context) -> None:
        while True:
            answers = topic.past(watcher.cursor)
            if (
                topic.failed
                or watcher.cursor < topic.floor
                or (answers and answers[0].first <= watcher.cursor)
            ):
                # Left alone, behind the window, or amid what one answer of it tells together.
                if await self._alone(topic, watcher, wanted, context):
                    return
            elif answers:
                for answer in answers:
                    await watcher.tell(answer)
            elif topic.done:
                return
            else:
                await topic.push_to(watcher)

    async def _alone(self, topic: Topic, watcher: Watcher, wanted: Subscription, context: Context) -> bool:
        """Execute the operation for one watcher until it has caught up with its topic; True: to its end."""
        until = None if topic.failed else topic.head
        course = Course(watcher.cursor // 2, until)
        async with aclosing(self._answers(wanted, context.twin(course))) as answers:
            async for answer in answers:
                if isinstance(answer, Answer):
                    await watcher.tell(answer)
        if until is not None and course.arrived:
            watcher.cursor = max(watcher.cursor, until)
        return not course.arrived

    async def _answers(self, wanted: Subscription, own: Context) -> AsyncGenerator[Answer | int, None]:
        """Execute a subscription: first the place where it begins, then the answer to each event.

        Without a first item it was refused.
        """
        course = own.course
        begun = course.begun = asyncio.get_running_loop().create_future()
        source = await self._stream(wanted.query, wanted.variables, wanted.operation_name, own)
        async with aclosing(source):
            results = aiter(source)
            first = asyncio.ensure_future(anext(results, None))
            try:
                await asyncio.wait({first, begun}, return_when=asyncio.FIRST_COMPLETED)
                if not begun.done():
                    return  # refused, or failed before it followed anything
                yield begun.result()
                result = await first
            finally:
                first.cancel()
            while result is not None:
                if isinstance(result, PreExecutionError):
                    return
                yield Answer(course.first, course.at, encoded(result, self._encode))
                result = await anext(results, None)


def encoded(result: ExecutionResult, encode: Callable[[object], bytes]) -> bytes:
    """A result as JSON."""
    payload: dict[str, Any] = {"data": result.data}
    if result.errors:
        payload["errors"] = [error.formatted for error in result.errors]
    return encode(payload)


def _key(wanted: Subscription, context: Context) -> bytes:
    variables = {name: value for name, value in wanted.variables.items() if name != wanted.cursor}
    viewer = context.viewer
    scope = [viewer.kind.value, (viewer.user_id or b"").hex(), (viewer.job_id or b"").hex(), viewer.attempt]
    projects = sorted(project.hex() for project in viewer.projects)
    named = [wanted.query, wanted.operation_name, variables, scope, projects]
    return orjson.dumps(named, option=orjson.OPT_SORT_KEYS)
