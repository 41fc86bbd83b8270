"""Limits: how much the jobs of a project, or with a tag, may have at once. Set, listed with what is held, removed."""

from collections.abc import Mapping
from datetime import datetime

import strawberry

from db import errors, limiting, limits, projects
from db.database import Session
from db.viewers import Viewer
from graph import backends, nodes, paging, users
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.nodes import Node, key, loads, maybe_key, public
from graph.paging import Connection
from graph.scalars import Int64


@strawberry.type(description="The tag that a limit is of.")
class LimitTag:
    """A tag."""

    name: str = strawberry.field(description="On runs.")
    value: str | None = strawberry.field(description="Null: each value counts by itself.")


@strawberry.type(description="What counts under a limit now.")
class LimitUse:
    """What launched jobs hold."""

    value: str | None = strawberry.field(description="Of the limit's tag; null where it is of none.")
    jobs: int = strawberry.field(description="How many.")
    slots: int = strawberry.field(description="Their workers.")
    cpus: float = strawberry.field(description="Cores.")
    memory_bytes: Int64 = strawberry.field(description="Memory.")
    gpus: int = strawberry.field(description="GPUs.")

    @classmethod
    def of(cls, value: str | None, taken: Mapping[str, float]) -> "LimitUse":
        return cls(
            value=value,
            jobs=int(taken["jobs"]),
            slots=int(taken["slots"]),
            cpus=taken["cpus"],
            memory_bytes=Int64(int(taken["memory_bytes"])),
            gpus=int(taken["gpus"]),
        )


@strawberry.type(
    description="How much launched jobs may have at once: those of a project (its quota), or with a tag."
)
class Limit(Node):
    """A limit. Null bounds bound nothing."""

    row: strawberry.Private[limits.Limit]
    tag: LimitTag | None = strawberry.field(description="Null for a quota: it counts all of its project's.")
    jobs: Int64 | None = strawberry.field(description="Jobs at once.")
    slots: Int64 | None = strawberry.field(description="Workers at once.")
    cpus: float | None = strawberry.field(description="Cores together.")
    memory_bytes: Int64 | None = strawberry.field(description="Memory together.")
    gpus: Int64 | None = strawberry.field(description="GPUs together.")
    created_at: datetime = strawberry.field(description="When it was first set.")
    updated_at: datetime = strawberry.field(description="When it was last set.")

    @classmethod
    def of(cls, row: limits.Limit) -> "Limit":
        return cls(
            row=row,
            id=public("limit", row.id),
            tag=None if row.tag_name is None else LimitTag(name=row.tag_name, value=row.tag_value),
            jobs=_int64(row.jobs),
            slots=_int64(row.slots),
            cpus=row.cpus,
            memory_bytes=_int64(row.memory_bytes),
            gpus=_int64(row.gpus),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @strawberry.field(description="Whose jobs count; null: those of all projects together.")
    async def project(self, info: Info) -> users.Project | None:
        if self.row.project_id is None:
            return None
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(description="Where they count; null: on all backends together.")
    async def backend(self, info: Info) -> backends.Backend | None:
        found: backends.Backend | None = await nodes.get(info.context, "backend", self.row.backend_id)
        return found

    @strawberry.field(
        description="What launched jobs hold of it: one entry, or one a value of the tag that any of them has."
    )
    async def in_use(self, info: Info) -> list[LimitUse]:
        return await info.context.load(_uses, self.row.id)

    @strawberry.field(description="Who last set it.")
    async def updated_by(self, info: Info) -> users.User | None:
        found: users.User | None = await nodes.get(info.context, "user", self.row.updated_by)
        return found


def _int64(value: int | None) -> Int64 | None:
    return None if value is None else Int64(value)


@loads("limit")
async def load_limits(context: Context, keys: list[bytes]) -> list[Limit | None]:
    """Limits by key."""
    async with context.database.read() as session:
        rows = await limits.find_limits(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Limit.of)


async def _uses(context: Context, keys: list[bytes]) -> list[list[LimitUse]]:
    async with context.database.read() as session:
        rows = {row.id: row for row in await limits.find_limits(session, context.viewer, keys)}
        holding = await limiting.Holding.of(session, list(rows.values()))
    return [_use(rows[key], holding, context.viewer) if key in rows else [] for key in keys]


def _use(row: limits.Limit, holding: limiting.Holding, viewer: Viewer) -> list[LimitUse]:
    values: list[str | None] = [row.tag_value]
    if row.tag_name is not None and row.tag_value is None:
        values = [*holding.values(row, viewer)]
    return [LimitUse.of(value, holding.by(row, value)) for value in values]


@strawberry.type
class LimitQuery:
    """Finding limits."""

    @strawberry.field(description="The limits that hold for what you may see, newest first.")
    async def limits(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Limit]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await limits.list_limits(session, info.context.viewer, page)
        return paging.connect(rows, lambda row: row.id, Limit.of)


@strawberry.input(description="The tag of the runs whose jobs count.")
class LimitTagInput:
    """A tag."""

    name: str = strawberry.field(description="Of the tag.")
    value: str | None = strawberry.field(
        default=None, description="Without one, each value counts by itself."
    )


@strawberry.input(
    description="What to limit, and how far. A limit of the same project, backend and tag is replaced."
)
class SetLimitInput:
    """Input of setLimit."""

    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )
    all_projects: bool = strawberry.field(
        default=False, description="Instead of one project: those of all count together."
    )
    backend: strawberry.ID | None = strawberry.field(
        default=None, description="All backends together when not given."
    )
    tag: LimitTagInput | None = strawberry.field(
        default=None, description="Only jobs of runs with this tag; all when not given, which is a quota."
    )
    jobs: Int64 | None = strawberry.field(default=None, description="Jobs at once; 0 holds all of them.")
    slots: Int64 | None = strawberry.field(default=None, description="Workers at once.")
    cpus: float | None = strawberry.field(default=None, description="Cores together.")
    memory_bytes: Int64 | None = strawberry.field(default=None, description="Memory together.")
    gpus: Int64 | None = strawberry.field(default=None, description="GPUs together.")


@strawberry.type(description="The limit, or every mistake.")
class SetLimitPayload:
    """Payload of setLimit."""

    limit: Limit | None = strawberry.field(default=None, description="As it holds from now on.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.input(description="A limit to lift.")
class RemoveLimitInput:
    """Input of removeLimit."""

    id: strawberry.ID = strawberry.field(description="The limit.")


@strawberry.type(description="What was removed, or why it was refused.")
class RemoveLimitPayload:
    """Payload of removeLimit."""

    id: strawberry.ID | None = strawberry.field(default=None, description="The limit that holds no more.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class LimitMutation:
    """Setting and removing limits."""

    @strawberry.mutation(
        description="Limit what launched jobs may have at once; what runs already goes on. A project's quota, and "
        "whatever is of all projects, is for administrators."
    )
    @refusing(SetLimitPayload)
    async def set_limit(self, info: Info, input: SetLimitInput) -> SetLimitPayload:
        context = info.context
        async with context.database.begin() as session:
            project = await _project(session, input)
            limit_id = await limits.put(session, context.viewer, _spec(input, project))
        return SetLimitPayload(limit=await context.load(load_limits, limit_id))

    @strawberry.mutation(description="Lift a limit.")
    @refusing(RemoveLimitPayload)
    async def remove_limit(self, info: Info, input: RemoveLimitInput) -> RemoveLimitPayload:
        context = info.context
        limit_id = key("limit", input.id, "id")
        await context.act(limits.remove, limit_id)
        return RemoveLimitPayload(id=input.id)


async def _project(session: Session, input: SetLimitInput) -> bytes | None:
    if input.all_projects:
        if input.project is not None:
            raise errors.Invalid("give either project or allProjects", path=("project",))
        return None
    if input.project is not None:
        return key("project", input.project, "project")
    return await projects.default(session)


def _spec(input: SetLimitInput, project: bytes | None) -> limits.LimitSpec:
    return limits.LimitSpec(
        project_id=project,
        backend_id=maybe_key("backend", input.backend, "backend"),
        tag_name=None if input.tag is None else input.tag.name,
        tag_value=None if input.tag is None else input.tag.value,
        jobs=input.jobs,
        slots=input.slots,
        cpus=input.cpus,
        memory_bytes=input.memory_bytes,
        gpus=input.gpus,
    )
