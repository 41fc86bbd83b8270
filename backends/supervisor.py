"""The supervisor of one backend: takes its lease and serves a term (terms.py), for as long as the lease is ours.

A backend that is away when it starts, or later, costs nothing but time: it is tried again, and its jobs wait.
"""

import asyncio
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
from backends.minding import Surroundings
from backends.preparing import Preparer
from backends.recorder import Recorder
from backends.terms import Term
from backends.turning import Turns
from backends.vault import Vault
from db import attempts, backends, health, logs
from db.backends import Scope
from db.backends import Supervisor as Lease
from db.claims import Launch
from db.database import Database

log = structlog.get_logger(__name__)

_POLL_SECONDS = 2.0
"""How late work is found whose hint was lost."""
_RENEW_SECONDS = 5.0


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
        fetching: Ongoing | None = None,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._adapter = configuration.adapter
        self._replica = host
        self._blobs = blobs
        self._store = store
        self._environment = environment
        self._vault = vault or Vault()
        self._client = client
        self._fetching = fetching or Ongoing()
        self._poll_seconds = poll_seconds
        self._scope = Scope(self._adapter.capabilities.scope.value)
        self._lease: Lease
        self._opened = False
        self.backend_id = b""
        self.host = host if self._scope is Scope.HOST else ""
        """Whose this backend's preparations and attempts are; nobody's in particular where any replica will do."""

    async def open(self) -> None:
        """Have the backend known, take its lease if it can be had, and begin."""
        async with self._database.begin() as session:
            self.backend_id = await backends.declare(session, self._declared())
        term = await self._take()
        self._task = asyncio.create_task(self._serve(term), name=f"supervisor of {self._configuration.name}")

    async def close(self) -> None:
        """Stop supervising; everything launched goes on."""
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._adapter.close()

    async def _serve(self, term: Term | None) -> None:
        while True:
            if term is not None:
                try:
                    await self._renew()
                finally:
                    await term.close()
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                term = await self._take()
            except Exception as error:
                term = None
                log.error("it will be tried again", backend=self._name, error=repr(error), exc_info=error)

    async def _take(self) -> Term | None:
        """Open the backend and take its lease: a term that has begun, None while the backend is away."""
        if not self._opened:
            try:
                await self._adapter.open()
            except BackendUnavailable as error:
                log.warning("backend away", backend=self._name, error=str(error))
                async with self._database.begin() as session:
                    await health.unreachable(session, self.backend_id, str(error))
                return None
            self._opened = True
        async with self._database.begin() as session:
            lease = await backends.take_lease(session, self._lease_name())
            await backends.configure(session, lease, self._values())
            held = await attempts.adopt(session, self.backend_id, self.host, lease.id, lease.epoch)
        self._lease = lease
        answering = Answering(self._database, lease, self.backend_id, self._name, self._adapter)
        around = Surroundings(
            self._database,
            Recorder(self._database),
            self._name,
            self._adapter,
            self._blobs,
            self._store,
            lease,
            self._environment,
            Turns(),
            self._configuration.log_limit,
            self._vault,
            self._client,
            answering.away,
        )
        preparer = Preparer(
            self._database,
            self._store,
            self._adapter,
            self.backend_id,
            self.host,
            self._fetching,
            answering.away,
        )
        term = Term(around, self.backend_id, self.host, preparer, answering, self._poll_seconds)
        try:
            await term.open(held)
        except BaseException:
            await term.close()
            raise
        return term

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
        told = {**dataclasses.asdict(can.capacity)}
        if told["gpus"] is None and can.devices:
            told["gpus"] = len(can.devices)
        asked = dataclasses.asdict(made.caps)
        known = {name: asked[name] if asked[name] is not None else told[name] for name in asked}
        return {
            **self._declared(),
            **{name: value for name, value in known.items() if value is not None},
            "enforced": self._enforced(),
            "devices": [dataclasses.asdict(device) for device in can.devices],
        }

    def _enforced(self) -> dict[str, Any]:
        names = ("memory", "cpus", "suspends", "max_workers", "needs_container")
        return {name: getattr(self._adapter.capabilities, name) for name in names}

    async def _renew(self) -> None:
        """Keep the lease until it is somebody else's."""
        ours = True
        while ours:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                async with self._database.begin() as session:
                    ours = await backends.renew_lease(session, self._lease)
            except Exception as error:
                # The database may be away; whoever takes over meanwhile is noticed later.
                log.warning("lease not renewed", error=repr(error), exc_info=error)
        log.error("another supervisor has taken over", backend=self._name, host=self._replica)
