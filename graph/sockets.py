"""graph-transport-ws: strawberry's protocol with shared subscriptions, and connections that are looked after.

Every few seconds a connection's credential is looked at again, so that what was revoked is told no more; and
a peer that has said nothing for long, not even a pong to a ping, is taken for gone.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from starlette.websockets import WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
    Operation,
)

from graph.context import Context
from graph.encoding import UNAUTHENTICATED, encode
from graph.frames import Push, framed, push_of
from graph.topics import Answer, Tell

if TYPE_CHECKING:
    from graph.http import Endpoint

log = structlog.get_logger(__name__)

INIT_SECONDS = 10
MOST_OPERATIONS = 100
"""Subscriptions at once on one WebSocket."""
CHECK_SECONDS = 2.0
"""How often a credential is looked at; what revokes it may itself be 5 s old (credentials.py)."""
PING_SECONDS = 20.0
SILENCE_SECONDS = 50.0
"""After so long without a word, which is two pings and more, nobody is there."""
SILENT = 4499
"""The close code of who did not answer; graphql-ws tries again after it, as it does not after 1011."""


class Adapter(ASGIWebSocketAdapter):
    """Text frames, and a close that may come twice."""

    @property
    def push(self) -> Push:
        """What writes a frame at once."""
        return push_of(self.ws.scope)

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


class Handler(BaseGraphQLTransportWSHandler[Context, None]):
    """One connection."""

    view: "Endpoint"
    websocket: Adapter

    async def handle(self) -> None:
        """Serve the connection until its end, looking after it meanwhile."""
        serving = asyncio.ensure_future(super().handle())
        minding = asyncio.ensure_future(self._mind())
        try:
            await asyncio.wait({serving, minding}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (serving, minding):
                task.cancel()
            await asyncio.wait({serving, minding})
        for task in (serving, minding):
            if not task.cancelled():
                task.result()

    async def handle_message(self, message: Any) -> None:
        """Take note that somebody is there."""
        self._heard = asyncio.get_running_loop().time()
        await super().handle_message(message)

    async def run_operation(self, operation: Operation[Context, None]) -> None:
        """Send what a shared subscription gives; what cannot be shared goes the usual way."""
        if not await self.view.admits(self.context):
            await self.close_unauthorized()
            return
        head, push = b'{"id":%s,"type":"next","payload":' % orjson.dumps(operation.id), self.websocket.push

        def now(answer: Answer) -> bool:
            return push(_frame(head, answer))

        async def send(answer: Answer) -> None:
            if not now(answer):
                await self.websocket.send(b"".join((head, answer.data, b"}")).decode())

        asked = (operation.query, operation.variables, operation.operation_name)
        try:
            if not await self.view.watch(*asked, self.context, Tell(send, now)):
                await super().run_operation(operation)
                return
        except WebSocketDisconnected:
            return
        except Exception as error:
            # As in strawberry's own handler: the fault is told to the log, the end to the client.
            log.error("subscription failed", error=repr(error), exc_info=error)
        # Also after a fault: a client that has not seen FeedEnded resumes where it stands.
        await operation.send_operation_message({"id": operation.id, "type": "complete"})

    async def close_unauthorized(self) -> None:
        """End the connection for want of a credential that is still good."""
        await self.websocket.close(4401, "Unauthorized")

    async def _mind(self) -> None:
        """Return when the connection is to end: its credential is good no longer, or nobody is there."""
        now = asyncio.get_running_loop().time
        self._heard = pinged = now()
        while now() - self._heard < SILENCE_SECONDS:
            await asyncio.sleep(CHECK_SECONDS)
            if not self.connection_acknowledged:
                continue
            with suppress(TimeoutError):  # a peer that takes nothing does not keep us from looking after it
                async with asyncio.timeout(CHECK_SECONDS):
                    if not await self.view.is_still(self.context):
                        await self._part()
                        return
                    if now() - pinged >= PING_SECONDS:
                        pinged = now()
                        await self.send_message({"type": "ping"})
        with suppress(TimeoutError, WebSocketDisconnected):
            async with asyncio.timeout(CHECK_SECONDS):
                await self.websocket.close(SILENT, "no pong")

    async def _part(self) -> None:
        """Tell every operation why it ends."""
        for operation in list(self.operations.values()):
            if operation.task is not None:
                operation.task.cancel()
            message = {"id": operation.id, "type": "next", "payload": UNAUTHENTICATED}
            await operation.send_operation_message(message)  # type: ignore[arg-type]
            await operation.send_operation_message({"id": operation.id, "type": "complete"})
        await self.close_unauthorized()


@lru_cache(maxsize=4)
def _frame(head: bytes, answer: Answer) -> bytes:
    """What tells an answer; who watches under one id, as most clients number theirs, is sent the same bytes."""
    return framed(head, answer.data, b"}")
