"""File contents on disk: each once, in a file named by its SHA-256. What `blobs.py` has done in a thread or a process.

What is written appears whole or not at all: a temporary file beside it, flushed to disk, then one rename and
a flush of the folder. Two writers of one content do no harm. Contents are never changed, so a file is
read-only and may be linked or served as it is. A content that is stored again is young again, and only what is old
can be freed. The standard library alone, as a process of next to no size imports it (handiwork.py).
"""

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BYTE = re.compile(r"[0-9a-f]{2}")
_FICLONE = 0x40049409
"""Linux's ioctl for sharing a file's extents: a copy that costs nothing, on btrfs and XFS."""


class BlobInvalid(Exception):
    """What was to be stored cannot be: no regular file, too large, or changed while it was read."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A content in the store."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Idle:
    """What a piece of the folder holds that nobody stored lately, and where the next piece begins."""

    sha256s: tuple[str, ...]
    next_piece: int | None


class Contents:
    """The contents under one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"

    def path(self, sha256: str) -> Path:
        """Where the content lies, or would. Raises ValueError for what is no SHA-256 in lower-case hex."""
        if not _DIGEST.fullmatch(sha256):
            raise ValueError("a content is named by 64 hexadecimal digits")
        return self._root / sha256[:2] / sha256[2:4] / sha256

    def open(self) -> IO[bytes]:
        """A new temporary file; whoever asked for it discards it."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=self._temporary, delete=False)

    def adopt(self, path: Path) -> Stored:
        """Store the content of a regular file, which is left as it is. Raises BlobInvalid."""
        with _regular(path) as source:
            before = os.fstat(source.fileno())
            temporary = self.open()
            try:
                _clone(source, temporary, before.st_size)
                digest, size = _digest(temporary)
                after = os.fstat(source.fileno())
                if (size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise BlobInvalid(f"{path.name} changed while it was read")
                self.keep(temporary, digest)
                return Stored(digest, size)
            finally:
                discard(temporary)

    def keep(self, temporary: IO[bytes], sha256: str) -> None:
        """Name what is in a temporary file. From here on a crash leaves the content whole and young."""
        place = self.path(sha256)
        if not self._renewed(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.flush()
            os.fchmod(temporary.fileno(), 0o444)
            os.fsync(temporary.fileno())
            os.utime(temporary.fileno())
            with self._alone():
                Path(temporary.name).rename(place)
        for folder in (place.parent, place.parent.parent, self._root):
            _sync(folder)

    def _renewed(self, place: Path) -> bool:
        """Make a content that is there as young as one that is written now."""
        with self._alone():
            try:
                os.utime(place)
            except OSError:  # not there, or somebody else's, who may make it older than it is
                return False
            return place.is_file()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Whoever stores and whoever frees take turns, also those of other processes; a death ends a turn."""
        with (self._root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def belongs_to(self, owner: str) -> bool:
        """Whether these are the contents of this owner's rows; the first who asks has them."""
        named = self._root / "owner"
        if not named.exists():
            temporary = self.open()
            try:
                temporary.write(owner.encode())
                temporary.flush()
                os.fsync(temporary.fileno())
                with contextlib.suppress(FileExistsError):
                    named.hardlink_to(temporary.name)
            finally:
                discard(temporary)
        return named.read_text() == owner

    def idle(self, piece: int, older_than_seconds: float, most: int) -> Idle:
        """What nobody has stored for so long, from a piece on."""
        before = time.time() - older_than_seconds
        looked_at, found = 0, list[str]()
        for at, folder in self._folders(piece):
            if looked_at >= most:
                return Idle(tuple(found), at)
            looked_at += 1
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as files:
                for file in files:
                    looked_at += 1
                    if _DIGEST.fullmatch(file.name) and file.stat(follow_symlinks=False).st_mtime < before:
                        found.append(file.name)
        return Idle(tuple(found), None)

    def _folders(self, piece: int) -> Iterator[tuple[int, Path]]:
        """The folders that there are, from this piece on, each with its number."""
        for top in range(piece >> 8, 256):
            outer = self._root / f"{top:02x}"
            inner = sorted(outer.iterdir()) if outer.is_dir() else []
            for folder in inner:
                if _BYTE.fullmatch(folder.name) and (at := top << 8 | int(folder.name, 16)) >= piece:
                    yield at, folder

    def free(self, sha256s: Sequence[str], older_than_seconds: float) -> int:
        """Remove contents that are old; says how many bytes."""
        freed = 0
        for sha256 in sha256s:
            place = self.path(sha256)
            with self._alone(), contextlib.suppress(FileNotFoundError):
                status = place.stat(follow_symlinks=False)
                if status.st_mtime < time.time() - older_than_seconds:
                    place.unlink()
                    freed += status.st_size
        return freed

    def sweep(self, older_than_seconds: float) -> int:
        """Remove temporary files that a crash left behind; says how many."""
        removed = 0
        for left in self._temporary.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat(follow_symlinks=False).st_mtime >= older_than_seconds:
                    left.unlink()
                    removed += 1
        return removed


def discard(temporary: IO[bytes]) -> None:
    """Close it and remove what still has its name."""
    temporary.close()
    Path(temporary.name).unlink(missing_ok=True)


def _regular(path: Path) -> IO[bytes]:
    """A regular file, opened; never through a symbolic link, and without waiting for a pipe's writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BlobInvalid(f"{path.name} cannot be read: {error.strerror}") from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise BlobInvalid(f"{path.name} is no regular file")


def _clone(source: IO[bytes], copy: IO[bytes], size: int) -> None:
    """The cheapest copy that the file system offers: shared extents, a copy in the kernel, or by hand."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
        return
    done = 0
    with contextlib.suppress(OSError):
        while done < size and (count := os.copy_file_range(source.fileno(), copy.fileno(), size - done)):
            done += count
    if done == size:
        return
    os.lseek(source.fileno(), 0, os.SEEK_SET)
    copy.truncate(0)
    os.lseek(copy.fileno(), 0, os.SEEK_SET)
    while chunk := os.read(source.fileno(), _CHUNK):
        copy.write(chunk)
    copy.flush()


def _digest(copy: IO[bytes]) -> tuple[str, int]:
    """Of the copy, not of the source: what is named is what is stored."""
    with Path(copy.name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
