"""Where file contents lie (contents.py), for the event loop.

Which contents are still wanted is the database's business (freeing.py); here a content that is stored again is young
again, and only what is old can be freed.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import IO

from backends.contents import BlobInvalid, Contents, Idle, Stored, discard
from backends.hand import Do

_CHUNK = 1 << 20
_MOST_IDLE = 500
"""Files and folders that are looked at in one go."""


class Blobs:
    """The contents under one folder. What touches the disk is done by `do`, but for what is uploaded: in a thread."""

    def __init__(self, root: Path, do: Do = asyncio.to_thread) -> None:
        self._contents = Contents(root)
        self._do = do

    def path(self, sha256: str) -> Path:
        """Where the content lies, or would. Raises ValueError for what is no SHA-256 in lower-case hex."""
        return self._contents.path(sha256)

    def exists(self, sha256: str) -> bool:
        """Whether the content is in the store."""
        return self.path(sha256).is_file()

    async def write(self, chunks: AsyncIterator[bytes], *, limit_bytes: int) -> Stored:
        """Store what arrives. Raises BlobInvalid beyond the limit; whatever `chunks` raises passes through.

        Nothing of an upload that breaks off or is cancelled stays behind.
        """
        temporary = self._contents.open()
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
            await _in_thread(self._contents.keep, temporary, stored.sha256)
            return stored
        finally:
            discard(temporary)

    async def adopt(self, path: Path) -> Stored:
        """Store the content of a file that somebody else made; the file is left as it is.

        Raises BlobInvalid for anything but a regular file, and for one that changes while it is read.
        """
        return await self._do(self._contents.adopt, path)

    async def sweep(self, *, older_than_seconds: float = 86_400) -> int:
        """Remove temporary files that a crash left behind; says how many."""
        return await self._do(self._contents.sweep, older_than_seconds)

    async def belongs_to(self, owner: str) -> bool:
        """Whether these are the contents of this owner's rows; the first who asks has them."""
        return await self._do(self._contents.belongs_to, owner)

    async def idle(self, piece: int, *, older_than_seconds: float, most: int = _MOST_IDLE) -> Idle:
        """The contents that nobody has stored for so long, from this piece on: it looks at so many at most.

        A piece is a folder of contents with the same first four digits, and is looked at whole.
        """
        return await self._do(self._contents.idle, piece, older_than_seconds, most)

    async def free(self, sha256s: Sequence[str], *, older_than_seconds: float) -> int:
        """Remove contents, but none that somebody has stored again meanwhile; says how many bytes."""
        return await self._do(self._contents.free, sha256s, older_than_seconds)


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
