"""What a job far from here is given, as a stream: its module's source, and the client beside it.

    source/…      the module version, as it lies in the store
    client/…      what to have on PYTHONPATH for `import rungraph`
    complete      the last entry: all of it has come

Written as it is read, so that a large module takes no memory; links are kept as they are.
"""

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

_BUFFER = 1 << 18


async def archive(source: Path, client: Path | None) -> AsyncIterator[bytes]:
    """The tar, a piece at a time; who stops reading stops the work."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as pieces:
        packing = asyncio.create_task(asyncio.to_thread(_pack, writing, source, client))
        try:
            while piece := await asyncio.to_thread(pieces.read, _BUFFER):
                yield piece
        finally:
            pieces.close()
            await asyncio.wait({packing})
        packing.result()


def _pack(descriptor: int, source: Path, client: Path | None) -> None:
    with os.fdopen(descriptor, "wb") as target:
        try:
            with tarfile.open(fileobj=target, mode="w|", bufsize=_BUFFER) as tar:
                for top, folder in (("source", source), ("client", client)):
                    if folder is not None:
                        tar.add(folder, top, filter=_anonymous)
                tar.addfile(tarfile.TarInfo("complete"))
        except BrokenPipeError:
            return  # nobody reads any more


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
