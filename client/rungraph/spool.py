"""Batches on disk until the server has them: what outlives a process that is killed and a server that is away.

A folder belongs to one reporting run. In it every process has a producer's name of its own, a lock that the
system lets go of when the process ends, however it ends, and segments of whole records. A later process of the
same run finds what nobody holds any more (`orphans`) and sends it under the old name and numbers, so that the
server knows what it had already. Nothing is synced to the platter: a power cut may lose the last seconds.
"""

import os
import secrets
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows: points wait in memory alone
    fcntl = None  # type: ignore[assignment]

SEGMENT_BYTES = 8 << 20
MOST_BYTES = 256 << 20
"""On disk, a process."""
MOST_HELD_BYTES = 32 << 20
"""In memory, where the disk takes nothing."""
_HEAD = struct.Struct("<QII")


class Record(NamedTuple):
    """A batch and where it lies; its content is held where it lies nowhere."""

    number: int
    size: int
    segment: int
    at: int
    held: bytes | None


class Spool:
    """What one producer has not had acknowledged, oldest first. One thread appends, another takes away."""

    def __init__(
        self,
        folder: Path,
        complain: Callable[[str], None],
        *,
        producer: str | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.folder = folder
        self.producer = producer or secrets.token_hex(6)
        self.next_number = 1
        self._complain = complain
        self._most = most_bytes
        self._waiting: deque[Record] = deque()
        self._sizes: dict[int, int] = {}
        self._held_bytes = 0
        self._writing: int | None = None
        self._reading: tuple[int, int] | None = None
        self._lock: int | None = None
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, content: bytes) -> bool:
        """Keep a batch under the next number; False when there is no room for it."""
        with self._guard:
            number = self.next_number
            record = self._write(number, content) or self._hold(number, content)
            if record is None:
                return False
            self.next_number += 1
            self._waiting.append(record)
            return True

    def first(self) -> tuple[int, bytes] | None:
        """The oldest batch and its number."""
        with self._guard:
            while self._waiting:
                record = self._waiting[0]
                content = record.held if record.held is not None else self._read(record)
                if content is not None:
                    return record.number, content
                self._complain(f"a batch of {self.folder} cannot be read any more, and is lost")
                self._forget()
        return None

    def forget(self) -> None:
        """The oldest batch has arrived, or never will."""
        with self._guard:
            self._forget()

    def close(self) -> None:
        """Let go of the files; what has not arrived stays for the next process."""
        with self._guard:
            self._close(remove=not self._waiting)

    def discard(self) -> None:
        """Nobody will take what is here."""
        with self._guard:
            self._waiting.clear()
            self._held_bytes = 0
            self._close(remove=True)

    def abandon(self) -> None:
        """After a fork: the files are the parent's; the child lets go of its copies of the descriptors."""
        self._guard = threading.Lock()
        self._waiting = deque()
        reading = self._reading[1] if self._reading else None
        for descriptor in (self._writing, reading, self._lock):
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        self._writing = self._reading = self._lock = None

    def _write(self, number: int, content: bytes) -> Record | None:
        size = _HEAD.size + len(content)
        if fcntl is None or sum(self._sizes.values()) + size > self._most:
            return None
        try:
            if self._lock is None:
                self._lock = _hold_lock(self.folder, self.producer)
            segment = max(self._sizes, default=0)
            if self._writing is None or self._sizes[segment] >= SEGMENT_BYTES:
                segment = self._open_segment(segment + 1)
            at = self._sizes[segment]
            data = _HEAD.pack(number, len(content), zlib.crc32(content)) + content
            assert self._writing is not None
            if os.pwrite(self._writing, data, at) != len(data):
                raise OSError("the disk is full")
        except OSError as error:
            self._complain(
                f"nothing can be kept in {self.folder} ({error}): points wait in memory, and end with it"
            )
            return None
        self._sizes[segment] = at + len(data)
        return Record(number, len(content), segment, at + _HEAD.size, None)

    def _hold(self, number: int, content: bytes) -> Record | None:
        if self._sizes and sum(self._sizes.values()) + len(content) > self._most:
            return None
        if self._held_bytes + len(content) > MOST_HELD_BYTES:
            return None
        self._held_bytes += len(content)
        return Record(number, len(content), 0, 0, content)

    def _open_segment(self, segment: int) -> int:
        writing = os.open(self._path(segment), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if self._writing is not None:
            os.close(self._writing)
        self._writing = writing
        self._sizes[segment] = 0
        return segment

    def _read(self, record: Record) -> bytes | None:
        try:
            if self._reading is None or self._reading[0] != record.segment:
                if self._reading is not None:
                    os.close(self._reading[1])
                    self._reading = None
                self._reading = record.segment, os.open(self._path(record.segment), os.O_RDONLY)
            content = os.pread(self._reading[1], record.size, record.at)
        except OSError:
            return None
        return content if len(content) == record.size else None

    def _forget(self) -> None:
        if not self._waiting:
            return
        gone = self._waiting.popleft()
        if gone.held is not None:
            self._held_bytes -= len(gone.held)
            return
        newest = max(self._sizes, default=0)
        if gone.segment != newest and not any(r.segment == gone.segment for r in self._waiting):
            self._sizes.pop(gone.segment, None)
            with suppress(OSError):
                self._path(gone.segment).unlink()
        elif not self._waiting and self._writing is not None:
            with suppress(OSError):
                os.ftruncate(self._writing, 0)
                self._sizes[newest] = 0

    def _close(self, *, remove: bool) -> None:
        reading = self._reading[1] if self._reading else None
        for descriptor in (self._writing, reading):
            if descriptor is not None:
                os.close(descriptor)
        self._writing = self._reading = None
        if remove:
            for segment in self._sizes:
                with suppress(OSError):
                    self._path(segment).unlink()
            self._sizes.clear()
        if self._lock is not None:
            if remove:
                with suppress(OSError):
                    _lock_path(self.folder, self.producer).unlink()
            os.close(self._lock)
            self._lock = None

    def _path(self, segment: int) -> Path:
        return self.folder / f"{self.producer}.{segment:06}.batches"

    def _load(self, lock: int) -> None:
        """Take over what a process has left, whose lock is ours now; a torn record ends its segment."""
        self._lock = lock
        for path in sorted(self.folder.glob(f"{self.producer}.*.batches")):
            segment = int(path.suffixes[-2][1:])
            data = path.read_bytes()
            self._sizes[segment] = len(data)
            at = 0
            while at + _HEAD.size <= len(data):
                number, size, check = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                # Of what was being written a power cut may leave nothing but its length: zeros, whose sum is right.
                if not number or at + size > len(data) or zlib.crc32(data[at : at + size]) != check:
                    break
                self._waiting.append(Record(number, size, segment, at, None))
                at += size


def orphans(folder: Path, complain: Callable[[str], None]) -> Iterator[Spool]:
    """The spools in a folder whose processes have ended, each taken over; oldest first."""
    if fcntl is None or not folder.is_dir():
        return
    for path in _by_age(folder.glob("*.lock")):
        found = Spool(folder, complain, producer=path.stem)
        try:
            lock = _try_lock(path)
            if lock is None:
                continue
            found._load(lock)
        except OSError as error:
            complain(f"what an earlier process left in {path} cannot be read: {error}")
            continue
        if len(found):
            yield found
        else:
            found.discard()


def _by_age(paths: Iterable[Path]) -> list[Path]:
    """Oldest first: series that count by themselves go on in the order in which their processes lived."""
    aged = []
    for path in paths:
        with suppress(OSError):
            aged.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(aged)]


def _lock_path(folder: Path, producer: str) -> Path:
    return folder / f"{producer}.lock"


def _hold_lock(folder: Path, producer: str) -> int:
    """The lock of a producer of our own, until we end."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _lock_path(folder, producer)
    while (lock := _try_lock(path, create=True)) is None:
        pass  # somebody looks whether it is an orphan, finds nothing, and removes it
    return lock


def _try_lock(path: Path, *, create: bool = False) -> int | None:
    """The locked file, None if somebody else has it or it is not that file any more."""
    try:
        lock = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == path.stat().st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None
