"""Installing modules from a folder, a git repository or an uploaded archive; and checking what would come of it."""

import dataclasses

import strawberry

from backends import checking
from db import installations, manifests, module_sources, projects
from db.module_sources import Source
from graph import functions, nodes
from graph.context import Info
from graph.errors import UserError, refusing
from graph.module_versions import ManifestProblem, ModuleVersion
from graph.nodes import maybe_key


@strawberry.input
class _SourceInput:
    """Where a module is to be had, and what to call it."""

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

    def wanted(self) -> tuple[Source, bytes | None]:
        """The source, and the project's key if one was given."""
        source = module_sources.parse(
            self.source, ref=self.ref, folder=self.folder, submodules=self.submodules, name=self.name
        )
        return source, maybe_key("project", self.project, "project")


@strawberry.input(description="What to install, and from where.")
class InstallModuleInput(_SourceInput):
    """Input of installModule."""


@strawberry.input(description="What to check, and from where; as for installModule.")
class CheckModuleInput(_SourceInput):
    """Input of checkModule."""


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
        source, project = input.wanted()
        version_id = await context.act(installations.install, source, project_id=project)
        return InstallModulePayload(version=await nodes.get(context, "version", version_id))


@strawberry.type(description="A function as a manifest declares it, of a module that is not installed.")
class CheckedFunction(functions.Declared):
    """A function."""


@strawberry.type(description="What installing a source would find.")
class ModuleCheck:
    """A check."""

    installable: bool = strawberry.field(description="Whether nothing is wrong with it.")
    message: str | None = strawberry.field(description="What is wrong, in words.")
    problems: list[ManifestProblem] = strawberry.field(description="What is wrong, each with file and line.")
    notes: list[ManifestProblem] = strawberry.field(description="What is unusual, and accepted.")
    commit: str | None = strawberry.field(description="The commit that it is of, where it comes from git.")
    format: manifests.Format | None = strawberry.field(description="What its manifest is written as.")
    name: str | None = strawberry.field(description="What it would be called.")
    title: str = strawberry.field(description="Its name for people; may be empty.")
    tagline: str = strawberry.field(description="What it is in a few words; may be empty.")
    description: str = strawberry.field(description="What it is for; may be empty.")
    needs_container: bool = strawberry.field(description="Whether only a backend of containers can run it.")
    functions: list[CheckedFunction] = strawberry.field(description="What it would bring.")

    @classmethod
    def of(cls, found: checking.Checked) -> "ModuleCheck":
        manifest = found.manifest
        said = manifest or manifests.Manifest(name="")
        return cls(
            installable=manifest is not None,
            message=found.message,
            problems=[ManifestProblem(**dataclasses.asdict(problem)) for problem in found.problems],
            notes=[ManifestProblem(**dataclasses.asdict(note)) for note in found.notes],
            commit=found.commit,
            format=manifest.format if manifest else None,
            name=said.name or None,
            title=said.title,
            tagline=said.tagline,
            description=said.description,
            needs_container=manifest is not None and manifest.needs_container,
            functions=[CheckedFunction(**functions.declared(function)) for function in said.functions],
        )


@strawberry.type(description="What was found, or why it was refused.")
class CheckModulePayload:
    """Payload of checkModule."""

    check: ModuleCheck | None = strawberry.field(default=None, description="What was found.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="Why it was refused.")


@strawberry.type
class CheckMutation:
    """Checking."""

    @strawberry.mutation(
        description="Say what installing this would find, without installing it. Takes as long as fetching it, "
        "a minute at most."
    )
    @refusing(CheckModulePayload)
    async def check_module(self, info: Info, input: CheckModuleInput) -> CheckModulePayload:
        context = info.context
        source, project = input.wanted()
        async with context.database.read() as session:
            await projects.choose(session, context.viewer, project)
            file = await installations.require_archive(session, context.viewer, source)
        archive = context.around.blobs.path(file.sha256) if file is not None and file.sha256 else None
        found = await checking.check(source, archive, file.name if file else None)
        return CheckModulePayload(check=ModuleCheck.of(found))
