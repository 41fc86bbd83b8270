"""What attempts left, taken out of their pods onto this host: whole under the attempt's name, or not there.

Of workers that make files of one name, the lowest rank's counts.

<home>/staged/<attempt>/   output and spool, of all its workers; frames-<rank>.<offset>, what they printed last
<home>/new/                folders being filled; one rename makes a taken one of them
<home>/nothing/            what is given of attempts whose pods are gone
"""

import asyncio
import secrets
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from backends import backlog, base, container_files, folders
from backends.kubernetes import ends
from backends.kubernetes.cluster import Refused
from backends.kubernetes.companions import NOT_THERE, Companion

_PART_BYTES = 4 << 20
_FOLDERS = {"output": container_files.OUTPUT_DEPTH, "spool": container_files.SPOOL_DEPTH}


class Taken:
    """The folders below one home."""

    def __init__(
        self,
        home: Path,
        companion: Callable[[base.Handle, int], Awaitable[Companion]],
        pod: Callable[[base.Handle, int], Awaitable[Mapping[str, Any] | None]],
    ) -> None:
        self._home = home
        self._companion = companion
        self._pod = pod
        self._locks: dict[str, asyncio.Lock] = {}
        self._reached: dict[str, dict[int, int]] = {}
        """How far each worker's output is stored, as far as somebody has asked for more."""

    def open(self) -> None:
        """Make the folders, and free what a crash left half taken."""
        for name in ("staged", "new", "nothing"):
            (self._home / name).mkdir(parents=True, exist_ok=True)
        for name in _FOLDERS:
            (self._home / "nothing" / name).mkdir(exist_ok=True)
        for each in (self._home / "new").iterdir():
            shutil.rmtree(each, ignore_errors=True)

    async def take(self, handle: base.Handle) -> bool:
        """Take all of it, or nothing; False when a pod of it is gone. Raises BackendUnavailable."""
        name = str(handle["name"])
        async with self._locks.setdefault(name, asyncio.Lock()):
            final = self._home / "staged" / name
            if final.is_dir():
                return True
            with container_files.keeping(f"{final} cannot be written"):
                return await self._fill(handle, final)

    async def _fill(self, handle: base.Handle, final: Path) -> bool:
        new = self._home / "new" / f"{final.name}.{secrets.token_hex(4)}"
        try:
            for folder in _FOLDERS:
                (new / folder).mkdir(parents=True)
            for rank in range(handle["workers"]):
                if not await self._take(handle, rank, new):
                    return False
            new.rename(final)
        finally:
            await asyncio.to_thread(folders.discard, new)
        return True

    async def folder(self, handle: base.Handle, name: str) -> Path:
        """What was taken, now if need be; of an attempt whose pods are gone, an empty folder."""
        if await self.take(handle):
            return self._home / "staged" / str(handle["name"]) / name
        return self._home / "nothing" / name

    def reach(self, name: str, rank: int, offset: int) -> None:
        """What a worker has printed is stored up to here."""
        self._reached.setdefault(name, {})[rank] = offset

    def frames(self, name: str, rank: int, offset: int, limit: int) -> bytes:
        """Output of a worker whose pod is gone: what was taken of it."""
        for path in (self._home / "staged" / name).glob(f"frames-{rank}.*"):
            begin = int(path.name.rpartition(".")[2])
            if offset >= begin:
                with path.open("rb") as file:
                    file.seek(offset - begin)
                    return file.read(limit)
        return b""

    async def discard(self, name: str) -> None:
        """Free what was taken of an attempt."""
        self._locks.pop(name, None)
        self._reached.pop(name, None)
        await asyncio.to_thread(folders.discard, self._home / "staged" / name)

    async def _take(self, handle: base.Handle, rank: int, into: Path) -> bool:
        try:
            companion = await self._companion(handle, rank)
            for folder, depth in _FOLDERS.items():
                await companion.folder(folder, into / folder, depth)
            await self._take_output(companion, str(handle["name"]), rank, into)
        except Refused as error:
            # What stands before the API server may know of nothing just now, too.
            if error.status in NOT_THERE and not await self._is_answering(handle, rank):
                return False
            raise base.BackendUnavailable(f"outputs cannot be taken: {error}") from error
        except base.BackendUnavailable:
            if not await self._is_answering(handle, rank):
                return False
            raise
        return True

    async def _is_answering(self, handle: base.Handle, rank: int) -> bool:
        pod = await self._pod(handle, rank)
        return pod is not None and ends.is_answering(pod)

    async def _take_output(self, companion: Companion, name: str, rank: int, into: Path) -> None:
        """What it has printed and nobody has stored yet; where that begins nobody knows who has not read any of it."""
        begin = at = self._reached.get(name, {}).get(rank)
        if begin is None or at is None:
            return
        with (into / f"frames-{rank}.{begin}").open("wb") as file:
            while at - begin < backlog.MOST_BYTES and (data := await companion.frames(at, _PART_BYTES)):
                await asyncio.to_thread(file.write, data)
                at += len(data)
