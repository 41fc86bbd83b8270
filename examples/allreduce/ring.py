"""Workers in a ring that add up their numbers: all-reduce over plain sockets, in the standard library.

They meet at MASTER_ADDR and MASTER_PORT, where rank 0 listens: each tells the port it takes its left neighbour at,
and hears where its right one is. A sum takes two rounds. In the first each chunk goes once around, and everybody
adds their own to it; in the second the finished chunks go around. So a worker sends and receives twice the numbers,
however many workers there are, and as each chunk is added up in one order, all have the same sum to the last bit.
"""

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence

PATIENCE_SECONDS = 300.0
"""How long to wait for the others: on some backends workers start one after the other."""


class Ring:
    """This worker's place in the ring."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        if self.size == 1:
            return
        listening = socket.create_server(("", 0))
        listening.settimeout(PATIENCE_SECONDS)
        right = _meet(self.rank, self.size, listening.getsockname()[1])
        self._right = socket.create_connection(right, PATIENCE_SECONDS)
        self._left, _ = listening.accept()
        for each in (self._left, self._right):
            each.settimeout(PATIENCE_SECONDS)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums of what all workers have at each place."""
        total = list(numbers)
        if self.size == 1:
            return total
        bounds = [len(total) * chunk // self.size for chunk in range(self.size + 1)]
        parts = [slice(bounds[chunk], bounds[chunk + 1]) for chunk in range(self.size)]
        for turn in range(self.size - 1):
            mine, theirs = parts[(self.rank - turn) % self.size], parts[(self.rank - turn - 1) % self.size]
            came = self._pass_on(total[mine], theirs.stop - theirs.start)
            total[theirs] = [one + other for one, other in zip(came, total[theirs], strict=True)]
        for turn in range(self.size - 1):
            mine, theirs = parts[(self.rank + 1 - turn) % self.size], parts[(self.rank - turn) % self.size]
            total[theirs] = self._pass_on(total[mine], theirs.stop - theirs.start)
        return total

    def _pass_on(self, numbers: Sequence[float], count: int) -> list[float]:
        """Send to the right what the left does at the same time: both at once, or full buffers would wait for good."""
        data = struct.pack(f"<{len(numbers)}d", *numbers)
        sending = threading.Thread(target=self._right.sendall, args=(data,))
        sending.start()
        came = _receive(self._left, count * 8)
        sending.join()
        return list(struct.unpack(f"<{count}d", came))


def _meet(rank: int, size: int, port: int) -> tuple[str, int]:
    """Where this worker's right neighbour listens."""
    master = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank == 0:
        return _introduce(size, master[1], (master[0], port))
    with _connect(master) as connection:
        own = connection.getsockname()[0], port
        with connection.makefile("rw", encoding="utf-8") as lines:
            print(json.dumps([rank, *own]), file=lines, flush=True)
            host, right = json.loads(lines.readline())
            return host, right


def _introduce(size: int, port: int, own: tuple[str, int]) -> tuple[str, int]:
    """As rank 0: hear where everybody listens, then tell each about the next."""
    places, lines = {0: own}, {}
    with socket.create_server(("", port)) as server:
        server.settimeout(PATIENCE_SECONDS)
        while len(places) < size:
            connection, _ = server.accept()
            talk = connection.makefile("rw", encoding="utf-8")
            rank, host, theirs = json.loads(talk.readline())
            places[rank], lines[rank] = (host, theirs), talk
    for rank, talk in lines.items():
        print(json.dumps(places[(rank + 1) % size]), file=talk, flush=True)
    return places[1]


def _connect(address: tuple[str, int]) -> socket.socket:
    """A connection, once somebody listens there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return socket.create_connection(address, PATIENCE_SECONDS)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("a neighbour has left the ring")
        data += more
    return data
