"""Hints between processes, by broadcaster: over Redis, or over PostgreSQL's LISTEN.

broadcaster 0.3.1 loses messages to concurrent first subscribers, hangs silently when its listener dies or never
begins, and does not notice a connection that is half open. Hence one subscriber, everything under a time limit,
and a beat: each process says something every few seconds and must hear itself, at first before it counts as
connected. When it does not, or anything fails, the connection is made anew, after a random moment, and the
listeners are told that they may have missed something.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import orjson
import structlog
from broadcaster import Broadcast

log = structlog.get_logger(__name__)

_CHANNEL = "rungraph"
_RETRY_SECONDS = (0.2, 2.0)
BEAT_SECONDS = 2.0
DEAF_SECONDS = 6.0
"""Not even its own beat heard for so long: the connection is dead."""
_LIMIT_SECONDS = 5.0
"""For whatever is asked of the other side."""
_PAUSE_SECONDS = 0.002
"""Between two messages: what happens meanwhile is told together."""
_MOST_FEEDS = 200
"""In one message, which PostgreSQL takes up to 8,000 bytes of."""
_MOST_PENDING = 20_000
"""Feeds to be told; when more have moved, the rest is left to the listeners' polls."""


class Carrier:
    """One process's connection to the others."""

    def __init__(
        self, url: str, hear: Callable[[Mapping[int, int], int], None], miss: Callable[[], None]
    ) -> None:
        self._url = url
        self._hear = hear
        self._miss = miss
        self._origin = secrets.token_hex(8)
        self._reached: dict[int, int] = {}
        self._wake = 0
        self._pending = asyncio.Event()
        self._heard_at = 0.0
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether it is connected, as far as it knows."""
        return self._ready.is_set()

    async def open(self) -> None:
        """Begin; returns once connected, or after a moment when the other side is away."""
        self._task = asyncio.create_task(self._run(), name="bus")
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait({waiting}, timeout=2)
        waiting.cancel()

    async def close(self) -> None:
        """End."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    def send(self, reached: Mapping[int, int], *, wake: int) -> None:
        """Tell the others, soon."""
        for feed, seq in reached.items():
            if feed in self._reached or len(self._reached) < _MOST_PENDING:
                self._reached[feed] = max(seq, self._reached.get(feed, 0))
        self._wake = max(self._wake, wake)
        self._pending.set()

    async def _run(self) -> None:
        lost = False
        while True:
            try:
                await self._connected(lost)
            except Exception as error:
                # Drivers have error classes of their own, and broadcaster passes them on as they are.
                if self.connected or not lost:
                    log.warning("bus lost", error=repr(error), exc_info=error)
                else:
                    log.debug("bus still lost", error=repr(error), exc_info=error)
            lost = True
            self._ready.clear()
            await asyncio.sleep(random.uniform(*_RETRY_SECONDS))

    async def _connected(self, again: bool) -> None:
        """Carry hints until something fails, which is raised."""
        broadcast = Broadcast(self._url)
        subscription = broadcast.subscribe(_CHANNEL)
        tasks: set[asyncio.Task[Any]] = set()
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                await broadcast.connect()
                subscriber = await subscription.__aenter__()
                _let_listen(broadcast)
            self._heard_at = asyncio.get_running_loop().time()
            tasks = {
                asyncio.create_task(self._receive(subscriber.get, again)),
                asyncio.create_task(self._send(broadcast)),
            }
            done, _ = await asyncio.wait(
                {*tasks, *_listeners(broadcast)}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if not task.cancelled():
                    task.result()
            raise ConnectionError("its listener has ended")
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await _whole(_disconnect(broadcast, subscription))

    async def _send(self, broadcast: Broadcast) -> None:
        """Tell what there is, and the beat where there is nothing; one at a time, as a connection takes it."""
        now = asyncio.get_running_loop().time
        while now() - self._heard_at < DEAF_SECONDS:
            some = list(islice(self._reached.items(), _MOST_FEEDS))
            wake, self._wake = self._wake, 0
            for feed, _ in some:
                del self._reached[feed]
            message = orjson.dumps([self._origin, wake, some]).decode()
            async with asyncio.timeout(_LIMIT_SECONDS):
                await broadcast.publish(channel=_CHANNEL, message=message)
            await asyncio.sleep(_PAUSE_SECONDS)
            if not self._reached and not self._wake:
                self._pending.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_SECONDS):
                        await self._pending.wait()
        raise ConnectionError(f"its own beat was not heard for {DEAF_SECONDS:g} s")

    async def _receive(self, get: Callable[[], Any], again: bool) -> None:
        while True:
            event = await get()
            origin, wake, reached = orjson.loads(event.message)
            if origin == self._origin:
                self._heard_at = asyncio.get_running_loop().time()
                if not self.connected:
                    self._ready.set()
                    if again:
                        log.info("bus connected again")
                        self._miss()
            elif reached or wake:
                self._hear(dict(reached), wake)


def _listeners(broadcast: Broadcast) -> set[asyncio.Task[Any]]:
    """The tasks that receive: broadcaster's own, and the one that its Redis backend has beside it."""
    found = {getattr(broadcast, "_listener_task", None), getattr(broadcast._backend, "_listener", None)}
    return {task for task in found if isinstance(task, asyncio.Task)}


def _let_listen(broadcast: Broadcast) -> None:
    """Start its Redis backend's listener again, which stops when it is faster than the subscription it is for."""
    ready = getattr(broadcast._backend, "_ready", None)
    if isinstance(ready, asyncio.Event):
        ready.set()


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Wait for the end of what is not to be left half done, also where the waiting is cancelled."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _disconnect(broadcast: Broadcast, subscription: Any) -> None:
    """Let go of a connection that may be dead; broadcaster's own way raises what its listener died of."""
    listeners = _listeners(broadcast)
    for task in listeners:
        task.cancel()
    for part in (
        asyncio.gather(*listeners, return_exceptions=True),
        subscription.__aexit__(None, None, None),
        broadcast._backend.disconnect(),
    ):
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                await part
        except Exception as error:
            # It is given up in any case.
            log.debug("bus not disconnected", error=repr(error), exc_info=error)
