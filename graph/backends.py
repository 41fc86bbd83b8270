"""Backends as the API shows them."""

from collections.abc import Mapping
from datetime import datetime

import strawberry

from db import backends, errors, health, occupancy
from db.database import Session
from db.health import Health
from graph import enums
from graph.context import Context, Info
from graph.nodes import ById, ByName, Node, loads, public
from graph.scalars import Int64

enums.show(
    Health,
    "Whether a backend can be worked with.",
    name="BackendHealth",
    OK="It answers.",
    UNAVAILABLE="It does not answer: its jobs keep their states, and go on when it does.",
    UNATTENDED="No supervisor holds it.",
)
enums.show(
    backends.Scope,
    "Who may adopt what runs there.",
    name="BackendScope",
    HOST="A server of the same host.",
    CLUSTER="Any server.",
)


@strawberry.type(description="A GPU of a backend.")
class Device:
    """A GPU."""

    index: int = strawberry.field(description="The number that jobs are given it under.")
    name: str = strawberry.field(description="As its maker calls it.")
    memory_bytes: Int64 = strawberry.field(description="Its own memory.")


@strawberry.type(description="What jobs may have, or hold, together.")
class Amounts:
    """Amounts of what jobs ask for."""

    slots: int = strawberry.field(description="Workers at once.")
    cpus: float = strawberry.field(description="Cores.")
    memory_bytes: Int64 = strawberry.field(description="Memory.")
    gpus: int = strawberry.field(description="GPUs.")

    @classmethod
    def of(cls, given: Mapping[str, float]) -> "Amounts":
        return cls(
            slots=int(given["slots"]),
            cpus=given["cpus"],
            memory_bytes=Int64(int(given["memory_bytes"])),
            gpus=int(given["gpus"]),
        )


@strawberry.type(description="What a backend can do, and how it keeps a worker to what it asked for.")
class BackendCapabilities:
    """Capabilities."""

    needs_container: bool = strawberry.field(description="Whether jobs run in containers.")
    max_workers: int = strawberry.field(description="Of one job.")
    suspends: bool = strawberry.field(description="Whether suspendRun has its jobs stand still.")
    memory: str | None = strawberry.field(
        description="What keeps a worker to its memory, in a few words; null for nothing."
    )
    cpus: str | None = strawberry.field(description="What keeps it to its cores; null for nothing.")


@strawberry.type(description="A configured adapter that runs jobs.")
class Backend(Node):
    """A backend."""

    name: str = strawberry.field(description="Unique.")
    kind: str = strawberry.field(description="Which adapter: local, docker, kubernetes.")
    scope: backends.Scope = strawberry.field(description="Who may adopt what runs there.")
    slots: int = strawberry.field(description="Workers at once, as configured.")
    cpus: float = strawberry.field(description="Cores that jobs may ask for together, as configured.")
    memory_bytes: Int64 = strawberry.field(
        description="Memory that jobs may ask for together, as configured."
    )
    gpus: int = strawberry.field(description="GPUs that jobs may ask for together, as configured.")
    capacity: Amounts = strawberry.field(
        description="What all jobs together may have now: as configured, or what it says it has where that is less."
    )
    in_use: Amounts = strawberry.field(description="What launched jobs hold, as they asked for it.")
    running_jobs: int = strawberry.field(description="How many are launched and have not ended.")
    health: Health = strawberry.field(description="Whether it can be worked with.")
    unavailable_since: datetime | None = strawberry.field(description="Null while it answers.")
    last_error: str | None = strawberry.field(description="What it was last away with, in its own words.")
    last_error_at: datetime | None = strawberry.field(description="When that was.")
    devices: list[Device] = strawberry.field(description="Its GPUs, where they are known by name.")
    capabilities: BackendCapabilities | None = strawberry.field(
        description="Null before a supervisor has taken it up."
    )

    @classmethod
    def of(cls, row: backends.Backend, taken: Mapping[str, float], state: Health) -> "Backend":
        return cls(
            id=public("backend", row.id),
            name=row.name,
            kind=row.kind,
            scope=row.scope,
            slots=row.slots,
            cpus=row.cpus,
            memory_bytes=Int64(row.memory_bytes),
            gpus=row.gpus,
            capacity=Amounts.of(backends.capacity(row)),
            in_use=Amounts.of(taken),
            running_jobs=int(taken["jobs"]),
            health=state,
            unavailable_since=row.unavailable_since,
            last_error=row.last_error,
            last_error_at=row.last_error_at,
            devices=[
                Device(index=one["index"], name=one["name"], memory_bytes=Int64(one["memory_bytes"]))
                for one in row.devices or ()
            ],
            capabilities=None if row.enforced is None else BackendCapabilities(**row.enforced),
        )


async def _all(session: Session, *, retired: bool = True) -> list[Backend]:
    """Every backend there is; also those that nobody has configured any more."""
    held = await occupancy.held(session)
    attended = await health.attended(session)
    return [
        Backend.of(
            row,
            occupancy.total(each for each in held if each.backend_id == row.id),
            health.of(row, attended),
        )
        for row in await backends.list_all(session)
        if retired or row.retired_at is None
    ]


@loads("backend")
async def load_backends(context: Context, keys: list[bytes]) -> list[Backend | None]:
    """Backends by key."""
    async with context.database.read() as session:
        by_key = {one.id: one for one in await _all(session)}
    return [by_key.get(public("backend", key)) for key in keys]


@strawberry.type
class BackendQuery:
    """What runs jobs."""

    @strawberry.field(description="Every configured backend, by name.")
    async def backends(self, info: Info) -> list[Backend]:
        async with info.context.database.read() as session:
            return await _all(session, retired=False)

    @strawberry.field(description="The backend of this id or name, or null.")
    async def backend(self, info: Info, id: ById = None, name: ByName = None) -> Backend | None:
        context = info.context
        context.require_viewer()
        if (id is None) is (name is None):
            raise errors.Invalid("give either id or name", path=("id",))
        async with context.database.read() as session:
            return next(
                (one for one in await _all(session) if name in (None, one.name) and id in (None, one.id)),
                None,
            )
