"""Modules fetched and read, with the work's log as it appears; preparing.py makes them ready on a backend.

It is resumable by name: a version in FETCHING is simply fetched again after a crash, and what was fetched
before costs nothing.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from backends import alone, fetching, formats, manifests, sources
from backends.alone import Alone
from backends.blobs import Blobs
from backends.errands import Errands, Ongoing
from backends.journal import Journal
from backends.manifest_documents import ManifestProblem
from db import files, installations, preparations
from db.database import Database
from db.installations import Content
from db.module_sources import Source, SourceKind
from db.modules import ModuleVersion
from db.viewers import SUPERVISOR

LEASE = "fetching modules"
"""What the one holds that fetches: several would do the same, and tell it line by line."""


class Fetcher:
    """Fetches versions into this host's store, and asks for their preparation where runs go by default."""

    def __init__(self, database: Database, store: Path, blobs: Blobs, host: str) -> None:
        self._database = database
        self._store = store
        self._blobs = blobs
        self._alone = Alone(database, LEASE, host)
        self._errands = Errands(database, self._step)
        self._place: tuple[bytes, str] = b"", ""
        self.ongoing = Ongoing()
        """What is being fetched, which nobody may free meanwhile."""

    async def recover(self) -> None:
        """End what a killed server's fetches left, before anything is fetched by anybody of this one."""
        await asyncio.to_thread(fetching.recover, self._store)

    def open(self, backend_id: bytes, host: str) -> None:
        """Begin; what is fetched is to be made ready on this backend first."""
        self._place = backend_id, host
        self._errands.open()

    async def close(self) -> None:
        """Stop; what was not finished is begun again next time."""
        await self._errands.close()
        await self.ongoing.close()
        await self._alone.close()

    async def _step(self) -> float | None:
        """Begin whatever is to be fetched, if that is ours to do; it is renewed while something goes on."""
        async with self._database.read() as session:
            waiting = await installations.fetching(session)
        if not waiting and not self.ongoing:
            await self._alone.let_go()
            return None
        if not await self._alone.has_turn():
            return alone.STAND_BY_SECONDS
        for version in waiting:
            self.ongoing.begin(version.id, partial(self._fetch, version))
        return alone.RENEW_SECONDS

    async def _fetch(self, version: ModuleVersion) -> None:
        journal = Journal(self._database, version.feed_id)
        try:
            try:
                content = await self._content(version, journal)
            finally:
                await journal.close()
        except sources.SourceInvalid as error:
            async with self._database.begin() as session:
                await installations.failed(session, version.id, str(error))
            return
        except manifests.ManifestInvalid as error:
            async with self._database.begin() as session:
                await installations.failed(session, version.id, error.summary, plain(error.problems))
            return
        async with self._database.begin() as session:
            recorded = await installations.fetched(session, version.id, content)
            if recorded is not None and recorded.id == version.id:
                await preparations.request(session, recorded, *self._place)
        if recorded is not None and recorded.id != version.id:
            async with self._database.begin() as session:
                await preparations.request(session, recorded, *self._place)

    async def _content(self, version: ModuleVersion, journal: "Journal") -> Content:
        """What a version's source holds now, at rest in the store."""
        source = installations.source_of(version)
        archive, file_name = await self._archive(source)
        async with fetching.obtained(source, self._store, journal.write, archive=archive) as found:
            fetched = await sources.fetch(str(found.folder), self._store, found.label)
        described = await asyncio.to_thread(formats.describe, fetched.path, source, file_name)
        notes = [*plain(described.notes), *({"message": note} for note in found.notes)]
        return Content(fetched.digest, described.manifest, found.commit, notes)

    async def _archive(self, source: Source) -> tuple[Path | None, str | None]:
        """Where an uploaded archive's content lies, and what it is called."""
        if source.kind is not SourceKind.FILE:
            return None, None
        async with self._database.read() as session:
            file = await files.find(session, SUPERVISOR, source.file_id)
        if file is None or file.sha256 is None:
            return None, None
        return self._blobs.path(file.sha256), file.name


def plain(problems: Sequence[ManifestProblem]) -> list[dict[str, Any]]:
    """Problems, or notes, as they are stored."""
    return [dataclasses.asdict(problem) for problem in problems]
