"""The courier: fetches what a pod's job is given, and keeps what it prints and makes until the server has it.

Started by path in a container of its own image, from the attempt's Secret:

    courier.py fetch    as init container: source, client and inputs from the server's listener; and a shell
    courier.py carry    beside the job: reads its two streams, and answers the server over HTTP

The job's container runs `start.sh` with that shell, borrowed from the courier's image with its loader and library,
so that an image without any runs the same. Streams are named pipes: opening them is what the job waits at until
all workers of its gang are there. Standard library alone; Python 3.8 or newer.
"""
# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH107, PTH108, PTH110, PTH118, PTH119, PTH120, PTH123, PTH202, PTH208, PTH211, T201
# It is started where seconds count, and calls little else.

import hmac
import io
import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from backends import attempts, backlog

ATTEMPT = "/rungraph/attempt"  # the Secret
BOX = "/rungraph/box"  # shared with the job: the shell, the pipes, what start.sh leaves
JOURNAL = "/rungraph/journal/frames"
FOLDERS = {name: f"/mnt/{name}" for name in ("source", "input", "output", "spool", "client")}
LAST_WORDS = "/dev/termination-log"

CHUNK = 1 << 20
PATIENCE_SECONDS = 900.0  # with a server that is away
TOLD_BYTES = 4 << 20  # of output in one answer
SPARE_SECONDS = 5.0  # between the job's last moment and the pod's, to hand out the rest
LONGEST_WAIT_SECONDS = 55.0
STDOUT, STDERR, USAGE = 1, 2, 3


class Refused(Exception):
    """What no second try can mend."""


def fetch() -> None:
    told = json.loads(_read("courier.json"))
    os.umask(0)  # the job may run as another user than we
    _lend_shell(os.path.join(BOX, "bin"))
    for pipe in ("stdout", "stderr", "control"):
        os.mkfifo(os.path.join(BOX, pipe), 0o666)
    with open(os.path.join(FOLDERS["input"], "input.json"), "wb") as file:
        file.write(zlib.decompress(_read("input.json.z")))
    _insist(lambda: _fetch_source(told))
    for name in told["inputs"]:
        _insist(lambda name=name: _fetch_input(told, name))


def _fetch_source(told) -> None:
    with _ask(told, "/attempt/source.tar") as answer, tarfile.open(fileobj=answer, mode="r|") as tar:
        for member in tar:
            top, _, rest = member.name.partition("/")
            if top == "complete":
                return
            if rest and top in ("source", "client"):
                _unpack(tar, member, os.path.join(FOLDERS[top], rest))
    raise OSError("the source broke off")


def _unpack(tar, member, path) -> None:
    if member.isdir():
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)  # of a try before
    if member.issym():
        os.symlink(member.linkname, path)
        return
    content = tar.extractfile(member)
    with open(path, "wb") as file:
        shutil.copyfileobj(content, file, CHUNK)
    os.chmod(path, 0o777 if member.mode & stat.S_IXUSR else 0o666)


def _fetch_input(told, name) -> None:
    path = os.path.join(FOLDERS["input"], name)
    have = os.path.getsize(path) if os.path.exists(path) else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _ask(told, f"/attempt/inputs/{urllib.parse.quote(name)}", headers) as answer:
        if answer is None:
            return  # it was all there
        with open(path, "ab" if answer.status == 206 else "wb") as file:
            shutil.copyfileobj(answer, file, CHUNK)
    length = answer.headers.get("Content-Length")
    if length is not None and os.path.getsize(path) < int(length):
        raise OSError(f"{name} broke off")


class _Nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def _ask(told, path, headers=None):
    request = urllib.request.Request(told["url"] + path)
    for name, value in {"Authorization": f"Bearer {told['token']}", **(headers or {})}.items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return _Nothing()
        words = error.read(500).decode(errors="replace")
        if error.code < 500 and error.code not in (408, 429):
            raise Refused(f"{told['url']}{path}: {error.code} {words}") from error
        raise


def _insist(work) -> None:
    """Until it is done, the server refuses, or patience ends; longer pauses each time."""
    began, pause = time.monotonic(), 0.1
    while True:
        try:
            return work()
        except (OSError, tarfile.TarError, urllib.error.URLError) as error:
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise Refused(f"the server was away for {PATIENCE_SECONDS:.0f} s: {error}") from error
            print("trying again after", repr(error), file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(pause * 2, 5.0)


def _lend_shell(folder) -> None:
    """A shell that runs in any image of this machine's kind: with the loader and library it needs, by path."""
    os.makedirs(folder)
    shell = os.path.realpath("/bin/sh")
    shutil.copy(shell, os.path.join(folder, "sh"))
    needs = subprocess.run(["ldd", shell], check=True, capture_output=True, text=True).stdout
    for path in re.findall(r"(?:^|\s)(/\S+)", needs):
        name = os.path.basename(path)
        shutil.copy(path, os.path.join(folder, name))
        if name.startswith("ld-"):
            os.rename(os.path.join(folder, name), os.path.join(folder, "loader"))
            if "libc" not in needs.replace(path, ""):
                os.symlink("loader", os.path.join(folder, name))  # musl's loader is its library too


class Carrier:
    """What is known of the job, and what can be asked of it. `changed` guards it all, and tells of news."""

    def __init__(self, told) -> None:
        self.told = told
        self.changed = threading.Condition()
        self.version = 0
        self.started_us = self.ended_us = self.rejected = None
        self.size = 0
        self.released = threading.Event()
        self._going = threading.Event()
        self._kill_at = float("inf")
        self._asked = False
        self._journal = os.open(JOURNAL, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        # Held open for reading too, so that writing to it never waits for a job that is not there yet.
        self._control = os.open(os.path.join(BOX, "control"), os.O_RDWR)

    def state(self):
        names = ("version", "started_us", "ended_us", "rejected", "size")
        return {name: getattr(self, name) for name in names}

    def wait(self, known, seconds):
        deadline = time.monotonic() + min(seconds, LONGEST_WAIT_SECONDS)
        with self.changed:
            while self.version == known and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(left)
            return self.state()

    def go(self, peers) -> None:
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
        pipes = {}
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
        self._tell(ended_us=attempts.now_us())

    def use(self, lines) -> None:
        """Keep what the server has seen the job use."""
        self._keep(USAGE, [(line.encode(), False) for line in lines])

    def stop(self, grace_seconds) -> None:
        """SIGTERM at the first call; SIGKILL when the shortest grace is over."""
        with self.changed:
            if not self._asked:
                os.write(self._control, b"TERM\n")
            self._asked = True
            self._kill_at = min(self._kill_at, time.monotonic() + grace_seconds)
            self.changed.notify_all()

    def mind(self) -> None:
        """Until released, or until the pod ends anyway: force what was asked politely."""
        while not self.released.wait(0.05):
            if time.monotonic() >= self._kill_at and self.ended_us is None:
                os.write(self._control, b"KILL\n")
                self._kill_at = float("inf")

    def leave(self) -> None:
        """The pod is being deleted: have the job ended in time, and hand out what is left for as long as there is."""
        if self.started_us is None:
            self.released.set()
        else:
            self._kill_at = min(
                self._kill_at, time.monotonic() + max(self.told["grace"] - SPARE_SECONDS, 1.0)
            )

    def _keep(self, stream, pieces) -> None:
        now = attempts.now_us()
        frames = [
            attempts.FRAME.pack(stream, attempts.CONTINUED if more else 0, len(data), now) + data
            for data, more in pieces
        ]
        if frames:
            with self.changed:
                data = b"".join(frames)
                while data:
                    data = data[os.write(self._journal, data) :]
                self.size = os.fstat(self._journal).st_size
                self._news()

    def _tell(self, **what) -> None:
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

    def do_GET(self) -> None:
        carrier = self.server.carrier
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
        carrier = self.server.carrier
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._known():
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

    def log_message(self, format, *arguments) -> None:
        """The container's own log is for what goes wrong."""

    def _known(self) -> bool:
        if hmac.compare_digest(self.headers.get("X-Rungraph-Key", ""), self.server.carrier.told["key"]):
            return True
        self.send_error(403)
        return False

    def _say(self, body) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Chunked(io.RawIOBase):
    """Writes as chunks of HTTP/1.1."""

    def __init__(self, file) -> None:
        self._file = file

    def write(self, data) -> int:
        if data:
            self._file.write(b"%x\r\n%b\r\n" % (len(data), data))
        return len(data)


def _pack(folder, target) -> None:
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
    target._file.write(b"0\r\n\r\n")


def carry() -> None:
    told = json.loads(_read("courier.json"))
    carrier = Carrier(told)
    signal.signal(signal.SIGTERM, lambda *_: carrier.leave())
    if not told["gang"]:
        carrier.go({})
    threading.Thread(target=carrier.read, daemon=True).start()
    server = ThreadingHTTPServer(("", told["port"]), Answers)
    server.daemon_threads = True
    server.carrier = carrier
    threading.Thread(target=server.serve_forever, daemon=True).start()
    carrier.mind()
    time.sleep(0.2)  # for the answer that says so
    os._exit(0)


def _left(name):
    try:
        with open(os.path.join(BOX, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _read(name) -> bytes:
    with open(os.path.join(ATTEMPT, name), "rb") as file:
        return file.read()


def _quoted(text) -> str:
    return "'" + str(text).replace("'", "'\\''") + "'"


if __name__ == "__main__":
    try:
        {"fetch": fetch, "carry": carry}[sys.argv[1]]()
    except Refused as error:
        with open(LAST_WORDS, "w") as file:
            file.write(str(error))
        sys.exit(3)
