"""What a job far from here is given, as a stream: its module's source, and the client beside it.

    source/…      the module version, as it lies in the store
    client/…      what to have on PYTHONPATH for `import rungraph`
    complete      the last entry: all of it has come

Read as it is asked for, a piece at a time: a large module takes no memory, and who reads slowly or not at all keeps
no thread. Links are kept as they are.
"""

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

_BUFFER = 1 << 18
_BLOCK = tarfile.BLOCKSIZE


async def archive(source: Path, client: Path | None) -> AsyncIterator[bytes]:
    """The tar, a piece at a time."""
    pieces = _gathered(_written(source, client))
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth a thread's turn."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        if len(waiting) >= _BUFFER:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def _written(source: Path, client: Path | None) -> Iterator[bytes]:
    # Only to describe files: tarfile itself writes a member whole, however large.
    with tarfile.open(fileobj=io.BytesIO(), mode="w") as tar:
        for top, folder in (("source", source), ("client", client)):
            for path in _below(folder) if folder is not None else ():
                member = tar.gettarinfo(path, str(Path(top, path.relative_to(folder or path))))
                if member is not None:
                    yield from _member(member, path)
    yield _head(tarfile.TarInfo("complete"))
    yield bytes(2 * _BLOCK)


def _below(folder: Path) -> Iterator[Path]:
    yield folder
    for top, names, files in os.walk(folder):
        names.sort()
        yield from (Path(top, name) for name in sorted([*names, *files]))


def _member(member: tarfile.TarInfo, path: Path) -> Iterator[bytes]:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    yield _head(member)
    if not member.isreg():
        return
    left = member.size
    with path.open("rb") as file:
        while left:
            piece = file.read(min(_BUFFER, left))
            if not piece:
                raise OSError(f"{path} became shorter while it was read")
            left -= len(piece)
            yield piece
    yield bytes(-member.size % _BLOCK)


def _head(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
