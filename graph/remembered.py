"""Operations that were asked before: executed at once, without being parsed and judged again.

What strawberry does around an execution (extensions and their contexts, a validation that is remembered by the
hash of a whole document) takes as long as reading a short page. A document that was found valid is remembered by
its text here; asked again, it goes straight to its execution, and its errors are told as they always are.
Long ones are forgotten at once (cost.is_remembered): whoever may ask could fill the memory with them.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from inspect import isawaitable
from typing import Any

from graphql import DocumentNode, GraphQLError, OperationDefinitionNode, create_source_event_stream
from graphql import ExecutionResult as CoreResult
from graphql import OperationType as Operation
from strawberry.extensions import ParserCache, SchemaExtension, ValidationCache
from strawberry.schema import Schema
from strawberry.types import ExecutionResult

from graph import cost
from graph.context import Context
from graph.errors import masked
from graph.execution import Execution

MOST = 500

_documents: OrderedDict[tuple[Any, str], DocumentNode] = OrderedDict()


class Parsing(ParserCache):
    """Remembers documents; a wrong one is left to be parsed again, where its errors are expected."""

    def on_parse(self) -> Iterator[None]:
        """Take a document from memory, or parse it."""
        if cost.is_remembered(self.execution_context.query or ""):
            try:
                next(iter(super().on_parse()))
            except (GraphQLError, RecursionError):
                self.execution_context.graphql_document = None
        yield


class Judging(ValidationCache):
    """Remembers what was wrong with a document, if anything."""

    def on_validate(self) -> Iterator[None]:
        """Take the judgement from memory, or leave it to be made."""
        if cost.is_remembered(self.execution_context.query or ""):
            next(iter(super().on_validate()))
        yield


class Remembering(SchemaExtension):
    """Remembers what is about to be executed: a document of one operation, which is valid then."""

    def on_execute(self) -> Iterator[None]:
        """Remember the document by its text."""
        asked = self.execution_context
        document = asked.graphql_document
        operations = [
            each
            for each in (document.definitions if document else ())
            if isinstance(each, OperationDefinitionNode)
        ]
        if document and asked.query and len(operations) == 1 and cost.is_remembered(asked.query):
            _documents[asked.schema, asked.query] = document
            if len(_documents) > MOST:
                _documents.popitem(last=False)
        yield


def is_known(schema: Schema, query: str) -> bool:
    """Whether an operation was asked before."""
    return (schema, query) in _documents


async def execute(
    schema: Schema,
    query: str | None,
    variables: dict[str, Any] | None,
    context: Context,
    name: str | None,
    extensions: dict[str, Any] | None,
) -> ExecutionResult | None:
    """The result of a query or mutation that was asked before; None for one that was not, or that cannot begin."""
    execution = _begun(schema, query, variables, context, name, extensions)
    if execution is None or execution.operation.operation is Operation.SUBSCRIPTION:
        return None
    try:
        return _told(schema, execution, await _awaited(execution.execute_operation()))
    except Exception as error:  # noqa: BLE001 - as strawberry has it, a fault of the execution is an error of the answer
        return _failed(schema, execution, error)


async def subscribe(
    schema: Schema, query: str, variables: dict[str, Any] | None, context: Context, name: str | None
) -> AsyncGenerator[ExecutionResult, None] | None:
    """The results of a subscription that was asked before; None for one that was not, or that cannot begin."""
    execution = _begun(schema, query, variables, context, name, None)
    if execution is None or execution.operation.operation is not Operation.SUBSCRIPTION:
        return None
    events = await _awaited(create_source_event_stream(execution))
    return None if isinstance(events, CoreResult) else _results(schema, execution, events)


async def _results(
    schema: Schema, execution: Execution, events: AsyncGenerator[Any, None]
) -> AsyncGenerator[ExecutionResult, None]:
    try:
        async with aclosing(events):
            async for event in events:
                of_event = execution.build_per_event_executor(event)
                yield _told(schema, execution, await _awaited(of_event.execute_operation(serially=False)))
    except Exception as error:  # noqa: BLE001 - as above
        yield _failed(schema, execution, error)


def _begun(
    schema: Schema,
    query: str | None,
    variables: dict[str, Any] | None,
    context: Context,
    name: str | None,
    extensions: dict[str, Any] | None,
) -> Execution | None:
    """The execution of an operation whose document is remembered, if it can begin."""
    key = schema, query or ""
    document = _documents.get(key)
    if document is None:
        return None
    _documents.move_to_end(key)
    execution = Execution.again(schema._schema, document, context, variables, name, extensions)
    return execution if isinstance(execution, Execution) else None


async def _awaited(made: Any) -> Any:
    return await made if isawaitable(made) else made


def _failed(schema: Schema, execution: Execution, error: Exception) -> ExecutionResult:
    if not isinstance(error, GraphQLError):
        error = GraphQLError(str(error), original_error=error)
    return _told(schema, execution, CoreResult(None, [error]))


def _told(schema: Schema, execution: Execution, result: CoreResult) -> ExecutionResult:
    """A result with its errors as whoever asked is told them."""
    errors = result.errors
    if errors:
        schema._process_errors(errors)
        asked = execution.operation.operation
        request_id = execution.context_value.request_id
        errors = list(masked(errors, request_id, lambda: asked is not Operation.MUTATION))
    return ExecutionResult(data=result.data, errors=errors)
