"""How operations are executed: a level at a time or by graphql-core, columns of numbers as they are.

Columns come as numpy arrays and leave as they are where the schema has a list, so a million floats cost
orjson's time and no Python object each, and the schema stays honest. sweeping.py has the levels, variables.py
the columns that come in.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    get_named_type,
    located_error,
)
from graphql.execution.executor import CollectedErrors
from graphql.pyutils import Path
from graphql.type import GraphQLResolveInfoHelpers
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from graph import cost, variables
from graph.levels import Field, Level, Plans
from graph.scalars import Records
from graph.sweeping import RootFailed, Sweep

log = structlog.get_logger(__name__)

_plans = Plans()
_operations = variables.Operations()


class Execution(StrawberryGraphQLCoreExecutionContext):
    """Executes one operation, and bounds what its lists amount to.

    What an operation may touch is judged before it runs (cost.py) from what it says; lists whose length only
    the data knows are counted here.
    """

    listed = 0

    @classmethod
    def build(
        cls,
        schema: GraphQLSchema,
        document: DocumentNode,
        root_value: Any = None,
        context_value: Any = None,
        raw_variable_values: dict[str, Any] | None = None,
        operation_name: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The executor, or what is wrong; columns of numbers in the variables are arrays then."""
        arguments = (operation_name, *args)
        operation = _operations.find(schema, document, operation_name)
        values = None if operation is None else operation.coerced(raw_variable_values or {})
        if operation is None or values is None:
            return super().build(
                schema, document, root_value, context_value, raw_variable_values, *arguments, **kwargs
            )
        made = super().build(schema, operation.bare, root_value, context_value, None, *arguments, **kwargs)
        if isinstance(made, Execution):
            made.operation, made.variable_values = operation.node, values
        return made

    @classmethod
    def again(
        cls,
        schema: GraphQLSchema,
        document: DocumentNode,
        context_value: Any,
        raw_variable_values: dict[str, Any] | None,
        operation_name: str | None,
        operation_extensions: dict[str, Any] | None,
    ) -> Any:
        """As `build`, of a document that was executed before: what does not change with each time is made once."""
        operation = _operations.find(schema, document, operation_name)
        values = None if operation is None else operation.coerced(raw_variable_values or {})
        if operation is not None and values is not None:
            if operation.model is None:
                bare = super().build(
                    schema,
                    operation.bare,
                    None,
                    None,
                    None,
                    operation_name,
                    is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
                )
                operation.model = Model(bare, operation.node) if isinstance(bare, Execution) else None
            if operation.model is not None:
                made: Execution = operation.model.another()
                made.context_value, made.variable_values = context_value, values
                made.operation_extensions = operation_extensions
                return made
        return cls.build(
            schema,
            document,
            None,
            context_value,
            raw_variable_values,
            operation_name,
            is_awaitable=optimized_is_awaitable,
            operation_extensions=operation_extensions,
        )

    @property
    def async_helpers(self) -> GraphQLResolveInfoHelpers:
        """What resolvers are given of the execution.

        Made for each who asks: kept, both would hold each other, and all that was sent, until garbage is looked for.
        """
        return GraphQLResolveInfoHelpers(gather=self.gather_async_work, track=self.track_async_work)

    @async_helpers.setter
    def async_helpers(self, made: GraphQLResolveInfoHelpers) -> None:
        """graphql-core's are not kept."""

    def execute_operation(self, serially: bool | None = None) -> Any:
        """The result, or what it can be awaited from."""
        level = _plans.find(self)
        if level is None:
            return super().execute_operation(serially)
        changes = self.operation.operation is OperationType.MUTATION
        return self._change(level) if changes else self._sweep(level)

    async def _sweep(self, level: Level) -> Any:
        """Execute a query, or a subscription for an event, which is the root value and that of its only field."""
        sweep, is_query = Sweep(self), self.operation.operation is OperationType.QUERY
        try:
            if is_query:
                return ExecutionResult(await sweep.run(level), None)
            (field,) = level.fields
            return ExecutionResult({field.key: await sweep.completed(field, self.root_value)}, None)
        except Exception as error:  # noqa: BLE001 - a query may be asked twice: graphql-core says what is wrong, and where
            if isinstance(error, RootFailed) and len(level.fields) == 1:
                assert isinstance(error.__cause__, Exception)
                return self._failed(error.field, error.__cause__)
            log.debug("executed again", error=repr(error.__cause__ or error))
            self.listed = 0
        result = super().execute_operation()
        return await result if self.is_awaitable(result) else result

    async def _change(self, level: Level) -> Any:
        """Execute a mutation of one field: its resolver is called once, whatever becomes of what it made."""
        (field,) = level.fields
        sweep = Sweep(self)
        try:
            arguments = sweep.arguments(field)
        except Exception as error:  # noqa: BLE001 - nothing is done yet: graphql-core says what is wrong, and where
            log.debug("arguments read again", error=repr(error))
            result = super().execute_operation()
            return await result if self.is_awaitable(result) else result
        try:
            made = await sweep.called(field, arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the field's error
            return self._failed(field, error)
        try:
            return ExecutionResult({field.key: await sweep.completed(field, made)}, None)
        except Exception as error:  # noqa: BLE001 - as above
            log.debug("completed again", error=repr(error))
            self.listed = 0
        return await self._completed(field, made)

    async def _completed(self, field: Field, made: Any) -> Any:
        """What graphql-core answers when a root field has made this."""
        nodes = [each.node for each in field.details]
        path = Path(None, field.key, field.parent.name)
        info = self.build_resolve_info(field.definition, nodes, field.parent, path)
        kind = field.definition.type

        async def value() -> Any:
            return made

        try:
            part = await self.complete_awaitable_value(kind, field.details, info, path, value(), None)
        except GraphQLError as error:
            self.collected_errors.add(error, None)
            return self.build_response(None)
        return self.build_response({field.key: part})

    def _failed(self, field: Field, cause: Exception) -> ExecutionResult:
        """The answer when the only field that was asked for has failed: it need not fail twice, if slowly."""
        error = located_error(cause, [each.node for each in field.details], [field.key])
        return ExecutionResult({field.key: None} if field.shape.nullable else None, [error])

    def complete_list_value(self, return_type: Any, *args: Any, **kwargs: Any) -> Any:
        """An array is complete as it is; everything else takes graphql-core's way."""
        result = args[3]
        if isinstance(result, np.ndarray):
            return result
        if isinstance(result, list):
            self.count(len(result))
        if isinstance(result, Records):
            return self.records(get_named_type(return_type), args[0], result)
        return super().complete_list_value(return_type, *args, **kwargs)

    def records(self, kind: Any, details: Any, records: Records) -> Any:
        """What graphql-core makes of the same objects, of all of them at once."""
        subfields = self.collect_subfields(kind, details).grouped_field_set.items()
        return records.answers(kind.name, [(key, first.node.name.value) for key, (first, *_) in subfields])

    def count(self, length: int) -> None:
        """Count a list; raises when all of them are more than an answer may have."""
        self.listed += length
        if self.listed > cost.COST:
            message = f"more than {cost.COST:,} objects: ask for less at once"
            raise GraphQLError(message, extensions={"code": "LIMIT_EXCEEDED"})


class Model:
    """An execution that never runs, to make others of: each has its own of what an execution gathers."""

    def __init__(self, execution: Execution, operation: OperationDefinitionNode) -> None:
        execution.operation = operation
        self._execution = execution
        self._gathered = [
            (name, type(value))
            for name, value in vars(execution).items()
            if isinstance(value, CollectedErrors) or (isinstance(value, Collection) and not value)
        ]

    def another(self) -> Execution:
        """One that has not begun."""
        made = object.__new__(type(self._execution))
        state = vars(made)
        state.update(vars(self._execution))
        for name, kind in self._gathered:
            state[name] = kind()
        return made
