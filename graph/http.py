"""The endpoint: GraphQL over HTTP and graphql-transport-ws.

POST of JSON only, answered as the client accepts it, with the status codes that the GraphQL-over-HTTP audit
asks for: 400 for a request that could not be executed where the client takes application/graphql-response
+json, 401 for nobody. Nobody may introspect and see the server's version, nothing else: the context gives
no database without a viewer.
"""

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import orjson
import structlog
from cross_web import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.exceptions import ConnectionRejectionError, MissingQueryError
from strawberry.http import process_result
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.schema import Schema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
    Operation,
)
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from graph import remembered
from graph.context import Context
from graph.errors import ErrorCode
from graph.sharing import Topics, shareable
from graph.surroundings import Surroundings

log = structlog.get_logger(__name__)

MODERN = "application/graphql-response+json"
LEGACY = "application/json"
INIT_SECONDS = 10
MOST_OPERATIONS = 100
"""Subscriptions at once on one WebSocket."""
_MEMBERS: dict[str, type] = {"query": str, "variables": dict, "operationName": str, "extensions": dict}


class _Adapter(ASGIWebSocketAdapter):
    """Text frames, and a close that may come twice."""

    async def send_json(self, message: Mapping[str, object]) -> None:
        await self.send(encode(message).decode())

    async def send(self, text: str) -> None:
        """One frame; waits while the peer takes none."""
        if self.ws.application_state is WebSocketState.DISCONNECTED:
            raise WebSocketDisconnected
        try:
            await self.ws.send_text(text)
        except (RuntimeError, OSError) as error:
            # The peer went away between two frames.
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        if self.ws.application_state is not WebSocketState.DISCONNECTED:
            await super().close(code, reason)


class _Handler(BaseGraphQLTransportWSHandler[Context, None]):
    """graphql-transport-ws as strawberry has it; equal subscriptions get the same bytes."""

    async def run_operation(self, operation: Operation[Context, None]) -> None:
        """Send what a shared subscription gives; what cannot be shared goes the usual way."""
        assert isinstance(self.view, Endpoint) and isinstance(self.websocket, _Adapter)
        if not await self.view.admits(self.context):
            return
        wanted = shareable(operation.query, operation.variables, operation.operation_name)
        answers = None if wanted is None else await self.view.topics.open(wanted, self.context)
        if answers is None:
            await super().run_operation(operation)
            return
        head = f'{{"id":{encode(operation.id).decode()},"type":"next","payload":'
        try:
            async with aclosing(answers):
                async for text in answers:
                    await self.websocket.send(f"{head}{text}}}")
        except WebSocketDisconnected:
            return
        except Exception as error:
            # As in strawberry's own handler: the fault is told to the log, the end to the client.
            log.error("subscription failed", error=repr(error), exc_info=error)
        # Also after a fault: a client that has not seen FeedEnded resumes where it stands.
        await operation.send_operation_message({"id": operation.id, "type": "complete"})


class Endpoint(GraphQL[Context, None]):
    """The ASGI application at /graphql."""

    websocket_adapter_class = _Adapter
    graphql_transport_ws_handler_class = _Handler

    def __init__(self, schema: Schema, around: Surroundings) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            allow_queries_via_get=False,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=INIT_SECONDS),
            max_subscriptions_per_connection=MOST_OPERATIONS,
            allowed_origins=tuple(around.allowed_origins),
        )
        self._around = around
        self._schema = schema
        self.topics = Topics(self._stream, encode)

    async def _stream(
        self, query: str, variables: dict[str, Any], name: str | None, context: Context
    ) -> AsyncGenerator[Any, None]:
        source: AsyncGenerator[Any, None] = await self.schema.stream(
            query, variable_values=variables, context_value=context, operation_name=name
        )
        return source

    async def get_context(self, request: Request | WebSocket, response: object) -> Context:
        """The operation's surroundings; on a WebSocket those of all its operations."""
        request_id = request.scope.get("request_id") or secrets.token_hex(8)
        viewer = await self._around.viewer(request)
        return Context(request, self._around, viewer=viewer, request_id=request_id)

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """A browser shows its cookie, others a header or {"token": …} in connection_init."""
        if not await self.admits(context):
            raise ConnectionRejectionError
        accepted: UnsetType = UNSET
        return accepted

    async def admits(self, context: Context) -> bool:
        """Whether a WebSocket's credential is good now, as it may not be for ever; closes it otherwise."""
        token = context.connection_params.get("token")
        if isinstance(token, str) and token:
            context.authenticated = await self._around.credentials.viewer(token)
        else:
            context.authenticated = await self._around.viewer(context.connection)
        if context.authenticated is None:
            connection = context.connection
            assert isinstance(connection, WebSocket)
            if connection.application_state is not WebSocketState.DISCONNECTED:
                await connection.close(4401, "Unauthorized")
        return context.authenticated is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; what was no GraphQL request at all is told as JSON too."""
        if scope["type"] != "http":
            await self.run(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive)
        try:
            response = _refusal(request) or await self._answer(request)
        except HTTPException as error:
            response = fault(error.status_code, ErrorCode.INVALID, error.reason)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        """The answer. A client of the older media type looks into the body, not at the status."""
        context = await self.get_context(request, request)
        told = process_result(await self._result(_members(self.parse_json(await request.body())), context))
        status = _status(told)
        if MODERN in request.headers.get("accept", ""):
            return Response(encode(told), status, media_type=f"{MODERN}; charset=utf-8")
        return Response(encode(told), 200 if status == 400 else status, media_type=LEGACY)

    async def _result(self, asked: Mapping[str, Any], context: Context) -> ExecutionResult:
        """The result of a query or a mutation."""
        query, variables, name = asked.get("query"), asked.get("variables"), asked.get("operationName")
        extensions = asked.get("extensions")
        known = await remembered.execute(self._schema, query, variables, context, name, extensions)
        if known is not None:
            return known
        allowed = (OperationType.QUERY, OperationType.MUTATION)
        try:
            return await self.schema.execute(query, variables, context, None, name, allowed, extensions)
        except MissingQueryError as error:
            raise HTTPException(400, "there is no `query` in this request") from error
        except InvalidOperationTypeError as error:
            raise HTTPException(400, "subscriptions go by WebSocket") from error
        except CannotGetOperationTypeError as error:
            raise HTTPException(400, error.as_http_error_reason()) from error

    def decode_json(self, data: str | bytes) -> object:
        """A JSON object in; nothing of ours is anything else."""
        document = orjson.loads(data)
        if not isinstance(document, dict):
            raise orjson.JSONDecodeError("not an object", "", 0)
        return document

    def encode_json(self, data: object) -> str | bytes:
        """JSON out."""
        return encode(data)


def encode(data: object) -> bytes:
    """JSON, with numpy's columns as they are."""
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)


def fault(status: int, code: ErrorCode, message: str, **headers: str) -> Response:
    """An answer without data."""
    body = {"errors": [{"message": message, "extensions": {"code": code.value}}]}
    return Response(orjson.dumps(body), status, headers, media_type=LEGACY)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # a strided or big-endian column
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _members(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The members of a request, of the types that GraphQL over HTTP has."""
    for name, kind in _MEMBERS.items():
        if not isinstance(body.get(name), kind | None):
            raise HTTPException(400, f"`{name}` is {'a string' if kind is str else 'an object'} or null")
    return body


def _refusal(request: Request) -> Response | None:
    if request.method != "POST":
        message = "GraphQL is asked by POST; a browser gets the explorer here"
        return fault(405, ErrorCode.INVALID, message, Allow="POST")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return fault(415, ErrorCode.INVALID, "send application/json")
    accepted = request.headers.get("accept", "*/*")
    if not any(one in accepted for one in (MODERN, LEGACY, "*/*", "application/*")):
        return fault(406, ErrorCode.INVALID, f"answers are {MODERN} or {LEGACY}")
    return None


def _status(response: Mapping[str, Any]) -> int:
    """400 for what was not executed, 401 for nobody, else 200."""
    told = any(part is not None for part in (response.get("data") or {}).values())
    if told or not response.get("errors"):
        return 200
    codes = {error.get("extensions", {}).get("code") for error in response["errors"]}
    if ErrorCode.UNAUTHENTICATED.value in codes:
        return 401
    executed = any("path" in error and error["path"] for error in response["errors"])
    return 200 if executed else 400
