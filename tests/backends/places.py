"""A real web server of this machine to fetch from, whose pages a test writes."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Place:
    """What it answers by path: a status, headers and a body; and what it was asked."""

    url: str = ""
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def put(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Have a page; its URL. `Content-Length` is the body's where none is given."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (status, {"Content-Length": str(len(body)), **named}, body)
        return self.url + path


@contextlib.contextmanager
def serving() -> Iterator[Place]:
    """A place that answers on 127.0.0.1 until the end."""
    place = Place()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place.asked.append((self.path, self.headers.get("Authorization")))
            status, headers, body = place.pages.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: what was asked is in `asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    place.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield place
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trickle(server: socket.socket, said: bytes) -> bool:
    """Say this, then a letter now and then; whether the other side hung up."""
    peer, _ = server.accept()
    with peer:
        peer.sendall(said)
        peer.settimeout(0.02)
        for _ in range(400):
            with contextlib.suppress(TimeoutError):
                if not peer.recv(1 << 16):
                    return True
            if said:
                try:
                    peer.sendall(b"x")
                except OSError:
                    return True
    return False
