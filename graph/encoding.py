"""JSON out, and what is answered without any data."""

from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from db import errors
from graph.errors import ErrorCode

LEGACY = "application/json"
UNAUTHENTICATED: dict[str, Any] = {
    "data": None,
    "errors": [
        {
            "message": "this credential is good no longer, or not for the same",
            "extensions": {"code": ErrorCode.UNAUTHENTICATED.value},
        }
    ],
}
"""What a subscription is told whose credential was revoked, has expired, or was given another scope."""


class Plain:
    """A whole answer: what Starlette's Response sends, which makes its headers by way of text."""

    def __init__(self, body: bytes, status: int, media_type: str) -> None:
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", media_type.encode())]
        self._start = {"type": "http.response.start", "status": status, "headers": headers}
        self._body = {"type": "http.response.body", "body": body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send(self._start)
        await send(self._body)


def encode(data: object) -> bytes:
    """JSON, with numpy's columns as they are."""
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)


def fault(status: int, code: ErrorCode, message: str, **headers: str) -> Response:
    """An answer without data."""
    body = {"errors": [{"message": message, "extensions": {"code": code.value}}]}
    return Response(orjson.dumps(body), status, headers, media_type=LEGACY)


def unavailable(error: errors.Unavailable) -> Response:
    """Of a request that has not been looked at yet."""
    return fault(503, ErrorCode.UNAVAILABLE, str(error), **{"Retry-After": "1"})


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # a strided or big-endian column
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
