"""Versions of modules: what they bring, how their installation goes, which one is used."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from db import differences, feeds, manifests, module_versions, modules, states
from graph import enums, functions, live, nodes, preparations
from graph.context import Context, Info
from graph.differences import VersionChanges
from graph.errors import UserError, refusing
from graph.events import Cursor, FeedEnded, FeedEvent, FeedTruncated, LinesAdded, follow, lines_added
from graph.nodes import Node, found, key, loads, public
from graph.scalars import Int64

if TYPE_CHECKING:
    from graph.modules import Module

_NOWHERE = {"file": "", "line": 1, "column": 1, "path": "", "rule": "source"}

enums.show(
    states.VersionState,
    "How far the fetching of a version is.",
    name="ModuleVersionState",
    FETCHING="Its source is being fetched and its manifest read.",
    READY="Its functions can be used.",
    FAILED="It could not be fetched, or its manifest is wrong.",
)

enums.show(
    manifests.Format,
    "What a manifest was written as.",
    name="ManifestFormat",
    RUNGRAPH="rungraph.yaml.",
    MLSPLOIT="mlsploit_module.yaml.",
    MLSPLOIT_SCHEMAS="The older input.schema with output.schema.",
)


@strawberry.type(description="A mistake in a manifest, or what is unusual about it.")
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
        description="Counts the module's versions; null until the manifest is read, or beside `sameAs`."
    )
    source: str = strawberry.field(description="Where it came from: a folder, a repository, a file's id.")
    ref: str | None = strawberry.field(description="The branch, tag or commit that was asked for.")
    folder: str | None = strawberry.field(description="The part of the source that was asked for.")
    commit: str | None = strawberry.field(description="The commit that it is, where it came from git.")
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
            ref=row.ref,
            folder=row.subfolder,
            commit=row.revision,
            digest=row.digest,
            state=row.state,
            message=row.message,
            created_at=row.created_at,
        )

    @strawberry.field(description="Why it failed, each with file, line and rule.")
    def problems(self) -> list[ManifestProblem]:
        return [ManifestProblem(**problem) for problem in self.row.problems]

    @strawberry.field(description="What its manifest was written as; null until it is read.")
    def format(self) -> manifests.Format | None:
        return None if self.row.manifest is None else manifests.decode(self.row.manifest).format

    @strawberry.field(description="The module; null until the manifest is read.")
    async def module(self, info: Info) -> Annotated["Module", strawberry.lazy("graph.modules")] | None:
        found: Module | None = await nodes.get(info.context, "module", self.row.module_id)
        return found

    @strawberry.field(description="What is unusual about it, and was accepted.")
    def notes(self) -> list[ManifestProblem]:
        return [ManifestProblem(**{**_NOWHERE, **note}) for note in self.row.notes]

    @strawberry.field(description="The version that holds this very content, if it was installed before.")
    async def same_as(self, info: Info) -> "ModuleVersion | None":
        found: ModuleVersion | None = await nodes.get(info.context, "version", self.row.same_as)
        return found

    @strawberry.field(
        description="What is different from another version, of this module or another; null where either is "
        "not to be found or has no manifest."
    )
    async def changes_from(
        self,
        info: Info,
        version: Annotated[strawberry.ID, strawberry.argument(description="Another version of the module.")],
    ) -> VersionChanges | None:
        wanted = found(info.context, "version", version)
        other: ModuleVersion | None = await nodes.get(info.context, "version", wanted)
        if other is None or other.row.manifest is None or self.row.manifest is None:
            return None
        before, after = manifests.decode(other.row.manifest), manifests.decode(self.row.manifest)
        return VersionChanges.of(differences.between(before, after))

    @strawberry.field(description="What it brings.")
    async def functions(self, info: Info) -> list[functions.Function]:
        return await info.context.load(functions.of_versions, self.row.same_as or self.row.id)

    @strawberry.field(description="Where it was made ready.")
    async def preparations(self, info: Info) -> list[preparations.Preparation]:
        return await info.context.load(preparations.of_versions, self.row.same_as or self.row.id)


@loads("version")
async def load_versions(context: Context, keys: list[bytes]) -> list[ModuleVersion | None]:
    """Versions by key."""
    async with context.database.read() as session:
        rows = await modules.find_versions(session, context.viewer, keys)
    return nodes.by_key(keys, rows, ModuleVersion.of)


@strawberry.input(description="Which version new runs are to use.")
class ActivateModuleVersionInput:
    """Input of activateModuleVersion."""

    id: strawberry.ID = strawberry.field(description="A prepared version, older or newer.")


@strawberry.type(description="The version that new runs use, or why it was refused.")
class ActivateModuleVersionPayload:
    """Payload of activateModuleVersion."""

    version: ModuleVersion | None = strawberry.field(default=None, description="The active version.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class VersionMutation:
    """Choosing versions."""

    @strawberry.mutation(
        description="Choose the version that new runs use, until a newer one is installed and ready."
    )
    @refusing(ActivateModuleVersionPayload)
    async def activate_module_version(
        self, info: Info, input: ActivateModuleVersionInput
    ) -> ActivateModuleVersionPayload:
        context = info.context
        wanted = key("version", input.id, "id")
        active = await context.act(module_versions.activate, wanted)
        return ActivateModuleVersionPayload(version=await nodes.get(context, "version", active))


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
class VersionSubscription:
    """Following installations."""

    @strawberry.subscription(
        description="Everything that happens to a version until it is prepared or has failed."
    )
    async def module_version(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The id of the version.")],
        after: Annotated[
            Int64 | None,
            strawberry.argument(description="The `seq` of the last event seen; from now on when not given."),
        ] = None,
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
