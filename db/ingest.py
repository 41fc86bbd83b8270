"""Group commit: batches of many callers in one transaction, each answered once it is committed.

A commit costs as much for one batch as for fifty. So callers queue up, and one task of the process takes all that
wait, adds them (reporting.add) and commits; meanwhile the next ones queue. One that is refused fails no other. When a
transaction fails, its callers are tried again, those of each job by themselves: a batch that was committed after all
is known by its number. Who is cancelled while waiting has not asked; in a commit, it is only not told.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from db import errors, reporting
from db.database import Database, is_lost, is_undone
from db.reporting import Added, Batch

log = structlog.get_logger(__name__)

_GATHER_SECONDS = 0.002
_QUIET_TURNS = 2
"""A request takes the loop two turns from its arrival to the queue here."""
MOST_CALLERS = 256
MOST_POINTS = 200_000
"""In one transaction, unless a single batch has more: nobody waits long for one."""


@dataclass(frozen=True, slots=True)
class _Call:
    batch: Batch
    points: int
    answer: "asyncio.Future[Added]"


class Ingest:
    """The one way in for reported metrics of a process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Call] = deque()
        self._task: asyncio.Task[None] | None = None
        self._together = 0

    async def add(self, batch: Batch) -> Added:
        """Add a batch to a running job; returns once it is committed.

        Raises NotFound, Forbidden, Invalid, or Conflict for a job that is not running.
        """
        reporting.require_sound(batch)
        points = sum(len(column.values) for column in batch.given)
        call = _Call(batch, points, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="ingest")
        return await call.answer

    async def close(self) -> None:
        """Wait until everybody is answered."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                await self._commit()
        finally:
            self._task = None
            for call in self._waiting:  # when the loop ends
                call.answer.cancel()
            self._waiting.clear()

    async def _gather(self) -> None:
        """Where several have come together lately, let those come whose requests have arrived."""
        if max(self._together, len(self._waiting)) < 2:
            return
        now = asyncio.get_running_loop().time
        until, quiet = now() + _GATHER_SECONDS, 0
        while quiet < _QUIET_TURNS and len(self._waiting) < MOST_CALLERS and now() < until:
            before = len(self._waiting)
            await asyncio.sleep(0)
            quiet = 0 if len(self._waiting) > before else quiet + 1

    async def _commit(self) -> None:
        calls: list[_Call] = []
        try:
            async with self._database.begin(aside=True) as session:
                calls = self._take()  # those too that came while others held the database
                self._together = len(calls)
                answers = await reporting.add(session, [call.batch for call in calls])
            _tell(calls, answers)
        except errors.DomainError as error:
            calls = calls or self._take()
            _tell(calls, [error] * len(calls))
        except Exception as error:  # noqa: BLE001 - whatever it is, its callers hear of it
            calls = calls or self._take()
            log.warning("metrics not committed", error=repr(error), batches=len(calls))
            await self._again(calls)
        finally:
            for call in calls:
                call.answer.cancel()  # when the loop ends; who has an answer keeps it

    async def _again(self, calls: Sequence[_Call]) -> None:
        """Add the batches of each job by themselves, after a failure together."""
        of_jobs: dict[bytes, list[_Call]] = {}
        for call in calls:
            of_jobs.setdefault(call.batch.job_id, []).append(call)
        for group in of_jobs.values():
            try:
                async with self._database.begin(aside=True) as session:
                    answers = await reporting.add(session, [call.batch for call in group])
            except Exception as error:  # noqa: BLE001 - as above
                _tell(group, [_told(error)] * len(group))
            else:
                _tell(group, answers)

    def _take(self) -> list[_Call]:
        """The callers of the next transaction, first come first served."""
        taken: list[_Call] = []
        points = 0
        while self._waiting and len(taken) < MOST_CALLERS:
            call = self._waiting[0]
            if taken and points + call.points > MOST_POINTS:
                break
            self._waiting.popleft()
            if not call.answer.done():
                taken.append(call)
                points += call.points
        return taken


def _told(error: Exception) -> Exception:
    """What a caller hears of a failure: to send a batch again is harmless, so that may be said."""
    if is_lost(error) or is_undone(error):
        return errors.Unavailable("the database was away; send the same batch again")
    return error


def _tell(calls: Sequence[_Call], answers: Sequence[Added | Exception]) -> None:
    for call, answer in zip(calls, answers, strict=True):
        if call.answer.done():
            continue
        if isinstance(answer, Added):
            call.answer.set_result(answer)
        else:
            call.answer.set_exception(answer)
