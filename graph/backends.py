"""Backends as the API shows them."""

import strawberry

from db import backends
from graph.context import Context, Info
from graph.nodes import Node, loads, public
from graph.scalars import Int64

strawberry.enum(
    backends.Scope,
    name="BackendScope",
    description="Who may adopt what runs there: any replica, or one of the same host.",
)


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
