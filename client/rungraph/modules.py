"""`rungraph module`: installing bundles of functions and listing them.

Installing is work of the server's: `install` asks for it, then shows the preparation's log from the version's
own feed until it is usable or has failed. How a source gets to the server is in module_sources.py.
"""

from contextlib import aclosing
from typing import Annotated, Any

import typer

from rungraph import exits, module_sources
from rungraph.api import Client
from rungraph.invocation import perform
from rungraph.module_sources import Folder, Name, Ref, Source, Submodules, Upload, Wanted
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.screens import log_text
from rungraph.wording import local_time, printable

app = typer.Typer(help="Install and list modules.", no_args_is_help=True)

INSTALL = """mutation InstallModule($input: InstallModuleInput!) {
  installModule(input: $input) {
    version { id number state }
    errors { code message path retryable }
  }
}"""

WATCH = """subscription WatchModuleVersion($id: ID!, $after: Int64) {
  moduleVersion(id: $id, after: $after) {
    __typename
    ... on FeedEvent { seq }
    ... on ModuleVersionChanged { at state }
    ... on LinesAdded { lines { time stream text } }
    ... on FeedTruncated { resumeFrom }
  }
}"""

VERSION = """query ModuleVersion($id: ID!) {
  node(id: $id) {
    ... on ModuleVersion {
      id number source ref folder commit digest state message
      module { id name }
      sameAs { id }
      problems { file line column path rule message }
      notes { file line column path rule message }
      functions { name address description }
      preparations { backend { name } state message }
    }
  }
}"""

MODULES = """query Modules($first: Int, $after: String) {
  modules(first: $first, after: $after) {
    nodes { id name description createdAt activeVersion { id number state functions { address } } }
    pageInfo { hasNextPage endCursor }
  }
}"""


@app.command("add")
def add(
    ctx: typer.Context,
    source: Source,
    ref: Ref = None,
    folder: Folder = None,
    submodules: Submodules = False,
    name: Name = None,
    upload: Upload = False,
    wait: Annotated[bool, typer.Option(help="Watch until the module is usable or has failed.")] = True,
) -> None:
    """Install a module from a folder, an archive or a git repository, and show how its preparation goes."""
    wanted = Wanted(source, ref, folder, submodules, name, upload)
    perform(ctx, lambda client, output: _add(client, output, wanted, wait))


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the modules with their active versions."""
    perform(ctx, _list)


async def install(client: Client, output: Output, wanted: Wanted) -> dict[str, Any]:
    """Installs a module and shows its log until that has ended; the version that is used from now on."""
    requested = await request_install(client, output, wanted)
    output.farewell = f"the installation goes on: rungraph module add {wanted.source} shows it again"
    version = await _followed(client, output, requested["id"])
    if version["sameAs"]:
        # It may still be under way for whoever installed it first.
        version = {**await _followed(client, output, version["sameAs"]["id"], shown=False), "unchanged": True}
    output.farewell = ""
    return version


async def request_install(client: Client, output: Output, wanted: Wanted) -> dict[str, Any]:
    """Has the server begin an installation; the version, most likely FETCHING."""
    given = await module_sources.described(client, output, wanted)
    answer = await client.execute(INSTALL, {"input": given})
    version: dict[str, Any] = answer["installModule"]["version"]
    return version


async def _followed(client: Client, output: Output, version_id: str, *, shown: bool = True) -> dict[str, Any]:
    async with aclosing(client.follow(WATCH, {"id": version_id, "after": 0})) as events:
        async for event in events:
            if event["__typename"] == "LinesAdded" and shown:
                output.write(log_text(event))
    version: dict[str, Any] = (await client.execute(VERSION, {"id": version_id}))["node"]
    return version


def show_version(output: Output, version: dict[str, Any]) -> bool:
    """Says how an installation ended; whether it can be used."""
    for problem in version["problems"]:
        output.write(problem_line(problem))
    for note in version["notes"]:
        output.write(f"note: {problem_line(note)}")
    unprepared = [entry for entry in version["preparations"] if entry["state"] == "FAILED"]
    for entry in unprepared:
        output.write(f"{entry['backend']['name']}: {printable(entry['message'] or 'the preparation failed')}")
    name = version["module"]["name"] if version["module"] else version["source"]
    number = f" version {version['number']}" if version["number"] else ""
    state = "FAILED: it could not be prepared" if unprepared else version["state"]
    why = f": {printable(version['message'])}" if version["message"] else ""
    commit = f" (commit {version['commit'][:12]})" if version["commit"] else ""
    unchanged = ", unchanged" if version.get("unchanged") else ""
    output.write(f"{printable(name)}{number} {state}{why}{commit}{unchanged}")
    for function in version["functions"]:
        output.write(f"  {printable(function['address'])}  {printable(function['description'])}".rstrip())
    return version["state"] == "READY" and not unprepared


def problem_line(problem: dict[str, Any]) -> str:
    """A problem as compilers write it: file:line:column path rule message."""
    place = ":".join(str(problem[key]) for key in ("file", "line", "column")) if problem["file"] else ""
    return printable(" ".join(filter(None, (place, problem["path"], problem["rule"], problem["message"]))))


async def _add(client: Client, output: Output, wanted: Wanted, wait: bool) -> int:
    if not wait:
        version = await request_install(client, output, wanted)
        if output.as_json:
            output.document(version)
        output.write(f"{version['id']} {version['state']}")
        return exits.OK
    version = await install(client, output, wanted)
    usable = show_version(output, version)
    if output.as_json:
        output.document(version)
    return exits.OK if usable else exits.FAILED


async def _list(client: Client, output: Output) -> None:
    modules = [module async for module in walk(client, MODULES, {}, ("modules",))]
    if output.as_json:
        output.document(modules)
    else:
        output.table(("MODULE", "VERSION", "FUNCTIONS", "CREATED", "ID"), map(_row, modules))


def _row(module: dict[str, Any]) -> tuple[str, ...]:
    version = module["activeVersion"]
    number = str(version["number"]) if version else "none"
    functions = ", ".join(function["address"] for function in version["functions"]) if version else ""
    return module["name"], number, functions, local_time(module["createdAt"]), module["id"]
