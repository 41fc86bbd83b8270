"""HTTP answers in one write to the socket: the head waits for what follows it.

uvicorn writes an answer's head and then its body, and each goes to the system at once: one call more for every
answer, and whoever waits for it is woken by a head that says nothing without its body.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "


class Protocol(HttpToolsProtocol):
    """uvicorn's, over a transport that joins."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Joining(transport, self.loop))  # type: ignore[arg-type]

    def handle_websocket_upgrade(self) -> None:
        joining: Any = self.transport
        joining.flush()
        self.transport = joining.transport
        super().handle_websocket_upgrade()


class Joining:
    """A transport that holds a head back until the next write, or until the event loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """Write, or hold back a head."""
        if self._head:
            parts = [self._head, data]
            self._head = b""
            self.transport.writelines(parts)
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self.transport.write(data)

    def flush(self) -> None:
        """Write a head that nothing has followed."""
        head, self._head = self._head, b""
        if head and not self.transport.is_closing():
            self.transport.write(head)

    def close(self) -> None:
        """Close, with everything written."""
        self.flush()
        self.transport.close()
