"""Modules made ready on one backend, with the work's log as it appears, and what removed ones left let go of.

All of it is resumable by name: a preparation that is not finished is simply done again after a crash, and
costs nothing where it was done.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from backends import sources
from backends.base import Backend, BackendUnavailable, PreparationFailed, PrepareSpec
from backends.errands import Ongoing
from backends.journal import Journal
from backends.restoring import Restorer
from backends.seldom import Seldom
from backends.sources import SourceInvalid
from backends.tenure import Lost, Tenure
from db import ids, modules, preparations, removals, wanted
from db import manifests as stored
from db.database import Database
from db.preparations import Preparation
from db.viewers import SUPERVISOR
from db.wanted import Place

log = structlog.get_logger(__name__)

FREE_SECONDS = 30.0
"""Between two tries to free what could not be."""


class Preparer:
    """Prepares versions on one backend. `fetching` is what is being fetched into the same store."""

    def __init__(
        self,
        database: Database,
        store: Path,
        restorer: Restorer,
        adapter: Backend,
        place: Place,
        fetching: Ongoing,
        tenure: Tenure,
        away: Callable[[BackendUnavailable], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._store = store
        self._restorer = restorer
        self._adapter = adapter
        self._place = place
        self._fetching = fetching
        self._tenure = tenure
        self._away = away
        self._ongoing = Ongoing()
        self._freeing: defaultdict[bytes, Seldom] = defaultdict(partial(Seldom, FREE_SECONDS))

    async def step(self) -> None:
        """Begin whatever is to be done and not being done already."""
        async with self._database.read() as session:
            unfinished = await preparations.unfinished(session, self._place.backend_id, self._place.host)
            abandoned = await removals.abandoned(session, self._place.backend_id, self._place.host)
            left = await removals.to_free(session, self._place.backend_id, self._place.host)
            unprepared = await wanted.unprepared(session, self._place)
            hopeless = await wanted.hopeless(session, self._place)
        for version in unprepared:
            async with self._tenure.writing(self._database) as session:
                await preparations.request(session, version, self._place.backend_id, self._place.host)
        for preparation in hopeless:
            await self._settle(preparation)
        for preparation in abandoned:
            await self._give_up(preparation)
        for preparation in unfinished:
            self._ongoing.begin(preparation.id, partial(self._make_ready, preparation))
        for preparation in left:
            if self._ongoing or self._fetching:  # lest it frees what is being fetched or built again
                break
            if self._freeing[preparation.id].is_due():
                await self._free(preparation)

    async def close(self) -> None:
        """Stop; what was not finished is begun again next time."""
        await self._ongoing.close()

    async def _settle(self, failed: Preparation) -> None:
        """End the jobs that waited for it; with none of those, try it again for who came later."""
        refused = some = 0
        while some or not refused:
            async with self._tenure.writing(self._database) as session:
                some = await wanted.refuse(session, self._place, failed)
                refused += some
                if not refused:
                    await wanted.again(session, failed)
                    return

    async def _give_up(self, preparation: Preparation) -> None:
        """End the preparation of what was removed meanwhile."""
        await self._ongoing.end(preparation.id)
        async with self._tenure.writing(self._database) as session:
            await preparations.fail(session, preparation, "the module was removed")

    async def _free(self, preparation: Preparation) -> None:
        """Let go of what a removed module left, but for what another one needs; then say so."""
        async with self._database.read() as session:
            digest, prepared = await removals.needless(session, preparation)
        if digest is not None:
            await asyncio.to_thread(sources.discard, self._store, digest)
        if prepared is not None:
            try:
                await self._adapter.discard(prepared)
            except BackendUnavailable as error:
                # What makes images may be away while jobs run on: they have not to wait for it. Or a container
                # that nobody here knows of has the image.
                log.warning("what a module left is freed later", prepared=prepared, error=str(error))
                return
        async with self._tenure.writing(self._database) as session:
            await removals.freed(session, [preparation.id])
        del self._freeing[preparation.id]

    async def _make_ready(self, preparation: Preparation) -> None:
        with contextlib.suppress(Lost):
            await self._prepare(preparation)

    async def _prepare(self, preparation: Preparation) -> None:
        async with self._tenure.writing(self._database) as session:
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
        try:
            await self._restorer.ensure(version.digest)
        except SourceInvalid as error:
            async with self._tenure.writing(self._database) as session:
                await preparations.fail(session, preparation, str(error))
            return
        journal = Journal(self._database, preparation.feed_id, self._tenure)
        try:
            try:
                prepared = await self._made_ready(manifest, spec, journal)
            finally:
                await journal.close()
        except PreparationFailed as error:
            async with self._tenure.writing(self._database) as session:
                await preparations.fail(session, preparation, str(error))
            return
        except BackendUnavailable as error:
            self._away(error)
            await asyncio.sleep(error.retry_in_seconds)
            return
        async with self._tenure.writing(self._database) as session:
            await preparations.finish(session, preparation, prepared)

    async def _made_ready(self, manifest: stored.Manifest, spec: PrepareSpec, journal: "Journal") -> str:
        """What the adapter makes of it; of what only a container can run, nothing where there are none."""
        if manifest.needs_container and not self._adapter.capabilities.needs_container:
            return ""
        return await self._adapter.prepare(spec, journal.write)
