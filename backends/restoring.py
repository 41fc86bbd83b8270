"""A module's content on a host that has not fetched it: from its source again, if that is still what it was.

Each host has a store of its own. A version is fetched by one; another one that is to launch or prepare it gets it
here: of git the very commit, of an archive the uploaded file, of a folder what lies there, each told by its digest.
"""

import asyncio
import dataclasses
from collections import defaultdict
from pathlib import Path

import structlog

from backends import fetching, sources
from backends.blobs import Blobs
from backends.sources import SourceInvalid
from db import files, installations
from db.database import Database
from db.module_sources import SourceKind
from db.modules import ModuleVersion
from db.viewers import SUPERVISOR

log = structlog.get_logger(__name__)


class Restorer:
    """Sees to it that contents are in one host's store."""

    def __init__(self, database: Database, store: Path, blobs: Blobs) -> None:
        self._database = database
        self._store = store
        self._blobs = blobs
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, digest: str) -> Path:
        """Where the content of this digest lies. Raises SourceInvalid where it cannot be had any more."""
        path = self._store / digest
        if not path.is_dir():
            async with self._turns[digest]:
                if not path.is_dir():
                    await self._restore(digest)
        return path

    async def _restore(self, digest: str) -> None:
        async with self._database.read() as session:
            version = await installations.of_content(session, digest)
        if version is None:
            raise SourceInvalid("nobody knows where its module was installed from")
        log.info("fetching a module again", source=version.source, digest=digest)
        try:
            found = await self._fetch(version)
        except SourceInvalid as error:
            raise SourceInvalid(
                f"its module is not on this host, and cannot be fetched again: {error}"
            ) from error
        if found != digest:
            raise SourceInvalid(
                "its module is not on this host, and its source is not what it was: install it again"
            )

    async def _fetch(self, version: ModuleVersion) -> str:
        """Fetch what the version was made of; the digest of what came."""
        source, archive = installations.source_of(version), None
        if source.kind is SourceKind.GIT and version.revision:
            source = dataclasses.replace(source, ref=version.revision)
        if source.kind is SourceKind.FILE:
            async with self._database.read() as session:
                file = await files.find(session, SUPERVISOR, source.file_id)
            if file is not None and file.sha256 is not None:
                archive = self._blobs.path(file.sha256)
        async with fetching.obtained(source, self._store, _unheard, archive=archive) as obtained:
            return (await sources.fetch(str(obtained.folder), self._store, obtained.label)).digest


async def _unheard(_line: str) -> None:
    """Its log was kept when it was installed."""
