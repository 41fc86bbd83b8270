"""A WebSocket client that is next to nothing: what it takes of a machine, the server lacks.

It opens a connection, sends small messages, and cuts what comes into whole ones; who uses it waits and reads.
"""

import base64
import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import orjson

RECEIVED_BYTES = 1 << 16
"""At once. Room for a megabyte costs each receive three times what the kernel takes to hand over a small message."""
_TEXT, _PING, _PONG = 0x81, 0x89, 0x8A


class Socket:
    """One connection. `token` makes it one of graphql-transport-ws."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        self.file = socket.create_connection((parts.hostname, parts.port or 80))
        self.file.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += [f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}"]
        if token:
            lines += ["Sec-WebSocket-Protocol: graphql-transport-ws", f"Authorization: Bearer {token}"]
        self.file.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.received()
        assert b" 101 " in head, head
        self._rest = head.partition(b"\r\n\r\n")[2]
        if token:
            self.send({"type": "connection_init"})
            (answer,) = self.messages(self.received())
            assert b"connection_ack" in answer, answer

    def received(self) -> bytes:
        """The bytes that come next."""
        data = self.file.recv(RECEIVED_BYTES)
        if not data:
            raise EOFError("the server has closed this connection")
        return data

    def subscribe(self, query: str, **variables: object) -> None:
        """Begin the one subscription of this connection."""
        self.send({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": variables}})

    def send(self, message: object) -> None:
        """A message of less than 64 KiB."""
        self._send(_TEXT, orjson.dumps(message))

    def messages(self, data: bytes) -> Iterator[bytes]:
        """The texts that are whole with these bytes; what the server only wants to hear back, it hears."""
        data = self._rest + data
        at = 0
        while (found := _frame(data, at)) is not None:
            begin, end = found
            if data[at] == _PING:
                self._send(_PONG, data[begin:end])
            elif data[at] == _TEXT:
                text = data[begin:end]
                if text.startswith(b'{"type":"ping"'):
                    self.send({"type": "pong"})
                else:
                    yield text
            at = end
        self._rest = data[at:]

    def _send(self, kind: int, body: bytes) -> None:
        size = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2, "big")
        self.file.sendall(b"%c%s\0\0\0\0%s" % (kind, size, body))


def _frame(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame at a place begins and ends, if all of it is there."""
    if len(data) - at < 2:
        return None
    length, begin = data[at + 1] & 127, at + 2
    if length > 125:
        wide = 2 if length == 126 else 8
        if len(data) < begin + wide:
            return None
        length, begin = int.from_bytes(data[begin : begin + wide], "big"), begin + wide
    return (begin, begin + length) if len(data) >= begin + length else None
