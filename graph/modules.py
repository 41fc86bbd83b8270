"""Modules as the API shows them. Their versions are in module_versions.py, installing them in installations.py."""

from datetime import datetime

import strawberry

from db import manifests, modules, removals
from graph import nodes, paging, users
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.module_versions import ModuleVersion
from graph.nodes import Node, key, loads, public
from graph.paging import Connection


@strawberry.type(description="An installed bundle of functions.")
class Module(Node):
    """A module."""

    row: strawberry.Private[modules.Module]
    name: str = strawberry.field(description="Unique in its project.")
    created_at: datetime = strawberry.field(description="When its first version was installed.")
    removed_at: datetime | None = strawberry.field(description="When it was removed; its history stays.")

    @classmethod
    def of(cls, row: modules.Module) -> "Module":
        return cls(
            row=row,
            id=public("module", row.id),
            name=row.name,
            created_at=row.created_at,
            removed_at=row.removed_at,
        )

    @strawberry.field(description="What it is for, by its active version.")
    async def description(self, info: Info) -> str:
        return (await _manifest(info.context, self.row)).description

    @strawberry.field(description="Its name for people, by its active version; may be empty.")
    async def title(self, info: Info) -> str:
        return (await _manifest(info.context, self.row)).title

    @strawberry.field(description="What it is in a few words, by its active version; may be empty.")
    async def tagline(self, info: Info) -> str:
        return (await _manifest(info.context, self.row)).tagline

    @strawberry.field(description="The address of a picture, by its active version.")
    async def icon_url(self, info: Info) -> str | None:
        return (await _manifest(info.context, self.row)).icon_url

    @strawberry.field(description="By its active version.")
    async def tags(self, info: Info) -> list[str]:
        return list((await _manifest(info.context, self.row)).tags)

    @strawberry.field(description="Its project.")
    async def project(self, info: Info) -> users.Project:
        return await users.project(info.context, self.row.project_id)

    @strawberry.field(description="The version that new runs use; null while none is prepared.")
    async def active_version(self, info: Info) -> ModuleVersion | None:
        found: ModuleVersion | None = await nodes.get(info.context, "version", self.row.active_version_id)
        return found

    @strawberry.field(description="All versions, newest first.")
    async def versions(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[ModuleVersion]:
        page = paging.page(first, after, last, before, paging.a_number)
        async with info.context.database.read() as session:
            rows = await modules.list_versions(session, self.row.id, page)
        return paging.connect(rows, lambda row: row.number, ModuleVersion.of)


@loads("module")
async def load_modules(context: Context, keys: list[bytes]) -> list[Module | None]:
    """Modules by key."""
    async with context.database.read() as session:
        rows = await modules.find_modules(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Module.of)


async def _manifest(context: Context, row: modules.Module) -> manifests.Manifest:
    version: ModuleVersion | None = await nodes.get(context, "version", row.active_version_id)
    if version is None or version.row.manifest is None:
        return manifests.Manifest(name=row.name)
    return manifests.decode(version.row.manifest)


@strawberry.type
class ModuleQuery:
    """Finding modules and functions."""

    @strawberry.field(
        description="The module of this id, or of this name: one of both; null if there is none."
    )
    async def module(self, info: Info, id: nodes.ById = None, name: nodes.ByName = None) -> Module | None:
        return await nodes.by_id_or_name(info.context, "module", id, name, modules.find_module, Module.of)

    @strawberry.field(description="Installed modules, newest first.")
    async def modules(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
    ) -> Connection[Module]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await modules.list_modules(session, info.context.viewer, page)
        return paging.connect(rows, lambda row: row.id, Module.of)


@strawberry.input(description="Which module to remove.")
class RemoveModuleInput:
    """Input of removeModule."""

    id: strawberry.ID = strawberry.field(description="The module.")
    insist: bool = strawberry.field(
        default=False,
        description="Also when pipelines use it: their steps then find no function until a module of that "
        "name has one again.",
    )


@strawberry.type(description="The removed module, or why it was refused.")
class RemoveModulePayload:
    """Payload of removeModule."""

    module: Module | None = strawberry.field(default=None, description="What is left: its history.")
    pipelines: list[str] = strawberry.field(
        default_factory=list,
        description="Names of pipelines with steps that now find no function; some of many.",
    )
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class ModuleMutation:
    """Removing modules."""

    @strawberry.mutation(
        description="Remove a module: its name is free, its content is freed, what was run with it stays "
        "readable. Refused while a run that has not ended uses it."
    )
    @refusing(RemoveModulePayload)
    async def remove_module(self, info: Info, input: RemoveModuleInput) -> RemoveModulePayload:
        context = info.context
        wanted = key("module", input.id, "id")
        async with context.database.begin() as session:
            await removals.remove(session, context.viewer, wanted, insist=input.insist)
            drawn = await removals.pipelines_using(session, wanted)
        return RemoveModulePayload(module=await nodes.get(context, "module", wanted), pipelines=drawn)
