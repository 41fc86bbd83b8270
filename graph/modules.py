"""Modules, their versions and functions: installing, listing, and following an installation."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

import strawberry

from db import feeds, manifests, modules, states
from graph import functions, live, nodes, paging, preparations, users
from graph.context import Context, Info
from graph.errors import UserError, refusing
from graph.events import Cursor, FeedEnded, FeedEvent, FeedTruncated, LinesAdded, follow, lines_added
from graph.nodes import Node, found, key, loads, public
from graph.paging import Connection
from graph.scalars import Int64

strawberry.enum(
    states.VersionState, name="ModuleVersionState", description="How far the fetching of a version is."
)


@strawberry.type(description="A mistake in a manifest.")
class ManifestProblem:
    """A problem."""

    file: str = strawberry.field(description="In which file.")
    line: int = strawberry.field(description="From 1.")
    column: int = strawberry.field(description="From 1.")
    path: str = strawberry.field(description="Leads to it in the document.")
    rule: str = strawberry.field(description="A stable code of the rule.")
    message: str = strawberry.field(description="In words.")


@strawberry.type(description="One state of a module.")
class ModuleVersion(Node):
    """A version."""

    row: strawberry.Private[modules.ModuleVersion]
    number: int | None = strawberry.field(
        description="Counts the module's versions; null until the manifest is read."
    )
    source: str = strawberry.field(description="Where it came from.")
    digest: str | None = strawberry.field(description="Of its content.")
    state: states.VersionState = strawberry.field(description="How far its fetching is.")
    message: str | None = strawberry.field(description="Why it failed.")
    created_at: datetime = strawberry.field(description="When it was asked for.")

    @classmethod
    def of(cls, row: modules.ModuleVersion) -> "ModuleVersion":
        return cls(
            row=row,
            id=public("version", row.id),
            number=row.number,
            source=row.source,
            digest=row.digest,
            state=row.state,
            message=row.message,
            created_at=row.created_at,
        )

    @strawberry.field(description="Why it failed, each with file, line and rule.")
    def problems(self) -> list[ManifestProblem]:
        return [ManifestProblem(**problem) for problem in self.row.problems]

    @strawberry.field(description="The module; null until the manifest is read.")
    async def module(self, info: Info) -> "Module | None":
        found: Module | None = await nodes.get(info.context, "module", self.row.module_id)
        return found

    @strawberry.field(description="What it brings.")
    async def functions(self, info: Info) -> list[functions.Function]:
        return await info.context.load(functions.of_versions, self.row.id)

    @strawberry.field(description="Where it was made ready.")
    async def preparations(self, info: Info) -> list[preparations.Preparation]:
        return await info.context.load(preparations.of_versions, self.row.id)


@strawberry.type(description="An installed bundle of functions.")
class Module(Node):
    """A module."""

    row: strawberry.Private[modules.Module]
    name: str = strawberry.field(description="Unique in its project.")
    created_at: datetime = strawberry.field(description="When its first version was installed.")

    @classmethod
    def of(cls, row: modules.Module) -> "Module":
        return cls(row=row, id=public("module", row.id), name=row.name, created_at=row.created_at)

    @strawberry.field(description="What it is for, by its active version.")
    async def description(self, info: Info) -> str:
        return (await _manifest(info.context, self.row)).description

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
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
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


@loads("version")
async def load_versions(context: Context, keys: list[bytes]) -> list[ModuleVersion | None]:
    """Versions by key."""
    async with context.database.read() as session:
        rows = await modules.find_versions(session, context.viewer, keys)
    return nodes.by_key(keys, rows, ModuleVersion.of)


async def _manifest(context: Context, row: modules.Module) -> manifests.Manifest:
    version: ModuleVersion | None = await nodes.get(context, "version", row.active_version_id)
    if version is None or version.row.manifest is None:
        return manifests.Manifest(name=row.name)
    return manifests.decode(version.row.manifest)


@strawberry.type
class ModuleQuery:
    """Finding modules and functions."""

    @strawberry.field(description="The module of this id, or of this name; null if there is none.")
    async def module(
        self, info: Info, id: strawberry.ID | None = None, name: str | None = None
    ) -> Module | None:
        wanted = None if id is None else found(info.context, "module", id)
        if (wanted is None) is (name is None) or "\0" in (name or ""):
            return None
        async with info.context.database.read() as session:
            row = await modules.find_module(session, info.context.viewer, module_id=wanted, name=name)
        return None if row is None else Module.of(row)

    @strawberry.field(description="Installed modules, newest first.")
    async def modules(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Connection[Module]:
        page = paging.page(first, after, last, before)
        async with info.context.database.read() as session:
            rows = await modules.list_modules(session, info.context.viewer, page)
        return paging.connect(rows, lambda row: row.id, Module.of)


@strawberry.input(description="What to install.")
class InstallModuleInput:
    """Input of installModule."""

    source: str = strawberry.field(description="A folder on the server's machine that holds rungraph.yaml.")
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.type(description="The version that is being fetched, or why it was refused.")
class InstallModulePayload:
    """Payload of installModule."""

    version: ModuleVersion | None = strawberry.field(default=None, description="FETCHING; follow it.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class ModuleMutation:
    """Installing."""

    @strawberry.mutation(
        description="Begin to install a module; follow it with the subscription moduleVersion."
    )
    @refusing(InstallModulePayload)
    async def install_module(self, info: Info, input: InstallModuleInput) -> InstallModulePayload:
        context = info.context
        project = None if input.project is None else key("project", input.project, "project")
        async with context.database.begin() as session:
            version_id = await modules.install(session, context.viewer, input.source, project_id=project)
        return InstallModulePayload(version=await nodes.get(context, "version", version_id))


@strawberry.type(description="A version, or its preparation, changed.")
class ModuleVersionChanged(FeedEvent):
    """An event."""

    version_key: strawberry.Private[bytes]
    at: datetime = strawberry.field(description="When.")
    state: states.VersionState | None = strawberry.field(description="The version's new state.")
    preparation: states.PreparationState | None = strawberry.field(description="Its preparation's new state.")

    @strawberry.field(description="The version as it is now.")
    async def version(self, info: Info) -> ModuleVersion:
        found: ModuleVersion = await nodes.get(info.context, "version", self.version_key)
        return found


ModuleVersionEvent = Annotated[
    ModuleVersionChanged | LinesAdded | Cursor | FeedTruncated | FeedEnded,
    strawberry.union("ModuleVersionEvent", description="What happens to a version until it is prepared."),
]


@strawberry.type
class ModuleSubscription:
    """Following installations."""

    @strawberry.subscription(
        description="Everything that happens to a version until it is prepared or has failed."
    )
    async def module_version(
        self, info: Info, id: strawberry.ID, after: Int64 | None = None
    ) -> AsyncIterator[ModuleVersionEvent]:
        wanted = key("version", id, "id")
        version: ModuleVersion | None = await nodes.get(info.context, "version", wanted)

        def told(message: live.Message) -> Any:
            if message.lines is not None:
                return lines_added(message.seq, "", message.lines)
            assert message.event is not None
            state, preparation = message.event.data["state"], None
            if message.event.subject is feeds.Subject.PREPARATION:
                state, preparation = None, states.PreparationState(state)
            return ModuleVersionChanged(
                version_key=wanted,
                seq=Int64(message.seq),
                at=message.event.at,
                state=None if state is None else states.VersionState(state),
                preparation=preparation,
            )

        feed_id = None if version is None else version.row.feed_id
        async for event in follow(info.context, feed_id, after, told):
            yield event
