"""Installing modules: from a folder, a git repository or an uploaded archive."""

import strawberry

from db import installations, module_sources
from graph import nodes
from graph.context import Info
from graph.errors import UserError, refusing
from graph.module_versions import ModuleVersion
from graph.nodes import key


@strawberry.input(description="What to install, and from where.")
class InstallModuleInput:
    """Input of installModule."""

    source: str = strawberry.field(
        description="A folder on the server's machine, a git repository (https://, ssh:// or file://), or "
        "the id of an uploaded .tar, .tar.gz or .zip."
    )
    ref: str | None = strawberry.field(
        default=None, description="Branch, tag or commit of the repository; its head when not given."
    )
    folder: str | None = strawberry.field(
        default=None, description="The folder of the source that holds the module; its top when not given."
    )
    submodules: bool = strawberry.field(default=False, description="Fetch the repository's submodules too.")
    name: str | None = strawberry.field(
        default=None, description="What to call the module, in place of what its manifest says."
    )
    project: strawberry.ID | None = strawberry.field(
        default=None, description="The default project when not given."
    )


@strawberry.type(description="The version that is being fetched, or why it was refused.")
class InstallModulePayload:
    """Payload of installModule."""

    version: ModuleVersion | None = strawberry.field(default=None, description="FETCHING; follow it.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class InstallationMutation:
    """Installing."""

    @strawberry.mutation(
        description="Begin to install a module; follow it with the subscription moduleVersion."
    )
    @refusing(InstallModulePayload)
    async def install_module(self, info: Info, input: InstallModuleInput) -> InstallModulePayload:
        context = info.context
        project = None if input.project is None else key("project", input.project, "project")
        source = module_sources.parse(
            input.source,
            ref=input.ref,
            folder=input.folder,
            submodules=input.submodules,
            name=input.name,
        )
        async with context.database.begin() as session:
            version_id = await installations.install(session, context.viewer, source, project_id=project)
        return InstallModulePayload(version=await nodes.get(context, "version", version_id))
