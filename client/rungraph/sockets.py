"""One subscription over one WebSocket, as the graphql-transport-ws protocol has it.

A socket carries a single operation: a slow reader then holds up nobody else, and closing the iterator is
closing the socket. Whatever breaks the connection becomes Unreachable, which feeds.py answers by resuming;
what the server says on purpose becomes ApiError.
Protocol: https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from rungraph.errors import ApiError, Unreachable
from rungraph.replies import STATUS_CODES, raise_errors
from rungraph.settings import is_loopback

PROTOCOL = Subprotocol("graphql-transport-ws")
MAX_MESSAGE_BYTES = 64 * 2**20
ACKNOWLEDGE_SECONDS = 10.0

CLOSE_CODES = {
    4400: "INVALID",
    4401: "UNAUTHENTICATED",
    4403: "FORBIDDEN",
    4406: "INVALID",
    4409: "CONFLICT",
    4429: "LIMIT_EXCEEDED",
}


async def subscribe(
    url: str, token: str | None, query: str, variables: Mapping[str, Any]
) -> AsyncGenerator[dict[str, Any]]:
    """The operation's answers as they come, each its `data`; ends when the server completes it."""
    operation = {"id": "1", "type": "subscribe", "payload": {"query": query, "variables": dict(variables)}}
    try:
        async with _opened(url, token) as socket:
            await _send(socket, operation)
            async for message in _messages(socket):
                match message["type"]:
                    case "next":
                        raise_errors(message["payload"])
                        yield message["payload"]["data"]
                    case "error":
                        raise_errors({"errors": message["payload"]})
                    case "complete":
                        return
    except ConnectionClosed as error:
        raise _closed(url, error) from error
    except InvalidStatus as error:
        raise _not_upgraded(url, error) from error
    except ConnectionRefusedError as error:
        raise Unreachable.nothing_at(url) from error
    except (OSError, WebSocketException, TimeoutError) as error:
        raise Unreachable.lost(url, error) from error


@asynccontextmanager
async def _opened(url: str, token: str | None) -> AsyncIterator[ClientConnection]:
    """A socket after connection_init and connection_ack."""
    async with connect(
        "ws" + url.removeprefix("http") + "/graphql",
        subprotocols=[PROTOCOL],
        additional_headers={"Authorization": f"Bearer {token}"} if token else {},
        compression=None,
        max_size=MAX_MESSAGE_BYTES,
        proxy=None if is_loopback(url) else True,
        # The goodbye of a socket left in mid-stream waits behind what nobody reads any more.
        close_timeout=0.3,
    ) as socket:
        if socket.subprotocol != PROTOCOL:
            raise ApiError("INTERNAL", f"{url} does not speak {PROTOCOL}")
        await _send(socket, {"type": "connection_init", "payload": {"token": token} if token else {}})
        async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
            async for message in _messages(socket):
                if message["type"] == "connection_ack":
                    break
        yield socket


async def _messages(socket: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """What the server sends, pings answered on the way; raises ConnectionClosed at the end."""
    while True:
        message = json.loads(await socket.recv())
        if message["type"] == "ping":
            await _send(socket, {"type": "pong"})
        else:
            yield message


async def _send(socket: ClientConnection, message: Mapping[str, Any]) -> None:
    await socket.send(json.dumps(message, allow_nan=False))


def _closed(url: str, error: ConnectionClosed) -> ApiError | Unreachable:
    close = error.rcvd
    if close is not None and close.code in CLOSE_CODES:
        return ApiError(CLOSE_CODES[close.code], close.reason or "the server closed the subscription")
    return Unreachable.lost(url, (close and close.reason) or error)


def _not_upgraded(url: str, error: InvalidStatus) -> ApiError | Unreachable:
    status = error.response.status_code
    if status >= 500:
        return Unreachable.lost(url, f"the server answered {status}")
    return ApiError(STATUS_CODES.get(status, "INVALID"), f"{url} answered {status} to a subscription")
