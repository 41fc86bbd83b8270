"""How refusals and faults reach the caller.

A refusal of a mutation is data: `errors` of its payload. Elsewhere it is a top-level error with its code.
Anything else is a fault: logged with the request's id, and shown as INTERNAL with that id and no detail.
"""

import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from enum import Enum
from typing import Any, ParamSpec, TypeVar

import strawberry
import structlog
from graphql import GraphQLError
from strawberry.extensions import MaskErrors
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.graphql import OperationType

from db.database import is_lost, is_undone
from db.errors import DomainError

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)

_REFUSED = (CannotGetOperationTypeError, InvalidOperationTypeError)
"""What strawberry raises for a document without the operation that was asked for."""

_ABORTED = "Validation aborted."
"""What graphql-core says, and no more, of a document whose validation has cost what it may (cost.COMPARED)."""


@strawberry.enum(description="Why a request was refused or failed.")
class ErrorCode(Enum):
    """The codes of the API."""

    UNAUTHENTICATED = strawberry.enum_value(
        "UNAUTHENTICATED", description="No credential, or one that is not known."
    )
    FORBIDDEN = strawberry.enum_value("FORBIDDEN", description="The credential does not allow it.")
    NOT_FOUND = strawberry.enum_value(
        "NOT_FOUND", description="There is no such thing, or it may not be seen."
    )
    INVALID = strawberry.enum_value("INVALID", description="The request breaks a rule; the message names it.")
    CONFLICT = strawberry.enum_value("CONFLICT", description="It does not go with how things stand now.")
    LIMIT_EXCEEDED = strawberry.enum_value("LIMIT_EXCEEDED", description="More than is allowed.")
    UNAVAILABLE = strawberry.enum_value("UNAVAILABLE", description="Not at the moment; ask again.")
    INTERNAL = strawberry.enum_value(
        "INTERNAL", description="A fault of the server; its log has it under the request's id."
    )


@strawberry.type(description="A refusal: what, where and the rule.")
class UserError:
    """One problem of a mutation's input, or of what it found."""

    code: ErrorCode = strawberry.field(description="What kind of refusal.")
    message: str = strawberry.field(description="For people, in words.")
    path: list[str] = strawberry.field(description="Leads to the offending part of the arguments.")
    retryable: bool = strawberry.field(description="Whether the same request may succeed later.")


def told(error: DomainError, *at: str) -> list[UserError]:
    """A refusal as a payload's errors; `at` leads to the item of a bulk input that it is of, if only an id."""
    return [
        UserError(
            code=ErrorCode(error.code),
            message=problem.message,
            path=["input", *at, *(() if at and problem.path == ("id",) else problem.path)],
            retryable=error.retryable,
        )
        for problem in error.problems
    ]


def refusing(payload: Callable[..., T]) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Make a mutation's refusals the errors of its payload, whose other fields are null then."""

    def decorate(resolve: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @functools.wraps(resolve)
        async def refused(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await resolve(*args, **kwargs)
            except DomainError as error:
                return payload(errors=told(error))

        return refused

    return decorate


def failure(code: ErrorCode, message: str, **extensions: Any) -> GraphQLError:
    """A top-level error with a code."""
    return GraphQLError(message, extensions={"code": code.value, **extensions})


_AGAIN: dict[str, Any] = {"code": ErrorCode.UNAVAILABLE.value, "retryable": True}


class Masking(MaskErrors):
    """Gives every error its code, and lets no detail of a fault out."""

    def _process_errors(self, errors: list[GraphQLError]) -> list[GraphQLError]:
        asked = self.execution_context

        def is_read() -> bool:
            return asked.operation_type is not OperationType.MUTATION

        return list(masked(errors, getattr(asked.context, "request_id", ""), is_read))


def masked(
    errors: Sequence[GraphQLError], request_id: str, is_read: Callable[[], bool]
) -> Iterator[GraphQLError]:
    """Errors as whoever asked is told them.

    A mutation may have been carried out although its answer was lost: nobody is told to repeat that.
    """
    for error in errors:
        original = error.original_error
        if isinstance(original, DomainError):
            yield _like(error, str(original), {"code": original.code, "retryable": original.retryable})
        elif error.message == _ABORTED:
            message = "too much is to be compared before this can run: select each field once in its place"
            yield _like(error, message, {"code": ErrorCode.LIMIT_EXCEEDED.value})
        elif original is None or isinstance(original, GraphQLError):
            extensions = {"code": ErrorCode.INVALID.value, **(error.extensions or {})}
            yield _like(error, error.message, extensions)
        elif isinstance(original, _REFUSED) or (error.path is None and error.nodes):
            # graphql-core's coercion of variables and literals wraps what our scalars raise.
            yield _like(error, error.message, {"code": ErrorCode.INVALID.value})
        elif is_undone(original):
            yield _like(error, "The database had no time for this; ask again.", _AGAIN)
        elif is_read() and is_lost(original):
            yield _like(error, "The database was away for a moment; ask again.", _AGAIN)
        elif isinstance(original, RecursionError):
            yield _like(error, "This is nested too deeply.", {"code": ErrorCode.INVALID.value})
        else:
            log.error(
                "fault", request_id=request_id, path=error.path, error=repr(original), exc_info=original
            )
            message = "An internal error; the server's log has it under this request's id."
            extensions = {"code": ErrorCode.INTERNAL.value, "requestId": request_id}
            yield _like(error, message, extensions)


def _like(error: GraphQLError, message: str, extensions: dict[str, Any]) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )
