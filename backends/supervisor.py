"""The supervisor: claims ready jobs, has them launched, watched and stopped, and adopts what it finds.

A request records intent; the supervisor acts on it. It wakes on a hint or, should one be lost, on a slow
poll. Nothing it holds in memory matters: after a crash, the next one takes the lease (which raises the
epoch, so that a former one's reports count no more), adopts every attempt its backend still holds, and
goes on. One host's backends, one supervisor; minding.py has the life of one attempt.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec

import structlog

from backends import base, fetching
from backends.base import Backend
from backends.blobs import Blobs
from backends.errands import Errands
from backends.installing import Installer
from backends.minding import Minder, Surroundings, forget
from backends.recorder import Recorder
from backends.turning import Turns
from backends.vault import Vault
from db import attempts, backends, claims, columns, logs, reports
from db.attempts import Attempt
from db.backends import Supervisor as Lease
from db.claims import Launch
from db.database import Database

P = ParamSpec("P")

log = structlog.get_logger(__name__)

_POLL_SECONDS = 2.0
"""How late work is found whose hint was lost."""
_RENEW_SECONDS = 5.0
_TIMEOUT_GRACE_SECONDS = 10.0
_AGAIN_SECONDS = 1.0
"""Between two tries of what failed."""
_MOST_LATE_SECONDS = 0.5
"""How late a timeout is found while something runs."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A backend as configured: its name, its adapter, and what it can hold (see db/backends.py).

    Without `gpus` it has those that its adapter finds.
    """

    name: str
    kind: str
    adapter: Backend
    slots: int
    cpus: float
    memory_bytes: int
    gpus: int | None
    log_limit: logs.Limit = field(default_factory=logs.Limit)


class Supervisor:
    """Supervises one backend of one host."""

    def __init__(
        self,
        database: Database,
        configuration: Configuration,
        *,
        host: str,
        blobs: Blobs,
        store: Path,
        environment: Callable[[Launch], dict[str, str]],
        vault: Vault | None = None,
        client: Path | None = None,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._adapter = configuration.adapter
        self._host = host
        self._blobs = blobs
        self._store = store
        self._environment = environment
        self._vault = vault or Vault()
        self._client = client
        self._errands = Errands(database, self._step, poll_seconds=poll_seconds)
        self._recorder = Recorder(database)
        self._minders: dict[str, Minder] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take the lease, adopt what is running, and begin."""
        await asyncio.to_thread(fetching.recover, self._store)
        await self._adapter.open()
        async with self._database.begin() as session:
            self._lease: Lease = await backends.take_lease(session, self._host)
            row = await backends.configure(session, self._lease, self._values())
            self._backend_id = row.id
            held = await attempts.adopt(session, row.id, self._host, self._lease.id, self._lease.epoch)
        self._around = Surroundings(
            self._database,
            self._recorder,
            self._adapter,
            self._blobs,
            self._store,
            self._lease,
            self._environment,
            Turns(),
            self._configuration.log_limit,
            self._vault,
            self._client,
        )
        self._installer = Installer(
            self._database, self._store, self._blobs, self._adapter, self._backend_id, self._host
        )
        self._spawn(self._recorder.run())
        known = await self._adopt(held)
        self._spawn(self._watch(known))
        self._errands.open()
        self._spawn(self._renew())
        self._spawn(self._sweep())

    async def close(self) -> None:
        """Stop supervising; everything launched goes on."""
        await self._errands.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._installer.close()
        await self._adapter.close()

    def _values(self) -> dict[str, Any]:
        made, devices = self._configuration, self._adapter.capabilities.devices
        return {
            "name": made.name,
            "kind": made.kind,
            "scope": backends.Scope(self._adapter.capabilities.scope.value),
            "config": {},
            "enforced": self._enforced(),
            "devices": [dataclasses.asdict(device) for device in devices],
            "slots": made.slots,
            "cpus": made.cpus,
            "memory_bytes": made.memory_bytes,
            "gpus": len(devices) if made.gpus is None else made.gpus,
        }

    def _enforced(self) -> dict[str, Any]:
        names = ("memory", "cpus", "suspends", "max_workers", "needs_container")
        return {name: getattr(self._adapter.capabilities, name) for name in names}

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
        async with self._database.read() as session:
            described = {row.attempt_id: row for row in await claims.describe(session, [a.id for a in alive])}
        for attempt in held:
            if attempt.ended_at is not None:
                self._spawn(_insist(forget, self._around, attempt.id, attempt.handle))
        for attempt in alive:
            self._mind(described[attempt.id], attempt.handle)
            if attempt.started_at is not None:
                self._minders[described[attempt.id].name].clock.started_at = attempt.started_at
        return [attempt.handle for attempt in alive if attempt.handle is not None]

    def _mind(self, launch: Launch, handle: base.Handle | None) -> None:
        minder = Minder(self._around, launch, handle)
        self._minders[launch.name] = minder
        self._spawn(self._run(minder))

    async def _run(self, minder: Minder) -> None:
        await _insist(minder.run)
        del self._minders[minder.launch.name]

    async def _watch(self, known: Sequence[base.Handle]) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._adapter.watch(known)) as observations:
                    async for observation in observations:
                        self._observe(observation)
            except base.BackendUnavailable as error:
                log.warning("backend away", backend=self._configuration.name, error=str(error))
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
            case base.WorkerStarted():
                self._spawn(_insist(minder.start, observation))
                minder.hear()
            case base.Ended():
                minder.end(observation)
            case base.Missing(name=name):
                words = "the backend knows nothing of it any more"
                now = columns.microseconds(columns.now())
                minder.end(base.Ended(name, base.EndReason.LOST, None, {}, words, now))

    async def _step(self) -> float | None:
        """Do what is to be done; answers when next, as no hint announces a timeout or a retry."""
        await self._installer.step()
        await self._claim()
        await self._hold()
        await self._time_out()
        return _MOST_LATE_SECONDS if self._minders else None

    async def _claim(self) -> None:
        while True:
            async with self._database.begin() as session:
                claimed = await claims.claim(session, self._lease, self._backend_id, self._host)
            if not claimed:
                return
            async with self._database.read() as session:
                launches = await claims.describe(session, claimed)
            for launch in launches:
                self._mind(launch, None)

    async def _hold(self) -> None:
        """Mind what was claimed though we were not told; stop what is to be stopped, or to stand still."""
        minded = {minder.launch.attempt_id: minder for minder in self._minders.values()}
        async with self._database.read() as session:
            held = await attempts.held(session, self._lease.id, self._lease.epoch)
            # A claim was committed and its answer lost: launching is harmless, for it adopts.
            lost = [attempt.id for attempt in held if attempt.id not in minded]
            launches = await claims.describe(session, lost)
        for launch in launches:
            self._mind(launch, None)
        for attempt in held:
            if attempt.id not in minded:
                continue
            if attempt.stop_reason is None:
                await minded[attempt.id].stand(attempt.suspended_at, attempt.suspended_seconds)
            else:
                await minded[attempt.id].stop(attempt.stop_grace_seconds or 0.0)

    async def _time_out(self) -> None:
        for minder in tuple(self._minders.values()):
            if minder.overdue() and not minder.stopped:
                launch = minder.launch
                async with self._database.begin() as session:
                    await reports.time_out(
                        session, self._lease, launch.attempt_id, launch.feed_id, _TIMEOUT_GRACE_SECONDS
                    )
                await minder.stop(_TIMEOUT_GRACE_SECONDS)

    async def _renew(self) -> None:
        ours = True
        while ours:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                async with self._database.begin() as session:
                    ours = await backends.renew_lease(session, self._lease)
            except Exception as error:
                # The database may be away; whoever takes over meanwhile is noticed later.
                log.warning("lease not renewed", error=repr(error), exc_info=error)
        log.error("another supervisor has taken over this host", host=self._host)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    async def _sweep(self) -> None:
        """Free what deaths in the middle of a write have left among the contents."""
        await self._blobs.sweep()


async def _insist(work: Callable[P, Awaitable[None]], *arguments: P.args, **named: P.kwargs) -> None:
    """Do what can be repeated until it is done: a bug, a full disk or a database away must lose no job."""
    while True:
        try:
            return await work(*arguments, **named)
        except Exception as error:
            name = getattr(work, "__qualname__", repr(work))
            log.error("it will be tried again", work=name, error=repr(error), exc_info=error)
        await asyncio.sleep(_AGAIN_SECONDS)
