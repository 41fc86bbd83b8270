"""A term: from taking a backend's lease to losing it, one supervisor claims, launches, watches, stops and adopts.

A request records intent; the supervisor acts on it. It wakes on a hint or, should one be lost, on a slow
poll. Nothing it holds in memory matters: after a crash, the next one takes the lease (which raises the
epoch, so that a former one's reports count no more), adopts every attempt its backend still holds, and
goes on. supervisor.py decides when a term begins and ends; minding.py has the life of one attempt.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ParamSpec

import structlog

from backends import base, orphans
from backends.answering import Answering
from backends.clocks import Deadlines
from backends.errands import Errands, Ongoing
from backends.minding import Minder, forget
from backends.preparing import Preparer
from backends.seldom import Seldom
from backends.surroundings import Surroundings
from backends.tenure import Lost
from db import attempts, claims, columns, queues, reports
from db.attempts import Attempt
from db.bus import Wake
from db.claims import Launch

P = ParamSpec("P")

log = structlog.get_logger(__name__)

_TIMEOUT_GRACE_SECONDS = 10.0
_AGAIN_SECONDS = 1.0
"""Between two tries of what failed."""
_CLAIMS = 32
"""Jobs that are claimed at once: others have the event loop, and the database's writer, in between."""
_ENOUGH, _GATHER_SECONDS = 4, 0.05
"""While so many that were claimed wait to be launched, what becomes ready is let come together for a while: a claim of
one job takes little less than one of ten."""
_PATIENCE = 20
"""For so many whiles those that cannot be launched yet, as an image is fetched, keep others from being claimed."""


class Term:
    """Supervises one backend while its lease is held."""

    def __init__(
        self,
        around: Surroundings,
        backend_id: bytes,
        host: str,
        preparer: Preparer,
        answering: Answering,
        poll_seconds: float,
    ) -> None:
        self.tenure = around.tenure
        self._around = around
        self._backend_id = backend_id
        self._host = host
        self._preparer = preparer
        self._answering = answering
        self._poll_seconds = poll_seconds
        self._errands = Errands(around.database, self._step, poll_seconds=poll_seconds, least=Wake.CLAIMS)
        self._looks_at = 0.0
        """When it looks at everything again, however often it is told that there is room for more."""
        self._minders: dict[str, Minder] = {}
        self._telling = Ongoing()
        self._deadlines = Deadlines()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, held: Sequence[Attempt]) -> None:
        """Adopt what the backend still holds, and begin."""
        self._spawn(self._around.recorder.run())
        known = await self._adopt(held)
        self._spawn(self._watch(known))
        self._spawn(self._sweep())
        await _insist(self._answering.begin)
        self._spawn(_insist(self._answering.run))
        self._spawn(_insist(self._deadlines.watch, self._minders.values, self._time_out))
        self._errands.open()

    async def close(self) -> None:
        """Stop supervising, however far `open` has come; everything launched goes on."""
        await self._errands.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._telling.close()
        await self._preparer.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("supervision of something failed", error=repr(error), exc_info=error)

    async def _adopt(self, held: Sequence[Attempt]) -> list[base.Handle]:
        """Mind what has not ended, and let the backend forget what has; returns what is to be watched."""
        alive = [attempt for attempt in held if attempt.ended_at is None]
        async with self._around.database.read() as session:
            described = {row.attempt_id: row for row in await claims.describe(session, [a.id for a in alive])}
        for attempt in held:
            if attempt.ended_at is not None:
                self._spawn(_insist(forget, self._around, attempt.id, attempt.feed_id, attempt.handle))
        for attempt in alive:
            self._mind(described[attempt.id], attempt)
        return [attempt.handle for attempt in alive if attempt.handle is not None]

    def _mind(self, launch: Launch, adopted: Attempt | None = None) -> None:
        minder = Minder(self._around, launch, self._telling, adopted)
        self._minders[launch.name] = minder
        if adopted is not None:
            self._wish(minder, adopted)
        self._spawn(self._run(minder))

    def _wish(self, minder: Minder, attempt: Attempt) -> None:
        minder.wish(attempt)
        self._deadlines.heed(minder.clock)

    async def _run(self, minder: Minder) -> None:
        await _insist(minder.run)
        del self._minders[minder.launch.name]

    async def _watch(self, known: Sequence[base.Handle]) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._around.adapter.watch(known)) as observations:
                    async for observation in observations:
                        self._observe(observation)
            except base.BackendUnavailable as error:
                self._answering.away(error)
                await asyncio.sleep(error.retry_in_seconds)
            except Exception as error:
                # Without anyone who watches, no job would ever end.
                log.error("watching is begun again after", error=repr(error), exc_info=error)
                await asyncio.sleep(_AGAIN_SECONDS)
            known = [minder.handle for minder in self._minders.values() if minder.handle]

    def _observe(self, observation: base.Observation) -> None:
        minder = self._minders.get(observation.name)
        if minder is None:
            return
        match observation:
            case base.HasOutput():
                minder.hear()
            case base.Used():
                minder.use(observation)
            case base.WorkerStarted():
                minder.clock.started_at = columns.moment(observation.at_us)
                self._deadlines.heed(minder.clock)
                self._spawn(_insist(minder.start, observation))
                minder.hear()
            case base.Waiting():
                self._spawn(_insist(minder.wait, observation))
            case base.Ended():
                minder.end(observation)
            case base.Missing(name=name):
                words = "the backend knows nothing of it any more"
                now = columns.microseconds(columns.now())
                minder.end(base.Ended(name, base.EndReason.LOST, None, {}, words, now))

    async def _sweep(self) -> None:
        """Now and then, remove what is nobody's."""
        around = self._around
        while True:
            await _insist(orphans.remove, around.database, around.adapter)
            await asyncio.sleep(orphans.EVERY_SECONDS)

    async def _step(self) -> float | None:
        """Do what is to be done; answers when next, as no hint announces that a retry is due."""
        now = asyncio.get_running_loop().time
        if self._errands.whom is Wake.CLAIMS and now() < self._looks_at:
            await self._claim()
        else:
            await self._preparer.step()
            await self._claim()
            due = await self._hold()
            self._looks_at = now() + (self._poll_seconds if due is None else min(due, self._poll_seconds))
        return max(0.0, self._looks_at - now())

    async def _claim(self) -> None:
        if self._unlaunched() >= _ENOUGH:
            await asyncio.sleep(_GATHER_SECONDS)
        while True:
            await self._let_launch()
            async with self._around.database.begin(aside=True) as session:
                supervisor = self._around.supervisor
                claimed = await claims.claim(session, supervisor, self._backend_id, self._host, most=_CLAIMS)
            if not claimed:
                return
            await asyncio.sleep(0)
            async with self._around.database.read() as session:
                launches = await claims.describe(session, claimed)
            for launch in launches:
                self._mind(launch)
            if len(claimed) < _CLAIMS // 2:  # nothing more fits
                return
            await asyncio.sleep(0)

    def _unlaunched(self) -> int:
        return sum(minder.handle is None for minder in self._minders.values())

    async def _let_launch(self) -> None:
        """Leave jobs in the queue, where whoever cancels them is obeyed at once, while launches take their time."""
        for _ in range(_PATIENCE):
            if self._unlaunched() < _CLAIMS:
                return
            await asyncio.sleep(_GATHER_SECONDS)

    async def _hold(self) -> float | None:
        """Mind what was claimed though we were not told, and what is to be stopped, or to stand still.

        Answers in how many seconds a job is due to be tried again.
        """
        minded = {minder.launch.attempt_id: minder for minder in self._minders.values()}
        async with self._around.database.read() as session:
            held = await attempts.held(session, self._around.supervisor.id, self._around.supervisor.epoch)
            # A claim was committed and its answer lost: launching is harmless, for it adopts.
            lost = {attempt.id: attempt for attempt in held if attempt.id not in minded}
            launches = await claims.describe(session, lost)
            due = await queues.next_due(session, self._backend_id, columns.now())
        for launch in launches:
            self._mind(launch, lost[launch.attempt_id])
        for attempt in held:
            if attempt.id in minded:
                self._wish(minded[attempt.id], attempt)
        return None if due is None else max(0.0, (due - columns.now()).total_seconds())

    async def _time_out(self, minder: Minder) -> None:
        """Stop what has taken too long, unless it is stopped already."""
        launch = minder.launch
        async with self._around.tenure.writing(self._around.database) as session:
            asked = await reports.time_out(
                session,
                self._around.supervisor,
                launch.attempt_id,
                launch.feed_id,
                _TIMEOUT_GRACE_SECONDS,
            )
        minder.clock.struck = True
        if asked:
            minder.stop(_TIMEOUT_GRACE_SECONDS)


async def _insist(work: Callable[P, Awaitable[None]], *arguments: P.args, **named: P.kwargs) -> None:
    """Do what can be repeated until it is done: a bug, a full disk or a database away must lose no job."""
    name, seldom, before = getattr(work, "__qualname__", repr(work)), Seldom(), ""
    while True:
        wait = _AGAIN_SECONDS
        try:
            return await work(*arguments, **named)
        except Lost:
            return None
        except base.BackendUnavailable as error:
            wait = error.retry_in_seconds
            if seldom.is_due():
                log.warning("it will be tried again", work=name, error=str(error))
        except Exception as error:
            if seldom.is_due() or repr(error) != before:
                log.error("it will be tried again", work=name, error=repr(error), exc_info=error)
            before = repr(error)
        await asyncio.sleep(wait)
