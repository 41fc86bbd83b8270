"""`rungraph module versions`, `use`, `diff` and `remove`: a module's states, which one runs use, and its end."""

import json
from typing import Annotated, Any

import typer

from rungraph import values
from rungraph.api import Client
from rungraph.errors import ApiError
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.wording import local_time, printable

FIND = """query FindModule($id: ID, $name: String) {
  module(id: $id, name: $name) { id name removedAt activeVersion { id number } }
}"""

VERSIONS = """query ModuleVersions($id: ID, $first: Int, $after: String) {
  module(id: $id) {
    versions(first: $first, after: $after) {
      nodes { id number source ref folder commit digest state createdAt preparations { state message } }
      pageInfo { hasNextPage endCursor }
    }
  }
}"""

ACTIVATE = """mutation ActivateModuleVersion($input: ActivateModuleVersionInput!) {
  activateModuleVersion(input: $input) {
    version { id number module { id name } }
    errors { code message path retryable }
  }
}"""

REMOVE = """mutation RemoveModule($input: RemoveModuleInput!) {
  removeModule(input: $input) {
    module { id name removedAt }
    pipelines
    errors { code message path retryable }
  }
}"""

CHANGES = """query ModuleVersionChanges($to: ID!, $from: ID!) {
  node(id: $to) {
    ... on ModuleVersion {
      changesFrom(version: $from) {
        changes { field before after }
        functionsAdded functionsRemoved
        functionsChanged {
          name changes { field before after }
          optionsAdded optionsRemoved optionsChanged { name changes { field before after } }
        }
      }
    }
  }
}"""

ModuleWord = Annotated[str, typer.Argument(metavar="MODULE", help="A module's name or id.")]


def add_to(app: typer.Typer) -> None:
    """Gives the noun these verbs."""
    app.command("versions")(versions)
    app.command("use")(use)
    app.command("diff")(diff)
    app.command("remove")(remove)


def versions(ctx: typer.Context, module: ModuleWord) -> None:
    """List the versions of a module, newest first; the one that new runs use has a star."""

    async def action(client: Client, output: Output) -> None:
        found = await get(client, module)
        listed = await _versions(client, found)
        active = (found["activeVersion"] or {}).get("id")
        if output.as_json:
            output.document([{**version, "active": version["id"] == active} for version in listed])
        else:
            columns = ("VERSION", "STATE", "SOURCE", "COMMIT", "CREATED", "ID")
            output.table(columns, (_row(version, active) for version in listed))

    perform(ctx, action)


def use(
    ctx: typer.Context,
    module: ModuleWord,
    number: Annotated[int, typer.Argument(metavar="VERSION", help="Its number.")],
) -> None:
    """Choose the version that new runs use, until a newer one is installed."""

    async def action(client: Client, output: Output) -> None:
        version = await _numbered(client, await get(client, module), number)
        answer = await client.execute(ACTIVATE, {"input": {"id": version["id"]}})
        active = answer["activateModuleVersion"]["version"]
        if output.as_json:
            output.document(active)
        output.write(f"new runs use {printable(active['module']['name'])} version {active['number']}")

    perform(ctx, action)


def diff(
    ctx: typer.Context,
    module: ModuleWord,
    before: Annotated[int, typer.Argument(metavar="VERSION", help="The number of the one version.")],
    after: Annotated[
        int | None,
        typer.Argument(metavar="OTHER", help="That of the other; the one in use if not given."),
    ] = None,
) -> None:
    """Show what two versions differ in: functions, their options, and what runs them."""

    async def action(client: Client, output: Output) -> None:
        found = await get(client, module)
        number = after if after is not None else (found["activeVersion"] or {}).get("number")
        if number is None:
            raise ApiError("NOT_FOUND", f"no version of {module} is in use: say which two to compare")
        pair = [await _numbered(client, found, each) for each in (before, number)]
        answer = await client.execute(CHANGES, {"from": pair[0]["id"], "to": pair[1]["id"]})
        changes = answer["node"]["changesFrom"]
        if output.as_json:
            output.document(changes)
        same = (
            "no difference"
            if pair[0]["id"] == pair[1]["id"]
            else "the same functions and options; files differ"
        )
        for line in _lines(changes) or [same]:
            output.write(printable(line))

    perform(ctx, action)


def remove(
    ctx: typer.Context,
    module: ModuleWord,
    force: Annotated[bool, typer.Option("--insist", "--force", help="Also when pipelines use it.")] = False,
) -> None:
    """Remove a module; what was run with it stays readable."""

    async def action(client: Client, output: Output) -> None:
        found = await get(client, module)
        answer = await client.execute(REMOVE, {"input": {"id": found["id"], "insist": force}})
        removed = answer["removeModule"]
        if output.as_json:
            output.document({**removed["module"], "pipelines": removed["pipelines"]})
        output.write(f"{printable(removed['module']['name'])} is removed")
        for name in removed["pipelines"]:
            output.write(f"pipeline {printable(name)} has steps that now find no function")

    perform(ctx, action)


async def get(client: Client, word: str) -> dict[str, Any]:
    """The module of an id or a name; raises ApiError NOT_FOUND."""
    variables = {"id" if values.is_id("module", word) else "name": word}
    module: dict[str, Any] | None = (await client.execute(FIND, variables))["module"]
    if module is None:
        raise ApiError("NOT_FOUND", f"there is no module “{word}”: see `rungraph module list`")
    return module


async def _versions(client: Client, module: dict[str, Any]) -> list[dict[str, Any]]:
    return [v async for v in walk(client, VERSIONS, {"id": module["id"]}, ("module", "versions"))]


async def _numbered(client: Client, module: dict[str, Any], number: int) -> dict[str, Any]:
    for version in await _versions(client, module):
        if version["number"] == number:
            return version
    raise ApiError("NOT_FOUND", f"{module['name']} has no version {number}")


def _row(version: dict[str, Any], active: str | None) -> tuple[str, ...]:
    failed = any(entry["state"] == "FAILED" for entry in version["preparations"])
    star = "*" if version["id"] == active else ""
    state = "FAILED" if failed else version["state"]
    place = "#".join(filter(None, (version["source"], version["folder"])))
    commit = (version["commit"] or "")[:12]
    return f"{version['number']}{star}", state, place, commit, local_time(version["createdAt"]), version["id"]


def _lines(changes: dict[str, Any]) -> list[str]:
    """A line for everything that came (+), went (-) or changed (~), functions before their options."""
    lines = [f"~ {_changed(change)}" for change in changes["changes"]]
    lines += [f"+ function {name}" for name in changes["functionsAdded"]]
    lines += [f"- function {name}" for name in changes["functionsRemoved"]]
    for function in changes["functionsChanged"]:
        lines.append(f"~ function {function['name']}")
        lines += [f"    ~ {_changed(change)}" for change in function["changes"]]
        lines += [f"    + option {name}" for name in function["optionsAdded"]]
        lines += [f"    - option {name}" for name in function["optionsRemoved"]]
        for option in function["optionsChanged"]:
            told = ", ".join(_changed(change) for change in option["changes"])
            lines.append(f"    ~ option {option['name']}: {told}")
    return lines


def _changed(change: dict[str, Any]) -> str:
    before, after = (json.dumps(change[key], ensure_ascii=False) for key in ("before", "after"))
    return f"{change['field']} {before} → {after}"
