"""Many WebSockets that do nothing but note how late each message comes, in a process of their own.

`python -m tests.bench.listeners COUNT STALLED URL [TOKEN RUN]`: says `ready`, listens until its input ends, and
says what came. What is measured is the bytes' arrival at the socket of each: the clock is read as soon as they
are, and the time that they carry is looked for later, when no other socket has anything, as it would be in
clients that share no processor. STALLED more of them read nothing at all.
"""

import gc
import os
import select
import sys
import time
from collections import deque

import orjson

from tests.bench.sockets import Socket

WATCH = """subscription($r: ID!, $a: Int64) { metrics(run: $r, after: $a, names: ["loss"]) {
  ... on FeedEvent { seq } ... on PointsAdded { step series { name steps values } } } }"""


def listen(count: int, stalled: int, url: str, token: str = "", run: str = "") -> list[float]:
    """Connect, and note until the input ends: the delay of every message, in order."""
    sockets = {
        made.file.fileno(): made for made in (_opened(url, token, run) for _ in range(count + stalled))
    }
    mark = b'"values":[' if token else b'"at":'
    delays: list[float] = []
    came: deque[tuple[float, Socket, bytes]] = deque()
    with select.epoll() as poll:
        for file in list(sockets)[:count]:
            poll.register(file, select.EPOLLIN)
        poll.register(sys.stdin, select.EPOLLIN)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            ready = poll.poll(0 if came else -1)
            for file, _ in ready:
                if file not in sockets:
                    _note(came, mark, delays)
                    return sorted(delays)
                socket = sockets[file]
                data = socket.received()
                came.append((time.time(), socket, data))
            if not ready:
                _note([came.popleft()], mark, delays)


def _opened(url: str, token: str, run: str) -> Socket:
    made = Socket(url, token)
    if token:
        made.subscribe(WATCH, r=run, a=None)
    return made


def _note(
    came: "deque[tuple[float, Socket, bytes]] | list[tuple[float, Socket, bytes]]",
    mark: bytes,
    delays: list[float],
) -> None:
    for now, socket, data in came:
        for text in socket.messages(data):
            begin = text.find(mark) + len(mark)
            if begin >= len(mark):
                ends = [end for end in (text.find(b"]", begin), text.find(b",", begin)) if end > 0]
                delays.append(now - float(text[begin : min(ends)]))


if __name__ == "__main__":
    gc.disable()  # What is measured are the server's pauses, not those of this process.
    sys.stdout.write(orjson.dumps(listen(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])).decode())
    sys.stdout.flush()
    os._exit(0)
