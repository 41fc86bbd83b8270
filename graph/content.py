"""File contents over plain HTTP: PUT of an announced upload, GET with ranges, under the API's permissions."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import cast

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from backends.contents import BlobInvalid
from db import files
from db.errors import DomainError
from db.viewers import Viewer
from graph import nodes
from graph.encoding import fault
from graph.errors import ErrorCode
from graph.surroundings import Surroundings

STATUS = {
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "INVALID": 422,
    "CONFLICT": 409,
    "LIMIT_EXCEEDED": 413,
    "UNAVAILABLE": 503,
}
"""What refusals have for a status over plain HTTP."""


PRIVATE = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of what is made for one viewer; a page of another port of this machine, a job's perhaps, embeds none of it."""


class Streamed(StreamingResponse):
    """An answer that is made while it is sent. What makes it ends with it, also where the client goes half way."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        made = cast("AsyncGenerator[bytes, None]", self.body_iterator)
        async with aclosing(made):
            await super().__call__(scope, receive, send)


Answer = Callable[[Request, Surroundings, Viewer], Awaitable[Response]]


def guarded(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for who has credentials; refusals are told with the status they have over plain HTTP."""

    async def endpoint(request: Request) -> Response:
        around: Surroundings = request.app.state.around
        viewer = await around.viewer(request)
        if viewer is None:
            return fault(401, ErrorCode.UNAUTHENTICATED, "send a token, or open a login link first")
        try:
            return await answer(request, around, viewer)
        except DomainError as error:
            return fault(STATUS[error.code], ErrorCode(error.code), str(error))

    return endpoint


@guarded
async def content(request: Request, around: Surroundings, viewer: Viewer) -> Response:
    """GET, HEAD and PUT of /files/{id}."""
    file_id = nodes.key("file", request.path_params["id"], "id")
    if request.method == "PUT":
        return await _put(request, around, viewer, file_id)
    return await _get(request, around, viewer, file_id)


async def _put(request: Request, around: Surroundings, viewer: Viewer, file_id: bytes) -> Response:
    if not around.is_own_origin(request):
        return fault(403, ErrorCode.FORBIDDEN, "a page of another origin may not upload")
    async with around.database.read() as session:
        file = await files.get_uploading(session, viewer, file_id)
    if file.size_bytes > around.max_upload_bytes:
        return fault(413, ErrorCode.LIMIT_EXCEEDED, f"at most {around.max_upload_bytes} bytes")
    try:
        stored = await around.blobs.write(request.stream(), limit_bytes=file.size_bytes)
    except BlobInvalid as error:
        return fault(422, ErrorCode.INVALID, f"the content {error}, as was announced")
    async with around.database.begin() as session:
        await files.record_content(
            session, viewer, file_id, sha256=stored.sha256, size_bytes=stored.size_bytes
        )
    return Response(status_code=204, headers={"ETag": f'"{stored.sha256}"'})


async def _get(request: Request, around: Surroundings, viewer: Viewer, file_id: bytes) -> Response:
    async with around.database.read() as session:
        file = await files.find(session, viewer, file_id)
    if file is None or file.state is not files.FileState.READY or file.sha256 is None:
        return fault(404, ErrorCode.NOT_FOUND, "there is no such file")
    path = around.blobs.path(file.sha256)
    if not path.is_file():
        return fault(503, ErrorCode.UNAVAILABLE, "the content is not where it should be")
    headers = {
        "ETag": f'"{file.sha256}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    if _knows(request, file.sha256):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type=file.media_type, filename=file.name)


def _knows(request: Request, sha256: str) -> bool:
    """Whether the client has this content already (RFC 9110 §13.1.2)."""
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    return f'"{sha256}"' in known or "*" in known
