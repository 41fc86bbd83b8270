"""The courier beside a job: keeps what it prints and makes until the server has it, and ends it when asked.

Started by path in a container of its own image, from the attempt's Secret. The job's two streams are named pipes
(see start.sh), whose opening is what the job waits at until all workers of its gang are there. What they bring is
framed into a journal, as the local watcher does it; the server asks for it, and for the folders, over HTTP through
the API server's proxy. Standard library alone; Python 3.10 or newer.
"""
# ruff: noqa: PTH101, PTH104, PTH115, PTH118, PTH123, T201
# It is started where seconds count, and calls little else.

import hmac
import io
import json
import os
import select
import signal
import socket
import stat
import sys
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from backends import attempts, backlog

ATTEMPT = "/rungraph/attempt/courier.json"
BOX = "/rungraph/box"  # shared with the job: the shell, the pipes, what start.sh leaves
JOURNAL = "/rungraph/journal/frames"
FOLDERS = {name: f"/mnt/{name}" for name in ("output", "spool")}

CHUNK = 1 << 20
TOLD_BYTES = 4 << 20  # of output in one answer
BODY_BYTES = 1 << 20  # of a request: peers and usage are far less
SPARE_SECONDS = 5.0  # between the job's last moment and the pod's, to hand out the rest
CODE_SECONDS = 1.0
SIGNALLED = (128 + signal.SIGTERM, 128 + signal.SIGKILL)
SIGNAL_SECONDS = 0.3  # for the signal that the node, ending everything, sends us as well
LONGEST_WAIT_SECONDS = 55.0
STDOUT, STDERR, USAGE = 1, 2, 3


class Carrier:
    """What is known of the job, and what can be asked of it. `changed` guards it all, and tells of news."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.changed = threading.Condition()
        self.version = 0
        self.started_us: int | None = None
        self.ended_us: int | None = None
        self.rejected: str | None = None
        self.exit_code: int | None = None
        self.size = 0
        self.leaving = False
        self.asked = False
        self.released = threading.Event()
        self._going = threading.Event()
        self._kill_at = float("inf")
        self._writing = threading.Lock()  # one frame after the other
        self._full = False
        self._journal = _new(JOURNAL)
        # Held open for reading too, so that writing to it never waits for a job that is not there yet.
        self._control = os.open(os.path.join(BOX, "control"), os.O_RDWR)

    def state(self) -> dict[str, Any]:
        """What the server asks for."""
        names = ("version", "started_us", "ended_us", "exit_code", "rejected", "size", "leaving", "asked")
        return {name: getattr(self, name) for name in names}

    def wait(self, known: float, seconds: float) -> dict[str, Any]:
        """The state as soon as it is not the one that is known, or when the time is over."""
        deadline = time.monotonic() + min(seconds, LONGEST_WAIT_SECONDS)
        with self.changed:
            while self.version == known and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(left)
            return self.state()

    def go(self, peers: dict[str, str]) -> None:
        """Let the job begin, knowing its peers; what was said first counts."""
        if not self._going.is_set():
            lines = [f"export {name}={_quoted(value)}\n" for name, value in sorted(peers.items())]
            path = os.path.join(BOX, "peers.sh")
            with open(f"{path}.new", "w") as file:
                file.writelines(lines)
            os.rename(f"{path}.new", path)
            self._going.set()

    def read(self) -> None:
        """Move what the job prints into the journal, from its first moment to its last."""
        self._going.wait()
        pipes: dict[int, tuple[int, attempts.Lines]] = {}
        for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
            pipes[os.open(os.path.join(BOX, name), os.O_RDONLY)] = (stream, attempts.Lines())
        # A command that is not there is refused before the job has started.
        self._tell(rejected=_left("rejected"))
        if self.rejected is None:
            self._tell(started_us=attempts.now_us())
        poll = select.poll()
        for pipe in pipes:
            poll.register(pipe, select.POLLIN)
        while pipes:
            if os.fstat(self._journal).st_blocks * 512 > backlog.MOST_BYTES:
                time.sleep(backlog.LOOK_SECONDS)  # the job waits in its next write
                continue
            for pipe, _ in poll.poll():
                stream, lines = pipes[pipe]
                data = os.read(pipe, attempts.HELD_BYTES)
                self._keep(stream, lines.feed(data) if data else lines.finish())
                if not data:
                    poll.unregister(pipe)
                    os.close(pipe)
                    del pipes[pipe]
        at_us, code = attempts.now_us(), _code()
        if code in SIGNALLED and not self.asked:
            time.sleep(SIGNAL_SECONDS)
        self._tell(exit_code=code, ended_us=at_us)

    def use(self, lines: list[str]) -> None:
        """Keep what the server has seen the job use; it looks again where that cannot be kept now."""
        if not self._full:
            self._keep(USAGE, [(line.encode(), False) for line in lines])

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM at the first call; SIGKILL when the shortest grace is over."""
        with self.changed:
            if not self.asked:
                os.write(self._control, b"TERM\n")
            self.asked = True
            self._kill_at = min(self._kill_at, time.monotonic() + grace_seconds)
            self.changed.notify_all()

    def mind(self) -> None:
        """Until released, or until the pod ends anyway: force what was asked politely."""
        while not self.released.wait(0.05):
            if time.monotonic() >= self._kill_at and self.ended_us is None:
                os.write(self._control, b"KILL\n")
                self._kill_at = float("inf")

    def leave(self) -> None:
        """The pod is to end: have the job ended in time, and hand out what is left for as long as there is.

        Its deletion is the usual reason; where it is not, what ends pods is the end of the node, or of its engine.
        """
        # What a job ended with before is its own, unless it ended by the signal that has come to us as well.
        if self.exit_code in (None, *SIGNALLED):
            self._tell(leaving=True)
        if self.started_us is None:
            self.released.set()
        else:
            self._kill_at = min(
                self._kill_at, time.monotonic() + max(self.told["grace"] - SPARE_SECONDS, 1.0)
            )

    def _keep(self, stream: int, pieces: Iterable[tuple[bytes, bool]]) -> None:
        now = attempts.now_us()
        frames = [
            attempts.FRAME.pack(stream, attempts.CONTINUED if more else 0, len(data), now) + data
            for data, more in pieces
        ]
        if frames:
            with self._writing:
                data = b"".join(frames)
                while data:
                    data = data[self._write(data) :]
                with self.changed:
                    self.size = os.fstat(self._journal).st_size
                    self._news()

    def _write(self, data: bytes) -> int:
        """Write what the disk takes; where it takes nothing, the job waits in its next write as we do here."""
        try:
            written = os.write(self._journal, data)
        except OSError as error:
            if not self._full:
                print(
                    f"the job waits, as what it prints cannot be kept: {error}", file=sys.stderr, flush=True
                )
            self._full = True
            time.sleep(backlog.LOOK_SECONDS)
            return 0
        self._full = False
        return written

    def _tell(self, **what: Any) -> None:
        with self.changed:
            self.__dict__.update(what)
            self._news()

    def _news(self) -> None:
        self.version += 1
        self.changed.notify_all()


class Answers(BaseHTTPRequestHandler):
    """GET /state, /frames and /folder/<name>; POST /go, /stop, /usage, /stored and /release."""

    protocol_version = "HTTP/1.1"
    timeout = 120
    carrier: Carrier

    def do_GET(self) -> None:
        carrier = self.carrier
        if not self._known():
            return
        url = urllib.parse.urlsplit(self.path)
        asked = {name: float(value) for name, value in urllib.parse.parse_qsl(url.query)}
        if url.path == "/state":
            self._say(json.dumps(carrier.wait(asked.get("known", -1), asked.get("wait", 0))).encode())
        elif url.path == "/frames":
            file = os.open(JOURNAL, os.O_RDONLY)
            try:
                self._say(os.pread(file, min(int(asked["limit"]), TOLD_BYTES), int(asked["offset"])))
            finally:
                os.close(file)
        elif url.path in ("/folder/output", "/folder/spool"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            _pack(FOLDERS[url.path.rpartition("/")[2]], _Chunked(self.wfile))
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        carrier = self.carrier
        length = self.headers.get("Content-Length") or "0"
        # Before a byte of the body is read: whoever reaches the pod may ask, and memory here is short.
        if not self._known():
            return
        if not length.isdigit() or int(length) > BODY_BYTES:
            self._refuse(413)
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):  # what broke off is no order: a gang would begin without its peers
            self._refuse(400)
            return
        given = json.loads(body or b"{}")
        if self.path == "/go":
            carrier.go(given)
        elif self.path == "/stop":
            carrier.stop(given["grace_seconds"])
        elif self.path == "/usage":
            carrier.use(given["lines"])
        elif self.path == "/stored":
            backlog.free(JOURNAL, given["offset"])
        elif self.path != "/release":
            self.send_error(404)
            return
        self._say(b"{}")
        if self.path == "/release":
            carrier.released.set()

    def log_message(self, format: str, *arguments: object) -> None:
        """The container's own log is for what goes wrong."""

    def _known(self) -> bool:
        if hmac.compare_digest(self.headers.get("X-Rungraph-Key", ""), self.carrier.told["key"]):
            return True
        self._refuse(421)  # misdirected: the API server's proxy knows an address that was another pod's
        return False

    def _refuse(self, status: int) -> None:
        self.close_connection = True  # what it sends on is nobody's request
        self.send_error(status)

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Chunked(io.RawIOBase):
    """Writes as chunks of HTTP/1.1."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def finish(self) -> None:
        """No more comes."""
        self._file.write(b"0\r\n\r\n")

    def write(self, data: Any) -> int:
        if data:
            self._file.write(b"%x\r\n%b\r\n" % (len(data), data))
        return len(data)


def _pack(folder: str, target: "_Chunked") -> None:
    """A folder as a tar whose last entry says that it is whole: every file with a content of its own."""
    with tarfile.open(fileobj=target, mode="w|", bufsize=CHUNK) as tar:
        for above, names, files in os.walk(folder):
            for name in [*names, *files]:
                path = os.path.join(above, name)
                member = tarfile.TarInfo("files/" + os.path.relpath(path, folder))
                found = os.lstat(path)
                member.mode = stat.S_IMODE(found.st_mode)
                if stat.S_ISLNK(found.st_mode):
                    member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
                    tar.addfile(member)
                elif stat.S_ISDIR(found.st_mode):
                    member.type = tarfile.DIRTYPE
                    tar.addfile(member)
                elif stat.S_ISREG(found.st_mode):
                    if not os.access(path, os.R_OK):
                        os.chmod(path, 0o600)
                    with open(path, "rb") as content:
                        member.size = os.fstat(content.fileno()).st_size
                        tar.addfile(member, content)
        tar.addfile(tarfile.TarInfo("complete"))
    target.finish()


def carry() -> None:
    """Until the server says that it has everything, or the pod ends."""
    with open(ATTEMPT, "rb") as file:
        told = json.load(file)
    carrier = Carrier(told)
    signal.signal(signal.SIGTERM, lambda *_: carrier.leave())
    if not told["gang"]:
        carrier.go({})
    threading.Thread(target=carrier.read, daemon=True).start()
    Answers.carrier = carrier
    server = _server(told["port"])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    carrier.mind()
    time.sleep(0.2)  # for the answer that says so
    os._exit(0)


class _Both(ThreadingHTTPServer):
    """Answers IPv6 and IPv4: what a pod's address is, the cluster decides."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _server(port: int) -> ThreadingHTTPServer:
    try:
        return _Both(("::", port), Answers)
    except OSError:  # a kernel without IPv6
        return ThreadingHTTPServer(("", port), Answers)


def _new(path: str) -> int:
    """A file that only the first of this pod's couriers finds absent: a second has not heard what the first has."""
    try:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
    except FileExistsError:
        sys.exit("it was started a second time")


def _left(name: str) -> str | None:
    try:
        with open(os.path.join(BOX, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _code() -> int | None:
    """What start.sh says of the job that has just closed its streams; it may have been killed with it."""
    deadline = time.monotonic() + CODE_SECONDS
    while not (said := _left("exit") or "").endswith("\n"):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return int(said)


def _quoted(text: str) -> str:
    return "'" + str(text).replace("'", "'\\''") + "'"


if __name__ == "__main__":
    carry()
