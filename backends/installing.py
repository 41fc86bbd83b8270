"""Modules made ready: fetched, read, and prepared on a backend, with the work's log as it appears.

All of it is resumable by name: a version in FETCHING, or a preparation that is not finished, is simply
done again after a crash, and costs nothing where it was done.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from backends import fetching, formats, manifests, sources
from backends.base import Backend, BackendUnavailable, PreparationFailed, PrepareSpec
from backends.blobs import Blobs
from backends.errands import Ongoing
from backends.manifest_documents import ManifestProblem
from db import columns, feeds, files, ids, installations, logs, modules, preparations, removals
from db import manifests as stored
from db.database import Database
from db.installations import Content
from db.lines import Line
from db.module_sources import Source, SourceKind
from db.modules import ModuleVersion
from db.preparations import Preparation
from db.viewers import SUPERVISOR

log = structlog.get_logger(__name__)

_FLUSH_SECONDS = 0.1
_STDOUT = 1


class Installer:
    """Fetches versions and prepares them on one backend."""

    def __init__(
        self,
        database: Database,
        store: Path,
        blobs: Blobs,
        adapter: Backend,
        backend_id: bytes,
        host: str,
    ) -> None:
        self._database = database
        self._store = store
        self._blobs = blobs
        self._adapter = adapter
        self._backend_id = backend_id
        self._host = host
        self._ongoing = Ongoing()

    async def step(self) -> None:
        """Begin whatever is to be done and not being done already."""
        async with self._database.read() as session:
            waiting = await installations.fetching(session)
            unfinished = await preparations.unfinished(session, self._backend_id, self._host)
            abandoned = await removals.abandoned(session, self._backend_id, self._host)
            left = await removals.to_free(session, self._backend_id, self._host)
        for preparation in abandoned:
            await self._give_up(preparation)
        for version in waiting:
            self._ongoing.begin(version.id, partial(self._fetch, version))
        for preparation in unfinished:
            self._ongoing.begin(preparation.id, partial(self._prepare, preparation))
        for preparation in left:
            if not self._ongoing:  # lest it frees what is being fetched or built again
                await self._free(preparation)

    async def close(self) -> None:
        """Stop; what was not finished is begun again next time."""
        await self._ongoing.close()

    async def _give_up(self, preparation: Preparation) -> None:
        """End the preparation of what was removed meanwhile."""
        await self._ongoing.end(preparation.id)
        async with self._database.begin() as session:
            await preparations.fail(session, preparation, "the module was removed")

    async def _free(self, preparation: Preparation) -> None:
        """Let go of what a removed module left, but for what another one needs; then say so."""
        async with self._database.read() as session:
            digest, prepared = await removals.needless(session, preparation)
        if digest is not None:
            await asyncio.to_thread(sources.discard, self._store, digest)
        if prepared is not None:
            await self._adapter.discard(prepared)
        async with self._database.begin() as session:
            await removals.freed(session, [preparation.id])

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
                await preparations.request(session, recorded, self._backend_id, self._host)
        if recorded is not None and recorded.id != version.id:
            async with self._database.begin() as session:
                await preparations.request(session, recorded, self._backend_id, self._host)

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

    async def _prepare(self, preparation: Preparation) -> None:
        async with self._database.begin() as session:
            await preparations.begin(session, preparation)
            found = await modules.find_versions(session, SUPERVISOR, [preparation.version_id])
        version = found[0]
        assert version.manifest is not None and version.digest is not None
        manifest = stored.decode(version.manifest)
        spec = PrepareSpec(
            version=ids.encode("version", version.id),
            source=self._store / version.digest,
            requirements=manifest.requirements,
            python=manifest.python,
            digest=version.digest,
            image=manifest.image,
            dockerfile=manifest.dockerfile,
        )
        journal = Journal(self._database, preparation.feed_id)
        try:
            try:
                prepared = await self._made_ready(manifest, spec, journal)
            finally:
                await journal.close()
        except PreparationFailed as error:
            async with self._database.begin() as session:
                await preparations.fail(session, preparation, str(error))
            return
        except BackendUnavailable as error:
            await asyncio.sleep(error.retry_in_seconds)
            return
        async with self._database.begin() as session:
            await preparations.finish(session, preparation, prepared)

    async def _made_ready(self, manifest: stored.Manifest, spec: PrepareSpec, journal: "Journal") -> str:
        """What the adapter makes of it; of what only a container can run, nothing where there are none."""
        if manifest.needs_container and not self._adapter.capabilities.needs_container:
            return ""
        return await self._adapter.prepare(spec, journal.write)


def plain(problems: Sequence[ManifestProblem]) -> list[dict[str, Any]]:
    """Problems, or notes, as they are stored."""
    return [dataclasses.asdict(problem) for problem in problems]


class Journal:
    """Log lines on their way to a feed, a few together; none waits long for the next one to come."""

    def __init__(self, database: Database, feed_id: int) -> None:
        self._database = database
        self._feed_id = feed_id
        self._lines: list[Line] = []
        self._flushing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def write(self, text: str) -> None:
        """Keep a line; it is stored soon, with those that come meanwhile."""
        self._lines.append(Line(columns.microseconds(columns.now()), _STDOUT, text))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_soon())

    async def flush(self) -> None:
        """Store what has gathered."""
        async with self._turn:
            lines = tuple(self._lines)
            if lines:
                async with self._database.begin() as session:
                    head = await feeds.lock(session, self._feed_id)
                    await logs.note(session, head, lines)
                del self._lines[: len(lines)]

    async def close(self) -> None:
        """Store what has gathered, and nothing more."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait({self._flushing})
        await self.flush()

    async def _flush_soon(self) -> None:
        await asyncio.sleep(_FLUSH_SECONDS)
        self._flushing = None
        try:
            await self.flush()
        except Exception as error:
            # The lines wait for the next ones, or for the end.
            log.warning("log lines not stored", error=repr(error), exc_info=error)
