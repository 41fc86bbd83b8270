"""Many WebSockets that do nothing but note how late each message comes, in a process of their own.

`python -m tests.bench.listeners COUNT STALLED URL [TOKEN RUN]`: says `ready`, listens until its input ends, and
says what came. A client library would take longer to read a message than the server to send it: here a frame is
cut out of the bytes and the time found in it. STALLED more of them read nothing at all.
"""

import asyncio
import os
import sys
import time
from urllib.parse import urlsplit

import orjson

WATCH = """subscription($r: ID!, $a: Int64) { metrics(run: $r, after: $a, names: ["loss"]) {
  ... on FeedEvent { seq } ... on PointsAdded { step series { name steps values } } } }"""


class Listener(asyncio.Protocol):
    """One of them."""

    def __init__(
        self, path: str, host: str, token: str, run: str, delays: list[float], *, stalled: bool
    ) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        )
        self._request += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        if token:
            self._request += (
                f"Sec-WebSocket-Protocol: graphql-transport-ws\r\nAuthorization: Bearer {token}\r\n"
            )
        self._run = run
        self._mark = b'"values":[' if token else b'"at":'
        self._delays = delays
        self._stalled = stalled
        self._buffer = b""
        self._open = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(f"{self._request}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.time()
        data = self._buffer + data
        if not self._open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            assert b" 101 " in head, head
            self._open = True
            if not self._run:
                self.ready.set_result(None)
            else:
                self._send({"type": "connection_init"})
        at = 0
        while len(data) - at >= 4:
            length, start = data[at + 1] & 127, at + 2
            if length == 126:
                length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if len(data) < start + length:
                break
            self._take(data, start, start + length, now)
            at = start + length
        self._buffer = data[at:]

    def _take(self, data: bytes, start: int, stop: int, now: float) -> None:
        found = data.find(self._mark, start, stop)
        if found >= 0:
            begin = found + len(self._mark)
            ends = [end for end in (data.find(b"]", begin, stop), data.find(b",", begin, stop)) if end > 0]
            self._delays.append(now - float(data[begin : min(ends)]))
        elif data.find(b"connection_ack", start, stop) >= 0:
            asked = {"query": WATCH, "variables": {"r": self._run, "a": None}}
            self._send({"id": "1", "type": "subscribe", "payload": asked})
            self.ready.set_result(None)
            if self._stalled:
                self._transport.pause_reading()
        elif data.find(b'"type":"ping"', start, stop) >= 0:
            self._send({"type": "pong"})

    def _send(self, message: object) -> None:
        body = orjson.dumps(message)
        head = (
            bytes([0x81, 0x80 | len(body)]) if len(body) < 126 else b"\x81\xfe" + len(body).to_bytes(2, "big")
        )
        self._transport.write(head + b"\0\0\0\0" + body)


async def listen(count: int, stalled: int, url: str, token: str = "", run: str = "") -> None:
    """Connect, and tell at the end of the input what came: how many, and their delays in order."""
    parts, delays = urlsplit(url), list[float]()
    loop = asyncio.get_running_loop()
    for number in range(count + stalled):
        _, listener = await loop.create_connection(
            lambda number=number: Listener(  # type: ignore[misc]
                parts.path, parts.netloc, token, run, delays, stalled=number >= count
            ),
            parts.hostname or "",
            parts.port or 80,
        )
        await listener.ready
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    sys.stdout.write(orjson.dumps(sorted(delays)).decode())
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(listen(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
