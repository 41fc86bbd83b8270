"""Functions and their options as the API shows them."""

from typing import TYPE_CHECKING, Annotated, Any

import strawberry
from strawberry.scalars import JSON

from db import manifests, modules, policies
from graph import enums, nodes, paging
from graph.context import Context, Info
from graph.nodes import Node, key, loads, public
from graph.paging import Connection
from graph.scalars import Int64
from graph.states import EndReason

if TYPE_CHECKING:
    from graph.module_versions import ModuleVersion
    from graph.modules import Module

enums.show(
    manifests.OptionType,
    "The type of an option.",
    INT="A whole number.",
    FLOAT="A number.",
    STR="A text.",
    BOOL="true or false.",
    ENUM="One of its choices.",
    FILE="The name of one of the job's input files.",
)


@strawberry.type(description="A typed parameter of a function.")
class Option:
    """An option."""

    name: str = strawberry.field(description="As arguments name it.")
    type: manifests.OptionType = strawberry.field(description="What values it takes.")
    required: bool = strawberry.field(description="Whether a job cannot do without.")
    default: JSON | None = strawberry.field(description="What it is when not given.")
    minimum: float | None = strawberry.field(description="The least value.")
    maximum: float | None = strawberry.field(description="The greatest value.")
    values: list[str] | None = strawberry.field(description="The values of an ENUM.")
    doc: str = strawberry.field(description="What it means.")


@strawberry.type(description="Files that a function takes: of any of these types, with all of these tags.")
class Accept:
    """What is taken."""

    types: list[str] = strawberry.field(description="Name endings, lower case, without dot; empty: any.")
    required_tags: list[str] = strawberry.field(description="Tags that must be there.")
    tags: JSON = strawberry.field(description="Tags by name, with what they must say.")


@strawberry.type(description="A tag that a function puts on what it makes.")
class OutputTag:
    """A declared tag."""

    name: str = strawberry.field(description="The tag.")
    type: str = strawberry.field(description="str, int, float or bool.")


@strawberry.type(description="What one worker asks for; null leaves the backend's default.")
class Resources:
    """Resources."""

    cpus: float | None = strawberry.field(description="Cores.")
    memory_bytes: Int64 | None = strawberry.field(description="Memory.")
    gpus: int = strawberry.field(description="GPUs.")


@strawberry.type(description="How often another attempt follows those that ended for a reason.")
class RetryRule:
    """A rule."""

    reason: EndReason = strawberry.field(description="Why they ended.")
    times: int = strawberry.field(description="How many of them are followed by another.")
    memory_factor: float = strawberry.field(
        description="After OUT_OF_MEMORY: so many times the memory for the next."
    )
    most_memory_bytes: Int64 | None = strawberry.field(description="No more than this; null for no bound.")

    @classmethod
    def of(cls, rule: policies.Rule) -> "RetryRule":
        """A rule as the API shows it."""
        most = rule.most_memory_bytes
        return cls(
            reason=rule.reason,
            times=rule.times,
            memory_factor=rule.memory_factor,
            most_memory_bytes=None if most is None else Int64(most),
        )


@strawberry.type
class Declared:
    """What a manifest says of a function, installed or not."""

    name: str = strawberry.field(description="Unique in its module.")
    description: str = strawberry.field(description="What it does.")
    command: list[str] = strawberry.field(description="What is run, word by word.")
    options: list[Option] = strawberry.field(description="Its parameters.")
    accepts: list[Accept] = strawberry.field(description="Files it takes; empty: any.")
    output_tags: list[OutputTag] = strawberry.field(description="Tags it puts on what it makes; empty: any.")
    resources: Resources = strawberry.field(description="What one worker asks for.")
    workers: int = strawberry.field(description="How many run together.")
    timeout_seconds: float | None = strawberry.field(description="How long an attempt may take.")
    retries: int = strawberry.field(
        description="Attempts after the first, where EXIT_CODE, OUT_OF_MEMORY, PREEMPTED or LOST ended the last."
    )
    retry: list[RetryRule] = strawberry.field(description="Attempts after certain ends, one rule a reason.")
    environment: JSON = strawberry.field(description="Variables set for it.")
    secrets: list[str] = strawberry.field(description="The project's secrets it is given as variables.")
    creates_files: bool | None = strawberry.field(
        description="Whether it makes new files; a job of one that does not and did ends BAD_OUTPUT."
    )
    modifies_files: bool | None = strawberry.field(description="Whether it makes new states of its inputs.")
    network: bool = strawberry.field(description="Whether it asks for a network where containers have none.")


@strawberry.type(description="One callable of a module version.")
class Function(Declared, Node):
    """A function."""

    row: strawberry.Private[modules.Function]

    @classmethod
    def of(cls, row: modules.Function) -> "Function":
        said = declared(manifests.decode_function(row.spec))
        return cls(row=row, id=public("function", row.id), **said)

    @strawberry.field(description="The module it belongs to.")
    async def module(self, info: Info) -> Annotated["Module", strawberry.lazy("graph.modules")]:
        found: Module = await nodes.get(info.context, "module", self.row.module_id)
        return found

    @strawberry.field(description="The version it belongs to.")
    async def version(
        self, info: Info
    ) -> Annotated["ModuleVersion", strawberry.lazy("graph.module_versions")]:
        found: ModuleVersion = await nodes.get(info.context, "version", self.row.version_id)
        return found

    @strawberry.field(description="module/function, as steps name it.")
    async def address(self, info: Info) -> str:
        found: Module = await nodes.get(info.context, "module", self.row.module_id)
        return f"{found.name}/{self.name}"


@strawberry.input(description="Which functions.")
class FunctionFilter:
    """A filter."""

    module: strawberry.ID | None = strawberry.field(default=None, description="Of this module.")


@loads("function")
async def load_functions(context: Context, keys: list[bytes]) -> list[Function | None]:
    """Functions by key."""
    async with context.database.read() as session:
        rows = await modules.find_functions(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Function.of)


async def of_versions(context: Context, keys: list[bytes]) -> list[list[Function]]:
    async with context.database.read() as session:
        rows = await modules.functions_of(session, keys)
    return nodes.by_owner(keys, rows, lambda row: row.version_id, Function.of)


def declared(spec: manifests.Function) -> dict[str, Any]:
    """The fields of Declared."""
    return {
        "name": spec.name,
        "description": spec.description,
        "command": list(spec.command),
        "options": [_option(option) for option in spec.options],
        "accepts": [_accept(accept) for accept in spec.accepts],
        "output_tags": [OutputTag(name=tag.name, type=tag.type.value) for tag in spec.output_tags],
        "resources": resources_of(spec.resources),
        "workers": spec.workers,
        "timeout_seconds": spec.timeout_seconds,
        "retries": spec.retries,
        "retry": [RetryRule.of(rule) for rule in spec.retry.rules],
        "environment": JSON(dict(spec.environment)),
        "secrets": list(spec.secrets),
        "creates_files": spec.creates_files,
        "modifies_files": spec.modifies_files,
        "network": spec.network,
    }


def _option(option: manifests.Option) -> Option:
    return Option(
        name=option.name,
        type=option.type,
        required=option.required,
        default=None if option.default is None else JSON(option.default),
        minimum=option.minimum,
        maximum=option.maximum,
        values=list(option.values) or None,
        doc=option.doc,
    )


def _accept(accept: manifests.Accept) -> Accept:
    required = list(accept.required_tags)
    return Accept(types=list(accept.types), required_tags=required, tags=JSON(dict(accept.tags)))


def resources_of(given: Any) -> Resources:
    """Of a function, or of a job's row."""
    memory = None if given.memory_bytes is None else Int64(given.memory_bytes)
    return Resources(cpus=given.cpus, memory_bytes=memory, gpus=given.gpus)


@strawberry.type
class FunctionQuery:
    """Finding functions."""

    @strawberry.field(description="Functions of active versions, newest first.")
    async def functions(
        self,
        info: Info,
        first: paging.First = None,
        after: paging.After = None,
        last: paging.Last = None,
        before: paging.Before = None,
        filter: FunctionFilter | None = None,
    ) -> Connection[Function]:
        page = paging.page(first, after, last, before)
        module = None if filter is None or filter.module is None else key("module", filter.module, "filter")
        async with info.context.database.read() as session:
            rows = await modules.list_functions(session, info.context.viewer, page, module_id=module)
        return paging.connect(rows, lambda row: row.id, Function.of)
