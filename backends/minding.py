"""Minding attempts: from launch to removal, what a backend says of each becomes what the database holds.

One `Minder` a launched attempt. Output is stored before the end is, the end with the outputs' files, and
only then is the backend asked to forget it; every step can be repeated after a crash. What another
supervisor has taken over is dropped: the guarded writes change nothing. wishes.py has what is asked of it meanwhile.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from backends import base, gathering, leftovers, pacing, printed, specs, turning
from backends.base import BackendUnavailable, Crowded, Handle, LaunchRejected
from backends.clocks import Clock
from backends.errands import Ongoing
from backends.seldom import Seldom
from backends.sources import SourceInvalid
from backends.surroundings import Surroundings
from backends.turning import Turn
from backends.wishes import Wishes
from db import attempts, columns, ends, lines, outputs, reports
from db.attempts import Attempt
from db.claims import Launch
from db.database import Transaction
from db.ends import End, Ended
from db.outputs import Printed
from db.points import Column
from db.reports import Launched, Started
from db.states import EndReason

log = structlog.get_logger(__name__)

_MOST_USED = 1_000
"""Looks at a worker's usage that wait to be stored."""
_FREE_BYTES = 8 << 20
"""Of output that is stored, between two times that the backend may free it."""


class Minder:
    """Minds one attempt."""

    def __init__(
        self, around: Surroundings, launch: Launch, telling: Ongoing, adopted: Attempt | None = None
    ) -> None:
        self.launch = launch
        self.handle: Handle | None = adopted.handle if adopted else None
        self.clock = Clock(launch.timeout_seconds, adopted.started_at if adopted else None)
        self._wishes = Wishes(around, launch.name, adopted=bool(self.handle))
        self._telling = telling
        self._waits = False
        """Whether its launch was put off for want of room."""
        self._seldom = Seldom()
        self._around = around
        self._offsets: dict[int, int] = {}
        self._freed: dict[int, int] = {}
        self._used: dict[int, deque[base.Piece]] = {}
        self._ended: base.Ended | None = None
        self._recorded = False
        self._ours = False
        """Whether its end is known to be recorded in our name."""
        self._news = asyncio.Event()
        self._pace = pacing.stores()
        self._mask = around.vault.mask(launch.grant)

    async def run(self) -> None:
        """Launch if need be, then store what the attempt prints, and at last how it ended.

        Whatever it raises, it may be called again, and goes on where it was.
        """
        while self.handle is None:
            await (self._withdraw() if self._wishes.unwanted.is_set() else self._launch())
        while not self._recorded:
            if self._ended is None and (early := self._pace.wait(time.monotonic())):
                await asyncio.sleep(early)
            self._news.clear()
            ended = self._ended
            for rank in range(self.launch.workers):
                await self._drain(rank)
            if ended is not None:
                await self._record_end(ended)
            else:
                await self._news.wait()
        launch = self.launch
        await forget(self._around, launch.attempt_id, launch.feed_id, self.handle, ours=self._ours)

    def hear(self) -> None:
        """There may be output."""
        self._news.set()

    def use(self, observation: base.Used) -> None:
        """A worker was looked at: it is stored with what it prints next, or soon."""
        self._used.setdefault(observation.rank, deque(maxlen=_MOST_USED)).append(observation.piece)
        self._news.set()

    def end(self, observation: base.Ended) -> None:
        """The backend says that it is over."""
        self._ended = observation
        self.clock.struck = True
        self._wishes.end()
        self._news.set()

    async def start(self, observation: base.WorkerStarted) -> None:
        """The backend says that a worker's process exists."""
        at = columns.moment(observation.at_us)
        launch = self.launch
        started = Started(
            launch.attempt_id, launch.feed_id, observation.rank, observation.node, observation.address, at
        )
        await self._around.recorder.report(launch.feed_id, reports.started, started)

    async def wait(self, observation: base.Waiting) -> None:
        """The backend says what keeps it from starting."""
        await self._around.recorder.record(
            self.launch.feed_id,
            lambda session: reports.waiting(
                session,
                self._around.supervisor,
                self.launch.attempt_id,
                self.launch.feed_id,
                observation.words,
            ),
        )

    def wish(self, attempt: Attempt) -> None:
        """It is to be as the database says; its backend is told meanwhile. A repeat does no harm."""
        self.clock.suspended_at = attempt.suspended_at
        self.clock.suspended_seconds = attempt.suspended_seconds
        self._wishes.stand(still=attempt.suspended_at is not None)
        if attempt.stop_reason is not None:
            self._wishes.stop(attempt.stop_grace_seconds or 0.0)
        self._tell()

    def stop(self, grace_seconds: float) -> None:
        """It is to end; its backend is told meanwhile."""
        self._wishes.stop(grace_seconds)
        self._tell()

    def _tell(self) -> None:
        if self.handle and self._wishes.are_open:
            self._telling.begin(self.launch.attempt_id, partial(self._wishes.tell, self.handle))

    async def _launch(self) -> None:
        around = self._around
        await around.turns.steps.turn()
        try:
            spec = specs.of(self.launch, around)
            if not await self._have_source():
                return
            await around.tenure.sure()
            handle = await around.adapter.launch(spec)
        except LaunchRejected as error:
            self._never(error.end, error.reason)
            return
        except Crowded as error:
            await self.wait(base.Waiting(self.launch.name, str(error)))
            self._waits = True
            await self._rest(error.retry_in_seconds)
            return
        except BackendUnavailable as error:
            await self._put_off(error, "not launched yet")
            return
        launched = Launched(self.launch.attempt_id, handle)
        await around.recorder.report(self.launch.feed_id, reports.launched, launched)
        # Not before it is recorded: the next supervisor must find whatever we store or leave behind.
        self.handle = handle
        self._offsets = dict.fromkeys(range(self.launch.workers), 0)
        self._tell()
        if self._waits:
            await self.wait(base.Waiting(self.launch.name, None))

    async def _withdraw(self) -> None:
        """End what is not wanted any more before anybody knows that it was launched, once nothing of it is there.

        It may be: of a launch whose answer was lost, with a connection or with the supervisor before us.
        """
        adapter = self._around.adapter
        await self._around.tenure.sure()
        try:
            for handle in await adapter.held():
                if handle["name"] == self.launch.name:
                    await adapter.remove(handle)
        except BackendUnavailable as error:
            await self._put_off(error, "not known yet whether it was launched")
            return
        self._never(base.EndReason.LOST, "stopped before it was launched")

    def _never(self, reason: base.EndReason, why: str) -> None:
        """There is nothing of it on the backend."""
        self.handle = {}
        self.end(base.Ended(self.launch.name, reason, None, {}, why, columns.microseconds(columns.now())))

    async def _put_off(self, error: BackendUnavailable, what: str) -> None:
        """Try again later, or as soon as it is not wanted any more."""
        self._around.away(error)
        if self._seldom.is_due():
            log.warning(what, attempt=self.launch.name, error=str(error))
        if self._wishes.unwanted.is_set():
            await asyncio.sleep(error.retry_in_seconds)
        else:
            await self._rest(error.retry_in_seconds)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless it is not wanted any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wishes.unwanted.wait()

    async def _have_source(self) -> bool:
        """Have its module on this host; False where it is not wanted any more before it is there."""
        if (self._around.store / self.launch.digest).is_dir():
            return True
        fetching = asyncio.ensure_future(self._around.restorer.ensure(self.launch.digest))
        unwanted = asyncio.ensure_future(self._wishes.unwanted.wait())
        try:
            await asyncio.wait({fetching, unwanted}, return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                fetching.result()
            return fetching.done()
        except SourceInvalid as error:
            raise LaunchRejected(str(error)) from error
        finally:
            fetching.cancel()
            unwanted.cancel()

    async def _drain(self, rank: int) -> None:
        """Store all that a worker has printed so far."""
        turns = self._around.turns
        more: int | None = turning.LIGHT
        while more is not None and self.handle:
            async with turns.turn(more) as turn:
                more = await self._store(rank, turn)

    async def _store(self, rank: int, turn: Turn) -> int | None:
        """Store the next of what a worker has printed; how much that was, None when there was nothing."""
        around = self._around
        assert self.handle is not None
        await around.turns.steps.turn()
        was = await self._offset(rank)
        try:
            output = await around.adapter.read(self.handle, rank, was, around.turns.most_bytes)
        except BackendUnavailable as error:
            around.away(error)
            await asyncio.sleep(error.retry_in_seconds)
            return turning.LIGHT
        size = output.next_offset - was
        pieces = (*output.pieces, *self._used.pop(rank, ()))
        if not pieces:
            return None
        if size < turning.LIGHT_BYTES:
            points, chunks = self._told(pieces)
        else:
            points, chunks = await asyncio.to_thread(self._told, pieces)
        reached = output.next_offset
        if points or size >= turning.LIGHT_BYTES:
            stored = await self._write(rank, was, reached, chunks, points, turn)
        else:
            told = Printed(
                self.launch.attempt_id, self.launch.feed_id, rank, was, reached, chunks, around.log_limit
            )
            stored = await around.recorder.report(told.feed_id, outputs.printed, told, size=size)
        turn.size = size
        self._pace.spend(time.monotonic())
        if stored:
            self._offsets[rank] = reached
            await self._free(rank)
            return size
        # Stored before, by a commit whose answer was lost; or somebody else minds it by now.
        del self._offsets[rank]
        return None if await self._offset(rank) == was else size

    async def _write(
        self,
        rank: int,
        was: int,
        reached: int,
        chunks: list[lines.Packed],
        points: list[list[Column]],
        turn: Turn,
    ) -> bool:
        """Store much, or what has points, and learn how long that holds the loop."""
        around, size = self._around, reached - was

        async def write(session: Transaction) -> bool:
            began = time.thread_time()
            stored = await outputs.record(
                session,
                around.supervisor,
                self.launch.attempt_id,
                self.launch.feed_id,
                rank,
                was=was,
                reached=reached,
                chunks=chunks,
                points=points,
                limit=around.log_limit,
            )
            turn.held_seconds = time.thread_time() - began
            return stored

        stored = await around.recorder.record(self.launch.feed_id, write, size=size)
        around.turns.judge(size, turn.held_seconds)
        return stored

    def _told(self, pieces: Sequence[base.Piece]) -> tuple[list[list[Column]], list[lines.Packed]]:
        """What was printed, told apart: points and packed lines."""
        told = printed.parse(self._mask(pieces))
        return told.points, lines.pack(told.blocks)

    async def _free(self, rank: int) -> None:
        """Now and then, let the backend free what has been stored."""
        stored, freed = self._offsets[rank], self._freed.get(rank, 0)
        if stored - freed >= _FREE_BYTES and self.handle:
            self._freed[rank] = stored
            await self._around.adapter.stored(self.handle, rank, stored)

    async def _offset(self, rank: int) -> int:
        """How far a worker's output has been stored."""
        if rank not in self._offsets:
            async with self._around.database.read() as session:
                self._offsets[rank] = await outputs.offset(session, self.launch.attempt_id, rank)
        return self._offsets[rank]

    async def _record_end(self, observation: base.Ended) -> None:
        around = self._around
        if lost := await self._send_leftovers():
            said = f"{observation.message}; {lost}" if observation.message else lost
            observation = replace(observation, message=said)
        end = await self._end(observation)
        ended = Ended(self.launch.attempt_id, self.launch.feed_id, end)
        self._ours = await around.recorder.report(self.launch.feed_id, ends.ended, ended)
        self._recorded = True

    async def _send_leftovers(self) -> str | None:
        """Send what its processes could not, where they could send at all; what of it is lost, in words."""
        told, around = self._around.environment(self.launch), self._around
        if not self.handle or "RUNGRAPH_TOKEN" not in told:
            return None
        spool, url = await around.adapter.spool(self.handle), around.own_url or told["RUNGRAPH_URL"]
        return await leftovers.send(self.launch.name, spool, around.client, url, told["RUNGRAPH_TOKEN"])

    async def _end(self, observation: base.Ended) -> End:
        """How it ended, with its outputs kept, or why they cannot be taken."""
        end = End(
            reason=EndReason(observation.reason.value),
            exit_code=observation.exit_code,
            exit_codes=observation.exit_codes,
            message=observation.message,
            at=columns.moment(observation.at_us),
        )
        if end.reason is not EndReason.COMPLETED:
            return end
        assert self.handle is not None
        folder = await self._around.adapter.outputs(self.handle)
        gathered = await gathering.gather(
            folder, self._around.blobs, self.launch.function, self.launch.inputs
        )
        if gathered.refusal is not None:
            return End(EndReason.BAD_OUTPUT, end.exit_code, end.exit_codes, gathered.refusal, end.at)
        return End(
            end.reason,
            end.exit_code,
            end.exit_codes,
            end.message,
            end.at,
            gathered.made,
            gathered.document,
        )


async def forget(
    around: Surroundings, attempt_id: bytes, feed_id: int, handle: Handle | None, *, ours: bool = False
) -> None:
    """Have the backend let go of an ended attempt, and record that it has; not of somebody else's.

    `ours` says that it is known to be nobody else's.
    """
    await around.turns.steps.turn()
    if not ours:
        async with around.database.read() as session:
            lease = around.supervisor
            if not await attempts.is_over(session, attempt_id, lease.id, lease.epoch):
                return
    if handle:
        await around.tenure.sure()
        await around.adapter.remove(handle)
    await around.recorder.report(feed_id, attempts.mark_removed, attempt_id)
