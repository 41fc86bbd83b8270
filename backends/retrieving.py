"""Fetching data sources: what lies outside becomes a content of the store, and then a file.

The content is stored before the database hears of it, whole or not at all; a crash in between leaves a content
without a name, and fetching again finds it there. Size and time are bounded. Of several servers of one database
one fetches, and another one what a dead one has left.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from backends import alone, outside
from backends.alone import Alone
from backends.base import LaunchRejected
from backends.blobs import Blobs
from backends.contents import BlobInvalid
from backends.errands import POLL_SECONDS, Errands, Ongoing
from backends.outside import Opened, Policy, Refused
from backends.tenure import Lost
from backends.vault import Vault
from db import data_fetches, grants
from db.data_fetches import DataFetch
from db.database import Database

LEASE = "fetching data"
"""What the one holds that fetches: several would each read all of it."""
_CHUNK_BYTES = 1 << 20
_AT_ONCE = 4
_PROGRESS_SECONDS = 1.0
_MOST_SECONDS = 6 * 3600.0
_CHUNK_SECONDS = 300.0
"""How long a MiB may take: who sends a byte now and then keeps no others from being fetched."""


class Retriever:
    """Fetches whatever waits for it, a few at once."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        vault: Vault,
        policy: Policy,
        host: str,
        *,
        most_seconds: float = _MOST_SECONDS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._vault = vault
        self._policy = policy
        self._most_seconds = most_seconds
        self._errands = Errands(database, self.step, poll_seconds=poll_seconds)
        self._alone = Alone(database, LEASE, host)
        self._ongoing = Ongoing()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def open(self) -> None:
        """Begin, with what a former server left undone."""
        self._errands.open()

    async def close(self) -> None:
        """Stop; what was not finished is begun again next time."""
        await self._errands.close()
        await self._ongoing.close()
        await self._alone.close()

    async def step(self) -> float | None:
        """Begin whatever is ours to fetch and is not being fetched already; break off what no longer is."""
        async with self._database.read() as session:
            waiting = await data_fetches.fetching(session)
        self._ongoing.keep({fetch.id for fetch in waiting})
        if not waiting and not self._ongoing:
            await self._alone.let_go()
            return None
        if not await self._alone.has_turn():
            self._ongoing.keep(())
            return alone.STAND_BY_SECONDS
        for fetch in waiting:
            self._ongoing.begin(fetch.id, partial(self._run, fetch))
        return alone.RENEW_SECONDS

    async def _run(self, fetch: DataFetch) -> None:
        async with self._turns:
            with suppress(Lost):  # whoever has the turn by now fetches it, from its beginning
                if (message := await self._refusal(fetch)) is not None:
                    async with self._alone.writing() as session:
                        await data_fetches.failed(session, fetch.id, message)

    async def _refusal(self, fetch: DataFetch) -> str | None:
        """Fetch it; why it cannot be had, or None."""
        try:
            async with asyncio.timeout(self._most_seconds):
                await self._fetch(fetch)
        except TimeoutError:
            return f"takes longer than {self._most_seconds:g} s"
        except (Refused, BlobInvalid, LaunchRejected) as error:
            return str(error)
        return None

    async def _fetch(self, fetch: DataFetch) -> None:
        credentials = await self._credentials(fetch)
        opening = outside.opened(fetch.url, credentials, self._policy)
        found = await asyncio.to_thread(opening.__enter__)
        try:
            if found.size_bytes is not None and found.size_bytes > fetch.limit_bytes:
                raise Refused(f"has {found.size_bytes} bytes, the limit is {fetch.limit_bytes}")
            stored = await self._blobs.write(self._chunks(fetch, found), limit_bytes=fetch.limit_bytes)
        finally:
            opening.__exit__(None, None, None)
        if found.size_bytes is not None and stored.size_bytes != found.size_bytes:
            raise Refused(f"broke off after {stored.size_bytes} of {found.size_bytes} bytes")
        async with self._alone.writing() as session:
            await data_fetches.fetched(session, fetch, stored.sha256, stored.size_bytes)

    async def _chunks(self, fetch: DataFetch, found: Opened) -> AsyncIterator[bytes]:
        """What is read, with its progress told now and then."""
        loop = asyncio.get_running_loop()
        told, done = loop.time(), 0
        while chunk := await _next(found):
            done += len(chunk)
            yield chunk
            if loop.time() - told > _PROGRESS_SECONDS:
                told = loop.time()
                async with self._alone.writing() as session:
                    await data_fetches.progress(session, fetch.id, done, found.size_bytes)

    async def _credentials(self, fetch: DataFetch) -> str | None:
        if fetch.secret is None:
            return None
        wanted = (fetch.project_id, fetch.secret)
        async with self._database.read() as session:
            sealed = await grants.sealed(session, [wanted])
        return self._vault.value(sealed[wanted])


async def _next(found: Opened) -> bytes:
    try:
        async with asyncio.timeout(_CHUNK_SECONDS):
            return await asyncio.to_thread(_read, found)
    except TimeoutError as error:
        raise Refused(f"sent less than a MiB in {_CHUNK_SECONDS:g} s") from error


def _read(found: Opened) -> bytes:
    """The next of it; what breaks off is refused in words, like what cannot be begun."""
    try:
        with outside.refusing():
            return found.source.read(_CHUNK_BYTES)
    except Refused:
        raise
    except Exception as error:
        # The stores' libraries raise what they like; fetched again, it would break off again.
        raise Refused(f"broke off: {type(error).__name__}") from error
