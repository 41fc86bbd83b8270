"""An attempt's folder and its processes on this machine, as its watcher and the server both see them.

The folder holds small JSON records, each written by one rename, and a framed file of output a worker. A
process is named by pid and start time, never by pid alone. Standard library alone, and little of it: every
watcher carries these imports. `watcher.py` writes what `local.py` reads. Linux only.
"""
# ruff: noqa: PTH104, PTH110, PTH118, PTH120, PTH208
# pathlib would cost every watcher memory, and the zygote's start milliseconds.

import contextlib
import errno
import fcntl
import json
import os
import signal
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Record = dict[str, Any]

SPEC = "spec.json"  # what to run; complete, for the folder gets its name by a rename
CLAIM = "watcher.json"  # who runs it; written before anything is spawned, so nothing ever runs twice
STARTED = "started.json"  # the workers' processes: all of them, or there is no such file
STOP = "stop.json"  # asked to stop; may be replaced by a more impatient one
SUSPEND = "suspend.json"  # to stand still for as long as it is there
EXIT = "exit.json"  # how it ended; the last thing written

FRAME = struct.Struct("<BBxxIq")  # stream, flags, length, microseconds since the epoch; then the bytes
CONTINUED = 1
HELD_BYTES = 1 << 16
FRAME_BYTES_MAX = FRAME.size + 2 * HELD_BYTES

MARK = "RUNGRAPH_ATTEMPT_FOLDER"  # in the environment of all that descends from an attempt
HINTS = "hints"  # the server's datagram socket in the home folder


class Process(NamedTuple):
    """A line of /proc. `start` is in clock ticks since boot."""

    pid: int
    state: str
    parent: int
    session: int
    start: int


def read_record(path: str) -> Record | None:
    """The record at `path`, None when there is none, or a power cut left nothing in it."""
    try:
        record: Record = json.loads(_read(path))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record


def read_claim(folder: str) -> Record | None:
    """Who runs or ran the attempt; None when nobody ever did. One that a power cut emptied is a claim too."""
    path = os.path.join(folder, CLAIM)
    record = read_record(path)
    if record is None and os.path.exists(path):
        # Read again: it may have appeared, whole, since.
        return read_record(path) or {"pid": 0, "start": 0, "boot": "before a power cut"}
    return record


def write_record(path: str, record: Record, *, durable: bool = False) -> None:
    """Write a record so that a reader sees all of it or none; `durable` outlives a power cut."""
    partial = f"{path}.{os.getpid()}"
    data = json.dumps(record).encode()
    file = os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    try:
        if os.write(file, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if durable:
            os.fsync(file)
    finally:
        os.close(file)
    os.rename(partial, path)
    if durable:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def lock(folder: int) -> bool:
    """Take an attempt, by a descriptor of its folder, until the descriptor is closed; False when taken."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_record(reason: str, code: int | None, codes: dict[int, int], message: str | None) -> Record:
    return {
        "reason": reason,
        "exit_code": code,
        "exit_codes": {str(rank): code for rank, code in codes.items()},
        "message": message,
        "at_us": now_us(),
    }


class Lines:
    """Cuts a stream of bytes, however it arrives, into pieces of whole lines without the last newline.

    A piece is (bytes, continued). Of a line without end at most HELD_BYTES are held back.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._continued = False

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        end = data.rfind(b"\n")
        if end >= 0:
            yield bytes(self._held) + data[:end], False
            self._held.clear()
            self._continued = False
        self._held += data[end + 1 :]
        while len(self._held) >= HELD_BYTES:
            self._continued = True
            yield bytes(self._held[:HELD_BYTES]), True
            del self._held[:HELD_BYTES]

    def finish(self) -> Iterator[tuple[bytes, bool]]:
        """A last line without newline; empty when it only closes a continued one."""
        if self._held or self._continued:
            yield bytes(self._held), False


def now_us() -> int:
    return time.time_ns() // 1000


def boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def process(pid: int) -> Process | None:
    """The process with this pid, None when there is none."""
    try:
        stat = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may hold anything
    return Process(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def lives(found: Process) -> bool:
    """False for a zombie, unless only its first thread has ended."""
    if found.state not in "ZX":
        return True
    try:
        return len(os.listdir(f"/proc/{found.pid}/task")) > 1
    except OSError:
        return False


def open_process(pid: int, start: int) -> int | None:
    """A pidfd of exactly this process, None when it is gone. Opened first, then compared: no race."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    found = process(pid)
    if found is not None and found.start == start and lives(found):
        return descriptor
    os.close(descriptor)
    return None


def processes() -> dict[int, Process]:
    """All that live."""
    found = (process(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return {each.pid: each for each in found if each is not None and lives(each)}


def descendants(roots: Iterable[int], living: dict[int, Process]) -> set[int]:
    """What descends from `roots`, without them."""
    found: set[int] = set()
    new = set(roots)
    while new:
        new = {each.pid for each in living.values() if each.parent in new} - found
        found |= new
    return found


def survivors(folder: str, claim: Record) -> set[int]:
    """What is left of an attempt whose watcher is gone: by mark, by record, by session, by descent.

    A session counts only when a process known otherwise is in it: its number may be anybody's by now.
    """
    living = {pid: each for pid, each in processes().items() if each.start >= claim["start"]}
    mark = f"{MARK}={folder}".encode()
    found = {pid for pid in living if mark in environment(pid)}
    for worker in (read_record(os.path.join(folder, STARTED)) or {"workers": []})["workers"]:
        each = living.get(worker["pid"])
        if each is not None and each.start == worker["start"]:
            found.add(each.pid)
    if any(living[pid].session == claim["pid"] for pid in found):
        found |= {each.pid for each in living.values() if each.session == claim["pid"]}
    return found | descendants(found, living)


def environment(pid: int) -> list[bytes]:
    """What a process was started with; empty when it is gone or not ours to look at."""
    try:
        return _read(f"/proc/{pid}/environ").split(b"\0")
    except OSError:
        return []


def wake(pid: int, start: int) -> None:
    """Have a watcher look at its stop file now."""
    if (descriptor := open_process(pid, start)) is not None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGUSR1)
        os.close(descriptor)


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def oom_kills() -> int:
    """How often the kernel has killed for memory in our cgroup, or anywhere when that cannot be told."""
    groups = [line.split(":", 2) for line in _read("/proc/self/cgroup").decode().splitlines()]
    paths = [f"/sys/fs/cgroup{path}/memory.events" for _, kinds, path in groups if not kinds]
    paths += [f"/sys/fs/cgroup/memory{path}/memory.oom_control" for _, k, path in groups if k == "memory"]
    for name in [*paths, "/proc/vmstat"]:
        with contextlib.suppress(OSError):
            counts = dict(line.split(b" ", 1) for line in _read(name).splitlines())
            if b"oom_kill" in counts:
                return int(counts[b"oom_kill"])
    return 0


def _read(path: str) -> bytes:
    """All of a file. A file object would touch many more pages, each copied in a forked watcher."""
    file = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(file, HELD_BYTES):
            parts.append(part)
    finally:
        os.close(file)
    return b"".join(parts)
