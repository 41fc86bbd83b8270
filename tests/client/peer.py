"""A small real server to talk to: HTTP, graphql-transport-ws and file contents, scripted by each test.

It is a protocol peer, not a double of our code: every operation is parsed, validated and executed by
graphql-core against the committed schema.graphql, so a document that does not fit the contract fails here as
it would at the server. A test sets what root fields answer and which faults come first.
"""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    execute_sync,
    parse,
    validate,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

SCHEMA: GraphQLSchema = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text())
TOKEN = "a-token"

Event = dict[str, Any]


class Peer:
    """What a test scripts and what it may look at afterwards."""

    def __init__(self) -> None:
        self.url = ""
        self.token: str | None = TOKEN
        self.fields: dict[str, Any] = {}
        """Root field to its value, or to a function of its arguments."""
        self.feeds: dict[str, list[Event]] = {}
        """Subscription field to its events, which end in FeedEnded."""
        self.faults: list[Response] = []
        """What the next requests to /graphql get instead of an answer."""
        self.contents: dict[str, bytes] = {}
        self.uploaded: dict[str, bytes] = {}
        self.file_faults: list[Callable[[Request], Response]] = []
        self.operations: list[tuple[str, dict[str, Any]]] = []
        """Root field and variables of every operation that came, in order."""
        self.ranges: list[str | None] = []
        self.init_payloads: list[Any] = []
        self.exported: list[list[tuple[str, str]]] = []

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/graphql", self._post, methods=["POST"]),
                WebSocketRoute("/graphql", self._socket),
                Route("/contents/{name}", self._get, methods=["GET"]),
                Route("/contents/{name}", self._put, methods=["PUT"]),
                Route("/metrics.{name}", self._export),
                Route("/runs/{name}/archive.zip", self._export),
                Route("/health", lambda request: PlainTextResponse("ok")),
            ]
        )

    async def _post(self, request: Request) -> Response:
        body = await request.json()
        document = parse(body["query"])
        self.operations.append((_root_field(document), body["variables"]))
        if self.faults:
            return self.faults.pop(0)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return error_response(401, "UNAUTHENTICATED", "no valid token")
        if problems := validate(SCHEMA, document):
            return JSONResponse({"errors": [{"message": str(problem)} for problem in problems]}, 400)
        return JSONResponse(_execute(document, self.fields, body["variables"]))

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept("graphql-transport-ws")
        try:
            await self._operate(socket)
        except WebSocketDisconnect:
            return

    async def _operate(self, socket: WebSocket) -> None:
        init = await socket.receive_json()
        self.init_payloads.append(init.get("payload"))
        if self.token and init.get("payload") != {"token": self.token}:
            await socket.close(4403, "Forbidden")
            return
        await socket.send_json({"type": "connection_ack"})
        message = await socket.receive_json()
        document, variables = parse(message["payload"]["query"]), message["payload"]["variables"]
        field = _root_field(document)
        self.operations.append((field, variables))
        for answer in self._answers(document, field, variables):
            await socket.send_json({"id": message["id"], "type": "next", "payload": answer})
        await socket.send_json({"id": message["id"], "type": "complete"})
        await socket.close()

    def _answers(
        self, document: DocumentNode, field: str, variables: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        if problems := validate(SCHEMA, document):
            yield {"errors": [{"message": str(problem)} for problem in problems]}
            return
        for event in self.feeds[field]:
            if event["seq"] > variables.get("after", 0) or event["__typename"] == "FeedEnded":
                yield _execute(document, {field: event}, variables)

    async def _get(self, request: Request) -> Response:
        self.ranges.append(request.headers.get("range"))
        if self.file_faults:
            return self.file_faults.pop(0)(request)
        content = self.contents[request.path_params["name"]]
        start = range_start(request)
        if not start:
            return Response(content)
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return Response(content[start:], 206, headers)

    async def _export(self, request: Request) -> Response:
        self.exported.append(list(request.query_params.multi_items()))
        if self.file_faults:
            return self.file_faults.pop(0)(request)
        return Response(self.contents[request.path_params["name"]])

    async def _put(self, request: Request) -> Response:
        if self.file_faults:
            return self.file_faults.pop(0)(request)
        body = await request.body()
        assert request.headers["content-length"] == str(len(body))
        self.uploaded[request.path_params["name"]] = body
        return Response(status_code=204)


@contextmanager
def listening(peer: Peer) -> Iterator[Peer]:
    """Runs a peer on a free port, in a thread with an event loop of its own."""
    config = uvicorn.Config(peer.app(), host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.002)
        peer.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield peer
    finally:
        server.should_exit = True
        thread.join()


def error_response(status: int, code: str, message: str) -> Response:
    """A GraphQL answer that is one top-level error."""
    error = {"message": message, "extensions": {"code": code, "requestId": "req-1"}}
    return JSONResponse({"errors": [error]}, status)


def cut_short(content: bytes, total: int, status: int = 200, start: int = 0) -> Response:
    """A response that promises `total` bytes and breaks off after `content`."""

    async def pieces() -> Any:
        yield content

    headers = {"Content-Length": str(total)}
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{start + total - 1}/{start + total}"
    return StreamingResponse(pieces(), status, headers)


def range_start(request: Request) -> int:
    """Where a ranged request begins."""
    found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    return int(found[1]) if found else 0


def _root_field(document: DocumentNode) -> str:
    operation = next(node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    selection = operation.selection_set.selections[0]
    assert isinstance(selection, FieldNode)
    return selection.name.value


def _execute(document: DocumentNode, fields: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    root = {name: _resolver(answer) for name, answer in fields.items()}
    result = execute_sync(SCHEMA, document, root, variable_values=variables)
    return dict(result.formatted)


def _resolver(answer: Any) -> Callable[..., Any]:
    return lambda info, **arguments: answer(**_given(arguments)) if callable(answer) else answer


def _given(value: Any) -> Any:
    """Arguments without those that are null, as which the contract's defaults count: not given."""
    if isinstance(value, dict):
        return {name: _given(one) for name, one in value.items() if one is not None}
    return [_given(one) for one in value] if isinstance(value, list) else value
