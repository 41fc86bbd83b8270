"""WebSocket messages that go straight to the transport.

On its way through ASGI, starlette and websockets a small message costs more than the kernel takes to send it, and
what is told to a thousand watchers takes that way a thousand times. A connection of this protocol lends the
application a `Push` beside ASGI's `send`: it writes a whole frame where that can be done at once.
"""

import struct
from collections.abc import Callable
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

Push = Callable[[bytes], bool]
"""Write frames now; False where they have to wait, or come too late: then `send` does either."""

_EXTENSION = "rungraph.push"
_TEXT = 0x81
"""The only frame of a message, of text."""


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn's, whose connections can be pushed to."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.handshake_complete:
            self.scope["extensions"][_EXTENSION] = {"push": self._push}

    def _push(self, frame: bytes) -> bool:
        free = self.handshake_complete and self.writable.is_set() and not self.conn.extensions
        if not free or self.close_sent or self.disconnected or self.transport.is_closing():
            return False
        self.transport.write(frame)
        return True


def push_of(scope: Scope) -> Push:
    """What pushes to a connection; always False for one of another server's protocol."""
    extension = (scope.get("extensions") or {}).get(_EXTENSION)
    push: Push = extension["push"] if extension else _never
    return push


def framed(*parts: bytes) -> bytes:
    """A message of text as a frame, as a server sends it."""
    size = sum(map(len, parts))
    if size < 126:
        head = bytes((_TEXT, size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", _TEXT, 126, size)
    else:
        head = struct.pack("!BBQ", _TEXT, 127, size)
    return b"".join((head, *parts))


def _never(_frame: bytes) -> bool:
    return False
