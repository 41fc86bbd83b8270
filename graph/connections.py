"""HTTP connections that hold nothing for ever: a request has to arrive, and an answer to be taken.

uvicorn waits without end for a head, a body and a reader, before anybody knows who it is that connects. Here who sends
no whole head in time, or an endless one, and who neither sends the rest nor takes what is sent, loses the connection;
what it held is free then, and whatever makes the answer hears of it. WebSockets have their pings instead.
"""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from contextlib import suppress
from typing import Any

import structlog

from graph import wire

log = structlog.get_logger(__name__)

HEAD_SECONDS = 30.0
"""How long a whole head of a request may take, from the connection or from the answer before."""
HEAD_BYTES = 64 << 10
STALLED_SECONDS = 60.0
"""How long a peer may neither send what is missing of a request nor take any of what waits for it."""
LOOK_SECONDS = 5.0
"""How often each connection is looked at: so much later than told it may be closed."""
_AT_ONCE = struct.pack("ii", 1, 0)


class Connection(wire.Protocol):
    """One that answers in one write, with these bounds."""

    head_seconds, head_bytes = HEAD_SECONDS, HEAD_BYTES
    stalled_seconds, look_seconds = STALLED_SECONDS, LOOK_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since: float | None = self.loop.time()
        """Since when a head is waited for; None while a request is answered."""
        self._in_head = 0
        """How much of a head has come whose end has not."""
        self._heard_at = self._taken_at = self.loop.time()
        """When the peer sent something, and when it was seen to take something."""
        self._waiting = 0
        """How much it had not taken then."""
        self._look = self.loop.call_later(self.look_seconds, self._looked_at)
        self._answering: Any = None
        """What is being answered; uvicorn knows the last request of a pipeline alone."""

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        cycle = self._answering
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._look.cancel()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)
        if self._in_head:
            self._in_head += len(data)
            if self._in_head > self.head_bytes:
                self._drop("the head of a request is too long")

    def on_message_begin(self) -> None:
        self._in_head = 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_since = 0, None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last:
            self._head_since = self.loop.time()

    def _looked_at(self) -> None:
        now = self.loop.time()
        self._look = self.loop.call_later(self.look_seconds, self._looked_at)
        if self._head_since is not None and now - self._head_since >= self.head_seconds:
            self._drop("no whole request has come")
        elif now - self._stuck_since(now) >= self.stalled_seconds:
            self._drop("its peer neither sends nor takes anything")

    def _stuck_since(self, now: float) -> float:
        """Since when it is the peer alone who is waited for.

        While writing is paused, or the transport closes, nothing is added to what waits to be taken.
        """
        held = self.flow.write_paused or self.transport.is_closing()
        waiting = self._untaken() if held else 0
        if waiting != self._waiting:
            self._waiting, self._taken_at = waiting, now
        if waiting:
            return self._taken_at
        return self._heard_at if self._is_asked() else now

    def _untaken(self) -> int:
        """How many bytes wait for the peer, here and in the kernel, which asks for more by the megabyte alone."""
        here = self.transport.get_write_buffer_size()
        with suppress(OSError):
            descriptor = self.transport.get_extra_info("socket").fileno()
            here += int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return here

    def _is_asked(self) -> bool:
        """Whether the rest of a request is waited for."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or cycle.waiting_for_100_continue:
            return False
        return bool(cycle.more_body) and not self.flow.read_paused

    def _drop(self, why: str) -> None:
        log.info("connection dropped", why=why, client=self.client and self.client[0])
        if self._untaken():  # else the kernel goes on to offer what it holds
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()
