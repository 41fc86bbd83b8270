"""Checking a module without installing it: what it says of itself, what is wrong, and what is unusual.

Nothing is recorded and nothing is kept; a source that is not a folder is fetched into a scratch folder that
goes with the check. A check is asked for by a person who waits, so it has less time than an installation, and
only a few are done at once.
"""

import asyncio
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backends import fetching, formats, sources
from backends.manifest_documents import ManifestProblem
from backends.manifests import ManifestInvalid
from db import errors
from db.manifests import Manifest
from db.module_sources import Source

SECONDS = 60.0
_AT_ONCE = threading.BoundedSemaphore(4)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it. Without a manifest, `problems` say what is wrong with it, or `message` with its source."""

    manifest: Manifest | None = None
    commit: str | None = None
    message: str | None = None
    problems: Sequence[ManifestProblem] = ()
    notes: Sequence[ManifestProblem] = ()


async def check(source: Source, archive: Path | None = None, file_name: str | None = None) -> Checked:
    """What installing this would find. `archive` is where an uploaded file's content lies. Raises Unavailable."""
    if not _AT_ONCE.acquire(blocking=False):
        raise errors.Unavailable("enough other modules are being checked just now; ask again")
    try:
        return await _check(source, archive, file_name)
    except sources.SourceInvalid as error:
        return Checked(message=str(error))
    finally:
        _AT_ONCE.release()


async def _check(source: Source, archive: Path | None, file_name: str | None) -> Checked:
    scratch = Path(tempfile.gettempdir())
    async with fetching.obtained(source, scratch, _ignore, archive=archive, seconds=SECONDS) as found:
        await asyncio.to_thread(sources.survey, found.folder, found.label)
        try:
            described = await asyncio.to_thread(formats.describe, found.folder, source, file_name)
        except ManifestInvalid as error:
            return Checked(commit=found.commit, message=error.summary, problems=error.problems)
    words = [ManifestProblem("", 1, 1, "", "source", note) for note in found.notes]
    return Checked(described.manifest, found.commit, None, (), [*described.notes, *words])


async def _ignore(_line: str) -> None:
    pass
