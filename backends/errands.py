"""Errands: work of the server's whose intent lies in the database, looked for on every hint that concerns it.

Should a hint be lost, a slow poll finds it. What a step does can be repeated, so that it is simply begun again
after whatever went wrong: a crash, or a database that was away. Errands that take long go on by themselves
(Ongoing), so that a step only begins them. All of them go behind whoever is being answered (precedence.py).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping

import structlog

from backends.precedence import behind
from backends.seldom import Seldom
from db.bus import Wake
from db.database import Database

log = structlog.get_logger(__name__)

POLL_SECONDS = 10.0
"""How late work is found whose hint was lost."""
_AGAIN_SECONDS = 1.0


class Errands:
    """Calls `step` whenever there may be something to do: on hints to `least`, or to more.

    A step answers in how many seconds it wants to be called again, which no hint would tell; None for a poll.
    """

    def __init__(
        self,
        database: Database,
        step: Callable[[], Awaitable[float | None]],
        *,
        poll_seconds: float = POLL_SECONDS,
        least: Wake = Wake.EVERYBODY,
    ) -> None:
        self._database = database
        self._step = step
        self._least = least
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self._heard = Wake.NOBODY
        self.whom = Wake.EVERYBODY
        """Whom the hint was for that a step follows; everybody, where it is a poll's turn."""
        self._silence: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin, with what a former server left undone."""
        self._silence = self._database.bus.listen(self._hear)
        with behind():
            self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """Stop, if it was begun; what was not finished is begun again next time."""
        if self._silence is not None:
            self._silence()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def _name(self) -> str:
        return getattr(self._step, "__qualname__", repr(self._step))

    def _hear(self, _reached: Mapping[int, int], wake: Wake) -> None:
        if wake >= self._least:
            self._heard = max(self._heard, wake)
            self._woken.set()

    async def _run(self) -> None:
        seldom, before = Seldom(), ""
        while True:
            self.whom = self._heard or Wake.EVERYBODY
            self._heard = Wake.NOBODY
            self._woken.clear()
            try:
                wanted = await self._step()
            except Exception as error:
                # Nothing is lost: the intent is in the database.
                if seldom.is_due() or repr(error) != before:
                    log.error("it will be tried again", work=self._name, error=repr(error), exc_info=error)
                before = repr(error)
                await asyncio.sleep(_AGAIN_SECONDS)
                self._heard = max(self._heard, self.whom)
                continue
            before = ""
            seconds = self._poll_seconds if wanted is None else min(wanted, self._poll_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()


class Ongoing:
    """Errands that go on, each known by the key of what it is for, and never twice at once.

    What fails is logged and left: it is found undone by the next step.
    """

    def __init__(self) -> None:
        self._tasks: dict[bytes, asyncio.Task[None]] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def begin(self, key: bytes, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin, unless it goes on already."""
        if (before := self._tasks.get(key)) is not None and not before.done():
            return
        task = asyncio.create_task(work())
        self._tasks[key] = task
        task.add_done_callback(lambda task: self._ended(key, task))

    def keep(self, keys: Collection[bytes]) -> None:
        """Break off all others, and wait for none: a thread of theirs may take its time."""
        for key, task in self._tasks.items():
            if key not in keys:
                task.cancel()

    async def end(self, key: bytes) -> None:
        """Break off, if it goes on."""
        if task := self._tasks.get(key):
            task.cancel()
            await asyncio.wait({task})

    async def close(self) -> None:
        """Break off everything; what was not finished is begun again next time."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _ended(self, key: bytes, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled() and (error := task.exception()):
            log.error("it will be tried again", work=key.hex(), error=repr(error), exc_info=error)
