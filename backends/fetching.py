"""A source made a folder to read: as it lies, checked out of git, or unpacked; and thrown away afterwards.

What comes of it is for whoever asked: the installer copies it into the store (sources.py), a check reads its
manifest and forgets it. Scratch folders have a name that `sources.sweep` knows, should we die over one.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from backends import archives, repositories, sources
from backends.repositories import Log
from backends.sources import SourceInvalid
from db.module_sources import Source, SourceKind


@dataclass(frozen=True, slots=True)
class Obtained:
    """A module's folder for now; the commit it is of, and what of it is worth a word."""

    folder: Path
    label: str
    commit: str | None = None
    notes: tuple[str, ...] = ()


@contextlib.asynccontextmanager
async def obtained(
    source: Source,
    store: Path,
    log: Log,
    *,
    archive: Path | None = None,
    seconds: float = repositories.SECONDS,
) -> AsyncIterator[Obtained]:
    """The folder that a source means, while the block lasts. Raises SourceInvalid.

    `archive` is where the content of an uploaded file lies. `store` is the disk that scratch folders are on.
    """
    if source.kind is SourceKind.FOLDER:
        yield _local(source)
        return
    store.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=sources.SCRATCH, dir=store))
    try:
        if source.kind is SourceKind.GIT:
            await log(f"Fetching {repositories.redacted(source.location)}")
            found = await repositories.check_out(source, scratch, log, seconds=seconds)
            yield Obtained(
                _within(found.folder, scratch, source), "the repository", found.commit, found.notes
            )
            return
        if archive is None:
            raise SourceInvalid(f"{source.location} is not there any more; upload the archive again")
        folder = await asyncio.to_thread(archives.unpack, archive, scratch)
        part = folder / source.folder if source.folder else folder
        yield Obtained(_within(part, scratch, source), "the archive")
    finally:
        await asyncio.to_thread(sources.remove, scratch)


def recover(store: Path) -> None:
    """End what the fetches of a killed server left running, and remove what they wrote.

    For the start of a server, before it fetches anything: nobody watches how much such a fetch still writes.
    """
    left = list(store.glob(f"{sources.SCRATCH}*"))
    if not left:
        return
    place = store.resolve()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            folder = (process / "cwd").readlink()
            inside = folder.parts[len(place.parts) :] if folder.is_relative_to(place) else ()
            if inside and inside[0].startswith(sources.SCRATCH):
                os.kill(int(process.name), signal.SIGKILL)
    for folder in left:
        sources.remove(folder)


def _local(source: Source) -> Obtained:
    try:
        folder = Path(source.location).expanduser()
    except RuntimeError as error:
        raise SourceInvalid(f"{source.location} names nobody's home") from error
    part = folder / source.folder if source.folder else folder
    return Obtained(part, str(part))


def _within(folder: Path, scratch: Path, source: Source) -> Path:
    """The named part, which no link may lead out of what was fetched."""
    if not folder.is_dir():
        raise SourceInvalid(f"it has no folder {source.folder!r}")
    if not folder.resolve().is_relative_to(scratch.resolve()):
        raise SourceInvalid(f"{source.folder!r} is a link that leads out of it")
    return folder
