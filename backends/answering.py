"""Whether a backend answers: what anybody meets is recorded at once, and it is asked again until it does.

`Backend.capacity` is the question, asked now and then of one that is well too: what it has may change.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping

import structlog

from backends.base import Backend, BackendUnavailable
from backends.seldom import Seldom
from backends.tenure import Tenure
from db import health
from db.database import Database

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 15.0
_LATEST_SECONDS = 10.0
"""After which a backend that says nothing counts as away; less than a lease lasts, as a term begins with a look."""

Amounts = Mapping[str, float] | None


class Answering:
    """Asks one backend, and records what it says."""

    def __init__(
        self,
        database: Database,
        tenure: Tenure,
        backend_id: bytes,
        name: str,
        adapter: Backend,
        *,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._tenure = tenure
        self._backend_id = backend_id
        self._name = name
        self._adapter = adapter
        self._every_seconds = every_seconds
        self._met: BackendUnavailable | None = None
        self._news = asyncio.Event()
        self._seldom = Seldom()
        self._recorded: str | Amounts | type = object
        """What the database holds: an error, or what the backend has; at first nobody knows."""

    def away(self, error: BackendUnavailable) -> None:
        """Somebody has met this error."""
        self._met = error
        self._news.set()

    async def run(self) -> None:
        """Ask until cancelled; whatever it raises, it may be called again."""
        while True:
            wait = await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    async def begin(self) -> None:
        """Look once: before that nobody knows what a backend has whose configuration leaves it to the backend."""
        await self._look()

    async def _look(self) -> float:
        """Record what was met, or else what the backend says now; how long to wait for the next look."""
        self._news.clear()
        error, self._met = self._met, None
        available: Amounts = None
        if error is None:
            try:
                available = await self._ask()
            except BackendUnavailable as met:
                error = met
        if error is not None:
            await self._record_away(error)
            return min(error.retry_in_seconds, self._every_seconds)
        if self._recorded != available:
            async with self._tenure.writing(self._database) as session:
                await health.answers(session, self._tenure.lease, self._backend_id, available)
            if isinstance(self._recorded, str):
                log.info("backend back", backend=self._name)
                self._seldom.over()
            self._recorded = available
        return self._every_seconds

    async def _ask(self) -> Amounts:
        try:
            async with asyncio.timeout(_LATEST_SECONDS):
                capacity = await self._adapter.capacity()
        except TimeoutError as error:
            raise BackendUnavailable(f"it has not answered within {_LATEST_SECONDS:g} s") from error
        if capacity is None:
            return None
        said = dataclasses.asdict(capacity)
        return {what: amount for what, amount in said.items() if amount is not None}

    async def _record_away(self, error: BackendUnavailable) -> None:
        words = str(error)
        if self._recorded == words:
            return
        if self._seldom.is_due():
            log.warning("backend away", backend=self._name, error=words)
        async with self._tenure.writing(self._database) as session:
            await health.away(session, self._tenure.lease, self._backend_id, words)
        self._recorded = words
