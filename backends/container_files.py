"""Files on their way into a container and out of it, as archives; what comes out is believed of nothing.

In: input files, the module and the client, in one archive for the holder's volumes. Out: a folder, unpacked as it
comes, regular files alone, and no deeper than anybody looks: a job made it, and what a link in it leads to is not
the job's to show.
"""

import asyncio
import contextlib
import errno
import hashlib
import io
import os
import queue
import secrets
import tarfile
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from backends import base, folders, tars
from backends.containers import CLIENT, INPUT, MODULE, OUTPUT, SOURCE

_IN_MEMORY = 8 << 20
_CHUNK = 1 << 20
_AHEAD = 8
"""Chunks that have come and are not unpacked yet."""
_PAUSE_SECONDS = 0.005
_UNPACKERS = ThreadPoolExecutor(4, thread_name_prefix="unpack")
"""Threads of their own: they wait for the network, and the loop's common ones are for what is short."""
MOST_ENTRIES = 1_000_000
MOST_BYTES = 1 << 40
OUTPUT_DEPTH, SPOOL_DEPTH = 1, 2
"""Files of an output folder; files in a spool's folders."""
_ITS_OWN = frozenset(
    {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EMLINK, errno.EINVAL, errno.EILSEQ}
)
"""What goes wrong with an entry for what a job, or two of its workers, called it."""
_PATIENCE_SECONDS = 600.0


def given(spec: base.JobSpec) -> IO[bytes]:
    """All that a job is given, to be unpacked at /. Raises LaunchRejected for an input whose content is gone."""
    archive = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    try:
        _pack(spec, archive)
        archive.seek(0)
    except BaseException:
        with contextlib.suppress(OSError):  # of what it holds still
            archive.close()
        raise
    return archive


def _pack(spec: base.JobSpec, archive: IO[bytes]) -> None:
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder, mode in ((INPUT, 0o755), (OUTPUT, 0o1777), (MODULE, 0o755), (SOURCE, 0o755)):
            _folder(tar, folder, mode)
        _document(tar, f"{INPUT}/input.json", spec.input_document)
        for file in spec.inputs:
            try:
                _file(tar, file.content, f"{INPUT}/{file.name}", 0o644)
            except FileNotFoundError as error:
                words = f"the content of the input file {file.name} is not there any more"
                raise base.LaunchRejected(words) from error
        _tree(tar, spec.source, SOURCE)
        if spec.client is not None:
            _folder(tar, CLIENT, 0o755)
            _tree(tar, spec.client, CLIENT)


async def sent(archive: IO[bytes]) -> AsyncIterator[bytes]:
    """An archive in pieces that the loop can bear."""
    while chunk := await asyncio.to_thread(archive.read, _CHUNK):
        yield chunk


def _tree(tar: tarfile.TarFile, source: Path, target: str) -> None:
    for path in sorted(source.rglob("*")):
        name = f"{target}/{path.relative_to(source).as_posix()}"
        if path.is_symlink():
            member = _member(name, 0o777, tarfile.SYMTYPE)
            member.linkname = os.readlink(path)  # noqa: PTH115
            tar.addfile(member)
        elif path.is_dir():
            _folder(tar, name, 0o755)
        elif path.is_file():
            _file(tar, path, name, 0o755 if os.access(path, os.X_OK) else 0o644)


def _folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    tar.addfile(_member(name, mode, tarfile.DIRTYPE))


def _document(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = _member(name, 0o644, tarfile.REGTYPE)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _file(tar: tarfile.TarFile, path: Path, name: str, mode: int) -> None:
    with path.open("rb") as content:
        member = _member(name, mode, tarfile.REGTYPE)
        member.size = os.fstat(content.fileno()).st_size
        tar.addfile(member, content)


def _member(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name.lstrip("/"))
    member.mode, member.type = mode, kind
    return member


@contextlib.contextmanager
def keeping(what: str) -> Iterator[None]:
    """A disk of ours that fails (full, above all) is nobody's end: it is BackendUnavailable, and tried again."""
    try:
        yield
    except OSError as error:
        raise base.BackendUnavailable(f"{what}: {error}") from error


@contextlib.contextmanager
def staged(target: Path, fresh: Path) -> Iterator[Path]:
    """A folder to fill, that becomes `target` by one rename if all went well; below `fresh` until then."""
    new = fresh / f"{target.name}.{secrets.token_hex(4)}"
    new.mkdir(parents=True)
    try:
        yield new
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.rename(target)
        except OSError:
            if not target.is_dir():  # else another was faster
                raise
    finally:
        folders.discard(new)


async def unpack(
    chunks: AsyncGenerator[bytes], into: Path, *, depth: int = OUTPUT_DEPTH, last: str | None = None
) -> None:
    """Unpack an archive of one folder as it comes, without the folder's own name, no deeper than `depth`.

    What lies there already stays; entries that cannot be made, or go beyond the bounds, are left out. `last` names
    the entry that says that the archive is whole. Raises BackendUnavailable for one that broke off, and OSError.
    """
    pipe = _Pipe()
    unpacking = asyncio.get_running_loop().run_in_executor(_UNPACKERS, _unpack, pipe, into, depth, last)
    try:
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                while pipe.is_full and not unpacking.done():  # noqa: ASYNC110
                    await asyncio.sleep(_PAUSE_SECONDS)
                if unpacking.done():
                    break
                pipe.put(chunk)
        pipe.close_writing()
        await unpacking
    except BaseException:
        pipe.fail()
        await asyncio.wait({unpacking})
        if not unpacking.cancelled():
            unpacking.exception()  # what went wrong first is what is raised
        raise


class _Pipe(io.RawIOBase):
    """What comes in the event loop, read by a thread; the loop waits where it is full, never a thread for a thread."""

    def __init__(self) -> None:
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._rest = memoryview(b"")
        self._broken = False

    @property
    def is_full(self) -> bool:
        return self._chunks.qsize() >= _AHEAD

    def put(self, chunk: bytes) -> None:
        self._chunks.put(chunk)

    def close_writing(self) -> None:
        self._chunks.put(None)

    def fail(self) -> None:
        """Nothing more will come; whoever reads is told."""
        self._broken = True
        self._chunks.put(None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            chunk = self._chunks.get(timeout=_PATIENCE_SECONDS)
            if chunk is None:
                if self._broken:
                    raise OSError("the archive broke off")
                self._chunks.put(None)
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _unpack(pipe: _Pipe, into: Path, depth: int, last: str | None) -> None:
    with (
        tempfile.TemporaryDirectory(dir=into.parent, prefix=f"{into.name}.") as deeper,
        _whole(),
        tarfile.open(fileobj=io.BufferedReader(pipe, _CHUNK), mode="r|", tarinfo=tars.Member) as tar,
    ):
        place = _Place(into, depth, Path(deeper))
        entries = size = 0
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would remember them all
            if member.name == last:
                return
            entries, size = entries + 1, size + member.size
            if entries > MOST_ENTRIES or size > MOST_BYTES:
                return
            with _single():
                _take(tar, member, place)
        if last is not None:
            raise tarfile.ReadError(f"it has no entry {last!r}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where entries go: what lies too deep to be taken is kept aside meanwhile, as later links may be to it."""

    into: Path
    depth: int
    deeper: Path

    def path(self, name: str) -> Path | None:
        """Where a file of this name goes; None if that is not inside."""
        parts = PurePosixPath(name).parts[1:]
        if not parts or ".." in parts or name.startswith("/") or "\0" in name:
            return None
        if len(parts) > self.depth:
            inside = "/".join(parts).encode(errors="surrogateescape")
            return self.deeper / hashlib.sha256(inside).hexdigest()
        return self.into.joinpath(*parts)


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """An archive that cannot be read was hurt on its way: no job writes one."""
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        raise base.BackendUnavailable(
            f"a folder broke off on its way: {error}", retry_in_seconds=1.0
        ) from error


@contextlib.contextmanager
def _single() -> Iterator[None]:
    """What a job can do to one entry costs that entry; a disk of ours that is full costs all."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ITS_OWN:
            raise


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, place: _Place) -> None:
    """One entry, if it is a file; links to elsewhere are never made, so that nothing is written through one."""
    path = place.path(member.name)
    if path is None:
        return
    if member.islnk():
        original = place.path(member.linkname)
        if original is not None and original.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(original)
    elif member.isreg() and (content := tar.extractfile(member)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as copy:
            while chunk := content.read(_CHUNK):
                copy.write(chunk)
