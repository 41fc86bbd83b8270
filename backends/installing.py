"""Modules made ready: fetched, read, and prepared on a backend, with the work's log as it appears.

All of it is resumable by name: a version in FETCHING, or a preparation that is not finished, is simply
done again after a crash, and costs nothing where it was done.
"""

import asyncio
import dataclasses
from collections.abc import Coroutine
from pathlib import Path

import structlog

from backends import manifests, sources
from backends.base import Backend, BackendUnavailable, PreparationFailed, PrepareSpec
from db import columns, feeds, ids, logs, modules, preparations
from db import manifests as stored
from db.database import Database
from db.lines import Line
from db.modules import ModuleVersion
from db.preparations import Preparation
from db.viewers import SUPERVISOR

log = structlog.get_logger(__name__)

_FLUSH_SECONDS = 0.1
_STDOUT = 1


class Installer:
    """Fetches versions and prepares them on one backend."""

    def __init__(
        self, database: Database, store: Path, adapter: Backend, backend_id: bytes, host: str
    ) -> None:
        self._database = database
        self._store = store
        self._adapter = adapter
        self._backend_id = backend_id
        self._host = host
        self._busy: dict[bytes, asyncio.Task[None]] = {}

    async def step(self) -> None:
        """Begin whatever is to be done and not being done already."""
        async with self._database.read() as session:
            fetching = await modules.fetching(session)
            unfinished = await preparations.unfinished(session, self._backend_id, self._host)
        for version in fetching:
            self._begin(version.id, self._fetch(version))
        for preparation in unfinished:
            self._begin(preparation.id, self._prepare(preparation))

    async def close(self) -> None:
        """Stop; what was not finished is begun again next time."""
        for task in self._busy.values():
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy.values())

    def _begin(self, key: bytes, work: Coroutine[None, None, None]) -> None:
        if key in self._busy:
            work.close()
            return
        task = asyncio.create_task(work)
        self._busy[key] = task
        task.add_done_callback(lambda task: self._ended(key, task))

    def _ended(self, key: bytes, task: "asyncio.Task[None]") -> None:
        del self._busy[key]
        if not task.cancelled() and (error := task.exception()):
            log.error("installation will be tried again", error=repr(error), exc_info=error)

    async def _fetch(self, version: ModuleVersion) -> None:
        try:
            fetched = await sources.fetch(version.source, self._store)
            manifest = await asyncio.to_thread(manifests.read, fetched.path)
        except sources.SourceInvalid as error:
            async with self._database.begin() as session:
                await modules.failed(session, version.id, str(error))
            return
        except manifests.ManifestInvalid as error:
            problems = [dataclasses.asdict(problem) for problem in error.problems]
            count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
            async with self._database.begin() as session:
                await modules.failed(session, version.id, f"rungraph.yaml has {count}", problems)
            return
        async with self._database.begin() as session:
            recorded = await modules.fetched(session, version.id, fetched.digest, manifest)
            if recorded is not None:
                await preparations.request(session, recorded, self._backend_id, self._host)

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
        )
        journal = Journal(self._database, preparation.feed_id)
        try:
            try:
                prepared = await self._adapter.prepare(spec, journal.write)
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
