"""Hints between processes: "feed X has reached N" and "there is work", nothing else.

The database is the truth; whoever hears a hint reads from there, so a lost one costs the listener's next
slow poll and no data. broadcaster carries them on one channel with one subscription a process. It loses
messages to concurrent first subscribers and hangs silently when its listener dies, hence one subscriber,
its listener watched, and a new connection with jitter when it ends.
"""

import asyncio
import random
from collections.abc import Callable, Mapping

import orjson
import structlog
from broadcaster import Broadcast

log = structlog.get_logger(__name__)

Listener = Callable[[Mapping[int, int], bool], None]
"""Called with the sequence numbers that feeds have reached, and whether there is work for a supervisor."""

_CHANNEL = "rungraph"
_RETRY_SECONDS = (0.2, 2.0)


class Bus:
    """One process's ear and mouth."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._listeners: list[Listener] = []
        self._reached: dict[int, int] = {}
        self._wake = False
        self._pending = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to carry hints; returns once connected, or after a moment when the other side is away."""
        self._task = asyncio.create_task(self._run(), name="bus")
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait({waiting}, timeout=2)
        waiting.cancel()

    async def close(self) -> None:
        """Stop carrying hints."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every hint, also those of this process; returns how to stop it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def publish(self, reached: Mapping[int, int], *, wake: bool = False) -> None:
        """Tell everyone, soon; hints that have not left yet are folded together."""
        for feed, seq in reached.items():
            self._reached[feed] = max(seq, self._reached.get(feed, 0))
        self._wake = self._wake or wake
        if self._reached or self._wake:
            self._pending.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._connected()
            except (OSError, ConnectionError, RuntimeError, asyncio.IncompleteReadError) as error:
                log.warning("bus lost", error=repr(error))
            except Exception as error:
                # Drivers have error classes of their own, and broadcaster passes them on as they are.
                log.warning("bus lost", error=repr(error), exc_info=True)
            self._ready.clear()
            await asyncio.sleep(random.uniform(*_RETRY_SECONDS))

    async def _connected(self) -> None:
        broadcast = Broadcast(self._url)
        await broadcast.connect()
        try:
            async with broadcast.subscribe(_CHANNEL) as subscriber:
                self._ready.set()
                receiving = asyncio.create_task(self._receive(subscriber.get))
                sending = asyncio.create_task(self._send(broadcast))
                ends = {receiving, sending, broadcast._listener_task}
                try:
                    done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    receiving.cancel()
                    sending.cancel()
                    await asyncio.wait({receiving, sending})
                for task in done:
                    if not task.cancelled():
                        task.result()
        finally:
            if broadcast._listener_task.done():
                # disconnect() would raise what ended its listener, and leave the connection open.
                await broadcast._backend.disconnect()
            else:
                await broadcast.disconnect()

    async def _send(self, broadcast: Broadcast) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            reached, self._reached = self._reached, {}
            wake, self._wake = self._wake, False
            message = orjson.dumps([wake, list(reached.items())]).decode()
            await broadcast.publish(channel=_CHANNEL, message=message)

    async def _receive(self, get: Callable[[], object]) -> None:
        while True:
            event = await get()  # type: ignore[misc]
            wake, reached = orjson.loads(event.message)
            hints = dict(reached)
            for listener in tuple(self._listeners):
                listener(hints, wake)
