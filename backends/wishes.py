"""What is wished of one attempt: to stop, to stand still, to go on; told to its backend until that has heard it.

The intent is in the database (stop_reason, suspended_at), so that the next supervisor finds it. A backend may take
its time to hear, or be away: nobody waits for it but the attempt itself. What has no handle yet cannot be told
anything: a stop is then an event, for whoever launches it (minding.py).
"""

import asyncio

import structlog

from backends.base import BackendUnavailable, Handle
from backends.seldom import Seldom
from backends.surroundings import Surroundings

log = structlog.get_logger(__name__)


class Wishes:
    """What is wished of an attempt, and what of it its backend has been told."""

    def __init__(self, around: Surroundings, name: str, *, adopted: bool) -> None:
        self.unwanted = asyncio.Event()
        """Set once it is to stop."""
        self._around = around
        self._name = name
        self._grace: float | None = None
        self._told_grace: float | None = None
        self._still = False
        self._told_still = None if adopted else False
        """Whether the backend has been told to have it stand still; unknown of what was adopted."""
        self._over = False
        self._seldom = Seldom()

    def stop(self, grace_seconds: float) -> None:
        """It is to end within this time, or the shorter one that was wished before."""
        self._grace = grace_seconds if self._grace is None else min(self._grace, grace_seconds)
        self.unwanted.set()

    def stand(self, *, still: bool) -> None:
        """It is to stand still, or to go on."""
        self._still = still

    def end(self) -> None:
        """It is over: nothing is wished of it any more."""
        self._over = True

    @property
    def are_open(self) -> bool:
        """Whether the backend is still to be told something."""
        return not self._over and (self._is_to_stop or self._is_to_change)

    async def tell(self, handle: Handle) -> None:
        """Tell the backend, as often as it takes."""
        while self.are_open:
            await self._around.tenure.sure()
            try:
                await self._tell(handle)
            except BackendUnavailable as error:
                self._around.away(error)
                if self._seldom.is_due():
                    log.warning("its backend is not told yet", attempt=self._name, error=str(error))
                await asyncio.sleep(error.retry_in_seconds)

    async def _tell(self, handle: Handle) -> None:
        adapter, still = self._around.adapter, self._still
        if self._grace is not None and self._is_to_stop:
            grace = self._grace
            await adapter.stop(handle, grace)
            self._told_grace = grace
        elif self._is_to_change:
            await (adapter.suspend if still else adapter.resume)(handle)
            self._told_still = still

    @property
    def _is_to_stop(self) -> bool:
        if self._grace is None:
            return False
        return self._told_grace is None or self._grace < self._told_grace

    @property
    def _is_to_change(self) -> bool:
        suspends = self._around.adapter.capabilities.suspends
        return suspends and self._grace is None and self._still is not self._told_still
