"""How large a worker's file of output may grow before somebody stores what is in it.

The server frees what it has stored (`free`), so the file holds no more than its backlog. Where that is too
large, because no server runs or the job prints faster than anything can be stored, the watcher leaves the
worker's pipe unread, and the job waits in its next write. Standard library alone: every watcher has this.
"""

import contextlib
import ctypes
import os
import select
from typing import Protocol

MOST_BYTES = 256 << 20
LOOK_SECONDS = 0.05  # between two looks at a file that was too large

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_SECTOR = 512  # what st_blocks counts, on every file system


class Printing(Protocol):
    """The reading end of a pipe, and the file that what it brings is added to."""

    end: int

    @property
    def file(self) -> int: ...


class Backlog:
    """The pipes of one attempt that are not read for now."""

    def __init__(self, poll: "select.poll", most_bytes: int | None) -> None:
        self._poll = poll
        self._most_bytes = most_bytes
        self._held: dict[int, int] = {}

    @property
    def waits(self) -> bool:
        return bool(self._held)

    def check(self, pipe: Printing) -> None:
        """Leave a pipe unread if its file is too large."""
        if self._is_full(pipe.file):
            self._poll.unregister(pipe.end)
            self._held[pipe.end] = pipe.file

    def look(self) -> None:
        """Read again what has room again."""
        for end, file in list(self._held.items()):
            if not self._is_full(file):
                del self._held[end]
                self._poll.register(end, select.POLLIN)

    def close(self, end: int) -> None:
        """Forget a pipe."""
        if self._held.pop(end, None) is None:
            self._poll.unregister(end)

    def _is_full(self, file: int) -> bool:
        return self._most_bytes is not None and os.fstat(file).st_blocks * _SECTOR > self._most_bytes


def free(path: str, length: int) -> bool:
    """Give back the first bytes of a file, whose size and offsets stay; False where that cannot be done."""
    with contextlib.suppress(FileNotFoundError):
        file = os.open(path, os.O_WRONLY)
        try:
            begin, size = ctypes.c_int64(0), ctypes.c_int64(length)
            return bool(_LIBC.fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, begin, size) == 0)
        finally:
            os.close(file)
    return True


def can_free(folder: str) -> bool:
    """Whether the file system of a folder gives parts of files back."""
    path = os.path.join(folder, f"free.{os.getpid()}")  # noqa: PTH118
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.write(file, bytes(1 << 16))
        return free(path, 1 << 15)
    finally:
        os.close(file)
        os.unlink(path)  # noqa: PTH108
