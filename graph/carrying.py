"""The listener for jobs elsewhere, pods above all: a door of its own that knows jobs' tokens and nothing else.

    GET  /attempt/source.tar      the module's source, and the client
    GET  /attempt/inputs/{name}   one input, with ranges
    POST /graphql                 what `rungraph.log` reports
    GET  /health

So a cluster's network needs no way to the server's API: what a job may do with its token is all there is, and a
person's token is as unknown here as none. RUNGRAPH_JOBS_LISTEN says where it listens; it is off without.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from backends.carrying import archive
from backends.restoring import Restorer
from backends.sources import SourceInvalid
from db import carrying
from db.errors import DomainError, NotFound
from db.viewers import Kind
from graph.connections import Connection
from graph.content import STATUS, Streamed
from graph.encoding import fault
from graph.errors import ErrorCode
from graph.http import Endpoint
from graph.surroundings import Surroundings

_MOST_BYTES = 16 << 20


@contextlib.asynccontextmanager
async def listening(
    address: str, endpoint: Endpoint, around: Surroundings, restorer: Restorer, client: Path | None
) -> AsyncIterator[None]:
    """Listen at host:port until left; an end that says why, where nobody can listen there."""
    host, _, port = address.rpartition(":")
    try:
        listener = socket.create_server((host.strip("[]"), int(port)))
    except (OSError, OverflowError) as error:
        raise SystemExit(f"rungraph: RUNGRAPH_JOBS_LISTEN: cannot listen on {address}: {error}") from error
    config = uvicorn.Config(
        _application(endpoint, around, restorer, client),
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        listener.close()


class _Server(uvicorn.Server):
    """A second server in one process: signals are the first one's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _application(
    endpoint: Endpoint, around: Surroundings, restorer: Restorer, client: Path | None
) -> Starlette:
    async def source(request: Request) -> Response:
        given = await _given(request, around)
        try:
            folder = await restorer.ensure(given.digest)  # it may be another replica that fetched it
        except SourceInvalid as error:
            return fault(503, ErrorCode.UNAVAILABLE, str(error))
        return Streamed(archive(folder, client), media_type="application/x-tar")

    async def input(request: Request) -> Response:
        given = await _given(request, around)
        file = given.inputs.get(request.path_params["name"])
        if file is None:
            raise NotFound("the job has no such input")
        path = around.blobs.path(file.sha256)
        if not path.is_file():
            return fault(503, ErrorCode.UNAVAILABLE, "the content is not where it should be")
        return FileResponse(path, media_type="application/octet-stream")

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/attempt/source.tar", source),
            Route("/attempt/inputs/{name:path}", input),
            Route("/graphql", endpoint, methods=["POST"]),
            Route("/health", health),
        ],
        middleware=[Middleware(_Door, around=around)],
        exception_handlers={DomainError: _refused, ClientDisconnect: _left},
    )


async def _given(request: Request, around: Surroundings) -> carrying.Given:
    viewer = await around.viewer(request)
    assert viewer is not None  # else the door was shut
    async with around.database.read() as session:
        return await carrying.given(session, viewer)


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, DomainError)
    return fault(STATUS[error.code], ErrorCode(error.code), str(error))


def _left(_request: Request, _error: Exception) -> Response:
    """Nobody hears it: a job that was killed has sent half a report."""
    return Response(status_code=400)


class _Door:
    """Nobody comes in without a job's token, by whichever way it is asked."""

    def __init__(self, app: ASGIApp, *, around: Surroundings) -> None:
        self._app = app
        self._around = around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        if request.url.path != "/health":
            viewer = await self._around.viewer(request)
            if viewer is None or viewer.kind is not Kind.JOB:
                await fault(401, ErrorCode.UNAUTHENTICATED, "only jobs' tokens are known here")(
                    scope, receive, send
                )
                return
            length = request.headers.get("content-length", "")
            if request.method == "POST" and not (length.isdigit() and int(length) <= _MOST_BYTES):
                message = f"a report says its length, of at most {_MOST_BYTES} bytes"
                await fault(413, ErrorCode.LIMIT_EXCEEDED, message)(scope, receive, send)
                return
        await self._app(scope, receive, send)
