"""What stands before every request: which host it was meant for, how much it sends, and its id.

The host check keeps a page of another site from reaching a server on this machine under a name of its own
(DNS rebinding). A body is bounded before it is read; a file's content has its own limit.
"""

import secrets
from collections.abc import Collection
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.encoding import fault
from graph.errors import ErrorCode

log = structlog.get_logger(__name__)

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
MOST_BYTES = 32 << 20
PROBED = "/health"
"""What anybody may ask under any name: orchestrators probe by address, and it tells nothing but that all is well."""


class Guard:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = LOOPBACK | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        headers = scope["heads"] = Heads(scope)
        if scope["path"] != PROBED and not self._is_ours(headers.get("host", "")):
            await self._refuse(scope, receive, send, 421, "this server does not answer to that host name")
            return
        length = headers.get("content-length", "0")
        try:
            if scope["type"] == "websocket" or scope["path"].startswith("/files/"):
                await self._app(scope, receive, send)
                return
            if not length.isdecimal() or int(length) > MOST_BYTES:
                raise _TooLarge
            await self._app(scope, _bounded(receive), send)
        except _TooLarge:
            await self._refuse(scope, receive, send, 413, f"a request has at most {MOST_BYTES} bytes")
        except ClientDisconnect:
            log.info("its client has gone before all of a request had come", path=scope["path"])

    def _is_ours(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        return (name if colon and port.isdigit() else host).lower() in self._hosts

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, status: int, message: str) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": message})
            return
        code = ErrorCode.LIMIT_EXCEEDED if status == 413 else ErrorCode.FORBIDDEN
        await fault(status, code, message)(scope, receive, send)


class Heads(Headers):
    """Headers that are asked for again and again: each is looked up, where Starlette's are searched through."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._first = dict(reversed(self._list))  # the first of several counts

    def __getitem__(self, key: str) -> str:
        return self._first[key.lower().encode("latin-1")].decode("latin-1")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower().encode("latin-1") in self._first

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a header; the default where it was not sent."""
        found = self._first.get(key.lower().encode("latin-1"))
        return default if found is None else found.decode("latin-1")


class Asked(Request):
    """A request that has passed the guard."""

    @property
    def headers(self) -> Headers:
        """As the guard has read them."""
        found: Heads = self.scope["heads"]
        return found


class _TooLarge(Exception):
    """More came than a request may have."""


def _bounded(receive: Receive) -> Receive:
    """A body without a length is read until it exceeds the limit."""
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            raise _TooLarge
        return message

    return bounded
