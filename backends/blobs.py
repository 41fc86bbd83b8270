"""Where file contents lie: each content once, in a file named by its SHA-256.

What is written appears whole or not at all: a temporary file beside it, flushed to disk, then one rename and
a flush of the folder. Two writers of one content do no harm. Contents are never changed, so a file is
read-only and may be linked or served as it is. Which contents are still wanted is the database's business.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_CHUNK = 1 << 20
_FICLONE = 0x40049409
"""Linux's ioctl for sharing a file's extents: a copy that costs nothing, on btrfs and XFS."""


class BlobInvalid(Exception):
    """What was to be stored cannot be: no regular file, too large, or changed while it was read."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A content in the store."""

    sha256: str
    size_bytes: int


class Blobs:
    """The contents under one folder. Everything that touches a disk happens in a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"

    def path(self, sha256: str) -> Path:
        """Where the content lies, or would. Raises ValueError for what is no SHA-256 in lower-case hex."""
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError("a content is named by 64 hexadecimal digits")
        return self._root / sha256[:2] / sha256[2:4] / sha256

    def exists(self, sha256: str) -> bool:
        """Whether the content is in the store."""
        return self.path(sha256).is_file()

    async def write(self, chunks: AsyncIterator[bytes], *, limit_bytes: int) -> Stored:
        """Store what arrives. Raises BlobInvalid beyond the limit; whatever `chunks` raises passes through.

        Nothing of an upload that breaks off or is cancelled stays behind.
        """
        temporary = self._open()
        try:
            digest, size, waiting = hashlib.sha256(), 0, bytearray()
            async for chunk in chunks:
                size += len(chunk)
                if size > limit_bytes:
                    raise BlobInvalid(f"is larger than {limit_bytes} bytes")
                waiting += chunk
                if len(waiting) >= _CHUNK:
                    await _in_thread(_append, temporary, digest, bytes(waiting))
                    waiting.clear()
            await _in_thread(_append, temporary, digest, bytes(waiting))
            stored = Stored(digest.hexdigest(), size)
            await _in_thread(self._keep, temporary, stored.sha256)
            return stored
        finally:
            _discard(temporary)

    async def adopt(self, path: Path) -> Stored:
        """Store the content of a file that somebody else made; the file is left as it is.

        Raises BlobInvalid for anything but a regular file, and for one that changes while it is read.
        """
        return await asyncio.to_thread(self._adopt, path)

    async def sweep(self, *, older_than_seconds: float = 86_400) -> int:
        """Remove temporary files that a crash left behind; says how many."""
        return await asyncio.to_thread(self._sweep, older_than_seconds)

    def _open(self) -> IO[bytes]:
        self._temporary.mkdir(parents=True, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=self._temporary, delete=False)

    def _adopt(self, path: Path) -> Stored:
        with _regular(path) as source:
            before = os.fstat(source.fileno())
            temporary = self._open()
            try:
                _clone(source, temporary, before.st_size)
                digest, size = _digest(temporary)
                after = os.fstat(source.fileno())
                if (size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise BlobInvalid(f"{path.name} changed while it was read")
                self._keep(temporary, digest)
                return Stored(digest, size)
            finally:
                _discard(temporary)

    def _keep(self, temporary: IO[bytes], sha256: str) -> None:
        """From here on a crash leaves the content whole, under its name."""
        place = self.path(sha256)
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.flush()
            os.fchmod(temporary.fileno(), 0o444)
            os.fsync(temporary.fileno())
            Path(temporary.name).rename(place)
        for folder in (place.parent, place.parent.parent, self._root):
            _sync(folder)

    def _sweep(self, older_than_seconds: float) -> int:
        removed = 0
        for left in self._temporary.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat(follow_symlinks=False).st_mtime >= older_than_seconds:
                    left.unlink()
                    removed += 1
        return removed


async def _in_thread(work: Callable[..., None], *arguments: object) -> None:
    """Waits for the thread's end even when cancelled: no file is closed under its hands."""
    thread = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait({thread})
        raise


def _append(temporary: IO[bytes], digest: "hashlib._Hash", chunk: bytes) -> None:
    digest.update(chunk)
    temporary.write(chunk)


def _discard(temporary: IO[bytes]) -> None:
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
