"""The supervisor of one backend: takes its lease and serves a term (terms.py), for as long as the lease is ours.

Where another replica has the lease it stands by, and takes it when it runs out: of a CLUSTER backend any replica,
of a HOST backend one of the same host. A lease that cannot be renewed in time ends the term. A backend that is
away costs nothing but time: it is tried again, and its jobs wait. All that a term does goes behind whoever is being
answered (precedence.py); renewing the lease does not.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from backends.answering import Answering
from backends.base import Backend, BackendUnavailable
from backends.blobs import Blobs
from backends.configured import Caps
from backends.errands import Ongoing
from backends.precedence import behind
from backends.preparing import Preparer
from backends.recorder import Recorder
from backends.restoring import Restorer
from backends.seldom import Seldom
from backends.surroundings import Surroundings
from backends.tenure import Tenure
from backends.terms import Term
from backends.turning import Turns
from backends.vault import Vault
from db import attempts, backends, health, leases, logs
from db.backends import Scope
from db.claims import Launch
from db.database import Database
from db.wanted import Place

log = structlog.get_logger(__name__)

_POLL_SECONDS = 2.0
"""How late work is found whose hint was lost."""
_RENEW_SECONDS = 5.0
_STAND_BY_SECONDS = 2.0
"""How late it is found that a lease has run out."""
_LEAST_SECONDS = 2.0
"""The database is given so long to renew or release a lease."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A backend as configured: its name, its adapter, and what it can hold (see db/backends.py).

    What `caps` leaves open is what the adapter tells, and else what `otherwise` says.
    """

    name: str
    kind: str
    adapter: Backend
    caps: Caps
    otherwise: Caps = field(default_factory=lambda: Caps(slots=1, cpus=1.0, memory_bytes=1 << 30, gpus=0))
    log_limit: logs.Limit = field(default_factory=logs.Limit)


class Supervisor:
    """Supervises one backend, as one of its host."""

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
        own_url: str = "",
        fetching: Ongoing | None = None,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._adapter = configuration.adapter
        self._replica = host
        self._blobs = blobs
        self._store = store
        self._restorer = Restorer(database, store, blobs)
        self._environment = environment
        self._vault = vault or Vault()
        self._client = client
        self._own_url = own_url
        self._fetching = fetching or Ongoing()
        self._poll_seconds = poll_seconds
        self._scope = Scope(self._adapter.capabilities.scope.value)
        self._opened = False
        self._seldom = Seldom()
        self.term: Term | None = None
        """The one that is being served; None while it stands by."""
        self._patience = _STAND_BY_SECONDS
        self.backend_id = b""
        self.host = host if self._scope is Scope.HOST else ""
        """Whose this backend's preparations and attempts are; nobody's in particular where any replica will do."""

    async def open(self) -> None:
        """Have the backend known, take its lease if it can be had, and begin."""
        async with self._database.begin() as session:
            self.backend_id = await backends.declare(session, self._declared())
        with behind():
            self.term = await self._take(again=False)
        self._task = asyncio.create_task(self._serve(), name=f"supervisor of {self._name}")

    async def close(self) -> None:
        """Stop supervising, for another to go on with it; everything launched goes on."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if (
            term := self.term
        ) is not None:  # it was never served: a task that ends before it began does nothing
            self.term = None
            await self._step_down(term)
        await self._adapter.close()

    async def _serve(self) -> None:
        """Serve terms, one after the other, and stand by in between."""
        while True:
            if (term := self.term) is not None:
                try:
                    await self._keep(term.tenure)
                finally:
                    self.term = None
                    await self._step_down(term)
            await asyncio.sleep(self._patience)
            try:
                with behind():
                    self.term = await self._take(again=True)
            except Exception as error:
                log.error("it will be tried again", backend=self._name, error=repr(error), exc_info=error)

    async def _take(self, *, again: bool) -> Term | None:
        """Begin a term; None while the backend is away, or somebody else has its lease."""
        self._patience = _STAND_BY_SECONDS
        if not await self._is_open():
            return None
        if again:
            async with self._database.read() as session:
                if not await leases.is_free(session, self._lease_name()):
                    return None
        asked_at = Tenure.asking()
        async with self._database.begin() as session:
            lease = await leases.take(session, self._lease_name(), self._replica, again=again)
            if lease is None:
                return None
            await backends.configure(session, lease, self._values())
            held = await attempts.adopt(session, self.backend_id, self.host, lease.id, lease.epoch)
        log.info("lease taken", backend=self._name, epoch=lease.epoch, adopted=len(held))
        term = self._term(Tenure(lease, asked_at))
        try:
            await term.open(held)
        except BaseException:
            await self._step_down(term)
            raise
        return term

    async def _is_open(self) -> bool:
        if not self._opened:
            try:
                await self._adapter.open()
            except BackendUnavailable as error:
                if self._seldom.is_due():
                    log.warning("backend away", backend=self._name, error=str(error))
                async with self._database.begin() as session:
                    await health.unreachable(session, self.backend_id, str(error))
                self._patience = error.retry_in_seconds
                return False
            self._opened = True
        return True

    def _term(self, tenure: Tenure) -> Term:
        answering = Answering(self._database, tenure, self.backend_id, self._name, self._adapter)
        turns = Turns()
        around = Surroundings(
            self._database,
            Recorder(self._database, tenure, turns.steps),
            self._name,
            self._adapter,
            self._blobs,
            self._store,
            self._restorer,
            tenure,
            self._environment,
            turns,
            self._configuration.log_limit,
            self._vault,
            self._client,
            self._own_url,
            answering.away,
        )
        preparer = Preparer(
            self._database,
            self._store,
            self._restorer,
            self._adapter,
            Place(self.backend_id, self._name, self.host),
            self._fetching,
            tenure,
            answering.away,
        )
        return Term(around, self.backend_id, self.host, preparer, answering, self._poll_seconds)

    async def _keep(self, tenure: Tenure) -> None:
        """Renew the lease for as long as it is ours, and has not run out."""
        while not tenure.lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RENEW_SECONDS):
                    await tenure.lost.wait()
                    return
            asked_at = Tenure.asking()
            try:
                async with (
                    asyncio.timeout(max(tenure.left, _LEAST_SECONDS)),
                    self._database.begin() as session,
                ):
                    ours = await leases.renew(session, tenure.lease)
            except Exception as error:
                log.warning("lease not renewed", backend=self._name, error=repr(error), exc_info=error)
                if tenure.has_run_out():
                    return
                continue
            if not ours:
                return
            tenure.renew(asked_at)

    async def _step_down(self, term: Term) -> None:
        """End a term, and leave the lease to whoever wants it."""
        term.tenure.lost.set()
        await term.close()
        try:
            async with asyncio.timeout(_LEAST_SECONDS), self._database.begin() as session:
                await leases.release(session, term.tenure.lease)
        except Exception as error:
            # It runs out by itself.
            log.warning("lease not released", backend=self._name, error=repr(error), exc_info=error)
        log.info("term ended", backend=self._name, epoch=term.tenure.lease.epoch)

    @property
    def _name(self) -> str:
        return self._configuration.name

    def _lease_name(self) -> str:
        return f"{self._name}@{self.host}" if self.host else self._name

    def _declared(self) -> dict[str, Any]:
        """What is known of the backend before it is open."""
        made = self._configuration
        filled = {
            name: value if value is not None else getattr(made.otherwise, name)
            for name, value in dataclasses.asdict(made.caps).items()
        }
        caps = [name for name, value in dataclasses.asdict(made.caps).items() if value is not None]
        return {
            "name": made.name,
            "kind": made.kind,
            "scope": self._scope,
            "config": {"caps": caps},
            **filled,
        }

    def _values(self) -> dict[str, Any]:
        """What is known of it once it is open."""
        made, can = self._configuration, self._adapter.capabilities
        known = dataclasses.asdict(made.caps)
        if known["gpus"] is None and can.devices:
            known["gpus"] = len(can.devices)
        return {
            **self._declared(),
            **{name: value for name, value in known.items() if value is not None},
            "enforced": self._enforced(),
            "devices": [dataclasses.asdict(device) for device in can.devices],
        }

    def _enforced(self) -> dict[str, Any]:
        names = ("memory", "cpus", "suspends", "max_workers", "needs_container")
        return {name: getattr(self._adapter.capabilities, name) for name in names}
