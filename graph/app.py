"""The composition root: one application from settings, and everything it opens and closes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from backends import manifest_schema
from backends.restoring import Restorer
from db import errors, projects
from db.ingest import Ingest
from graph import carrying, content, exports, log_text, pages, working
from graph.encoding import fault, unavailable
from graph.errors import ErrorCode
from graph.guard import Asked, Guard
from graph.http import Endpoint
from graph.live import Hub
from graph.schema import build, sdl
from graph.settings import Settings
from graph.supervising import brought
from graph.surroundings import Surroundings

log = structlog.get_logger(__name__)

NOBODYS_BYTES = 8 << 10
_ANY = ("0.0.0.0", "::", "[::]")


def near(host: str, port: int | str) -> str:
    """The URL by which this machine reaches what listens at a host of its own."""
    return f"http://{'127.0.0.1' if host in _ANY else host}:{port}"


def create_app(
    settings: Settings, *, url: str, own_url: str = "", hosts: frozenset[str] = frozenset()
) -> Starlette:
    """The application. `url` is where jobs reach it, `own_url` itself, `hosts` the names it was bound to."""
    hosts |= {*settings.allowed_hosts, *_host_of(settings.public_url)}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            around = app.state.around = await _open(stack, settings, url, own_url or url)
            endpoint = app.state.endpoint = Endpoint(build(), around)
            if settings.jobs_listen:
                await _listen(stack, settings, endpoint, around)
            yield

    middleware = [Middleware(Guard, hosts=hosts), Middleware(_Straight)]
    return Starlette(routes=_routes(), lifespan=lifespan, middleware=middleware)


async def open_alone(stack: AsyncExitStack, settings: Settings, url: str) -> None:
    """Open all of a server but its API: what works by itself, and the listener for jobs elsewhere if it has one."""
    host, _, port = settings.jobs_listen.rpartition(":")
    around = await _open(stack, settings, url, near(host, port) if host else url)
    if settings.jobs_listen:
        await _listen(stack, settings, Endpoint(build(), around), around)


async def _listen(
    stack: AsyncExitStack, settings: Settings, endpoint: Endpoint, around: Surroundings
) -> None:
    restorer = Restorer(around.database, settings.home / "modules", around.blobs)
    door = carrying.listening(settings.jobs_listen, endpoint, around, restorer, brought(settings))
    await stack.enter_async_context(door)


def _routes() -> list[BaseRoute]:
    routes: list[BaseRoute] = [
        Route("/", pages.home),
        Route("/graphql", _Graphql()),  # of what leads here by way of /graphql/
        WebSocketRoute("/graphql", _Graphql()),
        Route("/files/{id}", content.content, methods=["GET", "HEAD", "PUT"]),
        Route("/metrics.{format}", exports.metrics, methods=["GET", "HEAD"]),
        Route("/runs/{id}/metrics.{format}", exports.metrics, methods=["GET", "HEAD"]),
        Route("/runs/{id}/archive.zip", exports.archive, methods=["GET", "HEAD"]),
        Route("/jobs/{id}/log", log_text.log, methods=["GET", "HEAD"]),
        Route("/login", pages.login, methods=["GET"]),
        Route("/health", _health),
        Route("/schema.graphql", _sdl),
        Route(manifest_schema.ADDRESS, _manifest_schema),
    ]
    if pages.STATIC.is_dir():
        routes.append(Mount("/explorer-assets", _Assets(directory=pages.STATIC)))
    return routes


class _Graphql:
    """The endpoint, or its explorer where a browser comes to look."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Asked(scope, receive)
            if pages.wants_page(request):
                await (await pages.explorer(request))(scope, receive, send)
                return
            if "origin" in request.headers and not scope["app"].state.around.is_own_origin(request):
                message = "a page of another origin may not ask"
                await fault(403, ErrorCode.FORBIDDEN, message)(scope, receive, send)
                return
            try:
                is_much = await self._is_much_of_nobody(request)
            except errors.Unavailable as error:
                await unavailable(error)(scope, receive, send)
                return
            if is_much:
                message = f"without a token a request says its length, of at most {NOBODYS_BYTES} bytes"
                await fault(413, ErrorCode.LIMIT_EXCEEDED, message)(scope, receive, send)
                return
            await scope["app"].state.endpoint.answer(request, send)
            return
        await scope["app"].state.endpoint(scope, receive, send)

    async def _is_much_of_nobody(self, request: Request) -> bool:
        """Nobody is read only as much as an introspection takes."""
        if request.method != "POST":
            return False
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) <= NOBODYS_BYTES:
            return False
        around: Surroundings = request.app.state.around
        viewer = request.scope["viewer"] = await around.viewer(request)
        return viewer is None


class _Straight:
    """Leads what is for the endpoint there at once: to ask each route takes as long as a short answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._graphql = _Graphql()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] == "http" and scope["path"] == "/graphql"
        await (self._graphql if is_asked else self._app)(scope, receive, send)


class _Assets(StaticFiles):
    """The explorer's files, whose names change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if path.startswith("assets/"):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


async def _health(request: Request) -> Response:
    around: Surroundings = request.app.state.around
    try:
        async with asyncio.timeout(5), around.database.read() as session:
            await projects.exists(session)
    except Exception as error:
        # Whoever asks wants to know that it is not well, and the log why.
        log.error("not healthy", error=repr(error), exc_info=error)
        return JSONResponse({"status": "unavailable"}, 503)
    return JSONResponse({"status": "ok"})


async def _sdl(_request: Request) -> Response:
    return PlainTextResponse(sdl())


async def _manifest_schema(_request: Request) -> Response:
    """For editors, which ask from wherever they are."""
    headers = {"Access-Control-Allow-Origin": "*"}
    return Response(manifest_schema.text(), media_type="application/schema+json", headers=headers)


async def _open(stack: AsyncExitStack, settings: Settings, url: str, own_url: str) -> Surroundings:
    """Open what a request works with, and what works beside them, to be closed in the opposite order."""
    opened = await working.open_all(stack, settings, url, own_url)
    ingest = Ingest(opened.database)
    stack.push_async_callback(ingest.close)
    hub = Hub(opened.database)
    stack.callback(hub.close)
    return Surroundings(
        database=opened.database,
        ingest=ingest,
        hub=hub,
        blobs=opened.blobs,
        credentials=opened.credentials,
        vault=opened.vault,
        backend=opened.backend,
        allowed_origins=frozenset(settings.allowed_origins),
        max_upload_bytes=settings.max_upload_bytes,
    )


def _host_of(url: str) -> list[str]:
    name = urlsplit(url).hostname
    return [name] if name else []
