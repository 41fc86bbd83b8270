"""Backends as the API shows them."""

import strawberry

from db import backends
from graph import enums
from graph.context import Context, Info
from graph.nodes import Node, loads, public
from graph.scalars import Int64

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
    slots: int = strawberry.field(description="Workers at once.")
    cpus: float = strawberry.field(description="Cores that jobs may ask for together.")
    memory_bytes: Int64 = strawberry.field(description="Memory that jobs may ask for together.")
    gpus: int = strawberry.field(description="GPUs that jobs may ask for together.")
    devices: list[Device] = strawberry.field(description="Its GPUs, where they are known by name.")
    capabilities: BackendCapabilities | None = strawberry.field(
        description="Null before a supervisor has taken it up."
    )

    @classmethod
    def of(cls, row: backends.Backend) -> "Backend":
        return cls(
            id=public("backend", row.id),
            name=row.name,
            kind=row.kind,
            scope=row.scope,
            slots=row.slots,
            cpus=row.cpus,
            memory_bytes=Int64(row.memory_bytes),
            gpus=row.gpus,
            devices=[
                Device(index=one["index"], name=one["name"], memory_bytes=Int64(one["memory_bytes"]))
                for one in row.devices or ()
            ],
            capabilities=None if row.enforced is None else BackendCapabilities(**row.enforced),
        )


@loads("backend")
async def load_backends(context: Context, keys: list[bytes]) -> list[Backend | None]:
    """Backends by key."""
    async with context.database.read() as session:
        by_key = {row.id: Backend.of(row) for row in await backends.list_all(session)}
    return [by_key.get(key) for key in keys]


@strawberry.type
class BackendQuery:
    """What runs jobs."""

    @strawberry.field(description="Every configured backend, by name.")
    async def backends(self, info: Info) -> list[Backend]:
        async with info.context.database.read() as session:
            return [Backend.of(row) for row in await backends.list_all(session)]
