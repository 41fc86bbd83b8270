"""The endpoint: GraphQL over HTTP, as server-sent events (sse.py), and over WebSockets (sockets.py).

POST of JSON only, answered as the client accepts it, with the status codes that the GraphQL-over-HTTP audit
asks for: 400 for a request that could not be executed where the client takes application/graphql-response
+json, 401 for nobody. Nobody may introspect and see the server's version, nothing else: the context gives
no database without a viewer.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import orjson
from cross_web import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError, MissingQueryError
from strawberry.http import process_result
from strawberry.schema import Schema
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from db import errors
from db.viewers import Viewer
from graph import remembered, sse
from graph.context import FROM_NOW, Context, Course
from graph.encoding import LEGACY, Plain, encode, fault, unavailable
from graph.errors import ErrorCode
from graph.sharing import Subscription, Topics, shareable
from graph.sockets import INIT_SECONDS, MOST_OPERATIONS, Adapter, Handler
from graph.surroundings import Surroundings
from graph.topics import Tell

MODERN = "application/graphql-response+json"
_MEMBERS: dict[str, type] = {"query": str, "variables": dict, "operationName": str, "extensions": dict}


class Endpoint(GraphQL[Context, None]):
    """The ASGI application at /graphql."""

    websocket_adapter_class = Adapter
    graphql_transport_ws_handler_class = Handler

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
        self.topics = Topics(self.stream, encode)
        self.closing = asyncio.Event()
        subscriptions = schema._schema.subscription_type
        assert subscriptions is not None
        self._resumable = frozenset(
            name for name, field in subscriptions.fields.items() if "after" in field.args
        )

    def end_streams(self) -> None:
        """End what is streamed as events now: whoever follows resumes elsewhere. WebSockets the server closes."""
        self.closing.set()
        self.closing = asyncio.Event()

    async def watch(
        self,
        query: str,
        variables: dict[str, Any] | None,
        operation_name: str | None,
        context: Context,
        tell: Tell,
        *,
        resume: int | None = None,
    ) -> bool:
        """Tell every answer to a subscription that is shared (sharing.py); False for what is not."""
        wanted = shareable(query, variables, operation_name, self._resumable, resume=resume)
        if wanted is None:
            return False
        if not remembered.is_known(self._schema, query):
            await self._learn(wanted, context)
        return await self.topics.watch(wanted, context, tell)

    async def _learn(self, wanted: Subscription, context: Context) -> None:
        """Execute what was never asked before to no end: once it is remembered, each event of it costs less."""
        nowhere = context.twin(Course(FROM_NOW, 0))
        results = await self.schema.stream(
            wanted.query,
            variable_values=wanted.variables,
            context_value=nowhere,
            operation_name=wanted.operation_name,
        )
        async with aclosing(results):
            await anext(results, None)

    async def stream(
        self, query: str, variables: dict[str, Any] | None, operation_name: str | None, context: Context
    ) -> AsyncGenerator[Any, None]:
        """The results of any operation: of a subscription many, else one."""
        known = await remembered.subscribe(self._schema, query, variables, context, operation_name)
        if known is not None:
            return known
        source: AsyncGenerator[Any, None] = await self.schema.stream(
            query, variable_values=variables, context_value=context, operation_name=operation_name
        )
        return source

    async def get_context(self, request: Request | WebSocket, response: object) -> Context:
        """The operation's surroundings; on a WebSocket those of all its operations."""
        request_id = request.scope.get("request_id") or secrets.token_hex(8)
        seen: Viewer | None = request.scope.pop("viewer", None)  # before its body was read
        viewer = seen or await self._around.viewer(request)
        return Context(request, self._around, viewer=viewer, request_id=request_id)

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """A browser shows its cookie, others a header or {"token": …} in connection_init."""
        if not await self.admits(context):
            assert isinstance(context.connection, WebSocket)
            await context.connection.close(4401, "Unauthorized")
            raise ConnectionRejectionError
        accepted: UnsetType = UNSET
        return accepted

    async def admits(self, context: Context) -> bool:
        """Whether a connection's credential is good now, as it may not be for ever."""
        context.authenticated = await self._whose(context)
        return context.authenticated is not None

    async def is_still(self, context: Context) -> bool:
        """Whether a connection's credential is still good for what it was when it was admitted."""
        return context.authenticated is not None and await self._whose(context) == context.authenticated

    async def _whose(self, context: Context) -> Viewer | None:
        token = context.connection_params.get("token")
        if isinstance(token, str) and token:
            return await self._around.credentials.viewer(token)
        return await self._around.viewer(context.connection)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak over a WebSocket, or answer a request."""
        if scope["type"] == "http":
            await self.answer(Request(scope, receive), send)
        else:
            await self.run(WebSocket(scope, receive, send))

    async def answer(self, request: Request, send: Send) -> None:
        """Answer; what was no GraphQL request at all is told as JSON too."""
        try:
            response = _refusal(request) or await self._respond(request)
        except HTTPException as error:
            response = fault(error.status_code, ErrorCode.INVALID, error.reason)
        except errors.Unavailable as error:
            response = unavailable(error)
        await response(request.scope, request.receive, send)

    async def _respond(self, request: Request) -> sse.Stream | Response | Plain:
        if sse.is_preferred(request.headers.get("accept", "")):
            return await self._events(request)
        return await self._answer(request)

    async def _events(self, request: Request) -> sse.Stream | Response:
        """The answers as server-sent events."""
        last = request.headers.get("last-event-id", "")
        if last and not (last.isdecimal() and len(last) <= 16 and int(last) < 2**53):
            raise HTTPException(400, "Last-Event-ID is the id of an event: the number of a feed")
        asked = _members(self.parse_json(await request.body()))
        if not asked.get("query"):
            raise HTTPException(400, "there is no `query` in this request")
        context = await self.get_context(request, request)
        if context.authenticated is None:
            return fault(401, ErrorCode.UNAUTHENTICATED, "say who asks: send a token")
        return sse.Stream(self, asked, context, int(last) if last else None)

    async def _answer(self, request: Request) -> Plain:
        """The answer. A client of the older media type looks into the body, not at the status."""
        context = await self.get_context(request, request)
        told = process_result(await self._result(_members(self.parse_json(await request.body())), context))
        status = _status(told)
        if MODERN in request.headers.get("accept", ""):
            return Plain(encode(told), status, f"{MODERN}; charset=utf-8")
        return Plain(encode(told), 200 if status == 400 else status, LEGACY)

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
            raise HTTPException(400, f"subscriptions go by WebSocket, or accept {sse.MEDIA_TYPE}") from error
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
    accepted = request.headers.get("accept", "*/*").lower()
    if not any(one in accepted for one in (MODERN, LEGACY, sse.MEDIA_TYPE, "*/*", "application/*")):
        return fault(406, ErrorCode.INVALID, f"answers are {MODERN}, {LEGACY} or {sse.MEDIA_TYPE}")
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
