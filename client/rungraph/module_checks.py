"""`rungraph module check` and `init`: what a module says of itself before it is installed, and one to begin with.

A check is done by the server, which knows the formats; what it cannot see is uploaded first, as for `add`.
`init` needs no server: it writes a module that installs and runs as it is.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rungraph import exits, invocation, module_sources, settings
from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.module_sources import Folder, Name, Ref, Source, Submodules, Upload, Wanted
from rungraph.modules import problem_line
from rungraph.output import Output
from rungraph.wording import printable

CHECK = """mutation CheckModule($input: CheckModuleInput!) {
  checkModule(input: $input) {
    check {
      installable message commit format name title tagline description needsContainer
      problems { file line column path rule message }
      notes { file line column path rule message }
      functions {
        name description command workers timeoutSeconds retries createsFiles modifiesFiles
        options { name type required default minimum maximum values doc }
        accepts { types requiredTags tags }
        outputTags { name type }
        resources { cpus memoryBytes gpus }
      }
    }
    errors { code message path retryable }
  }
}"""

_FORMATS = {
    "RUNGRAPH": "rungraph.yaml",
    "MLSPLOIT": "mlsploit_module.yaml",
    "MLSPLOIT_SCHEMAS": "input.schema and output.schema",
}

MANIFEST = """# yaml-language-server: $schema={url}/schema/rungraph.yaml.json
name: {name}
title: {title}
description: What it is for.
functions:
  main:
    description: Counts steps, tells a metric of each, and writes a file.
    command: [python, main.py]        # a list, never a string
    options:
      steps: {{default: 5, min: 1, max: 1000, doc: how many steps}}
      style: [plain, loud]            # an enum, the first is the default
    timeout: 10m
    # requirements, accepted files, resources and retries: see the schema above
"""

SCRIPT = '''"""What the function main runs: reads input.json, prints metrics as lines of JSON, writes an output."""

import json
import os
from pathlib import Path

job = json.loads(Path(os.environ["RUNGRAPH_INPUT"], "input.json").read_text())
options = job["options"]
loss = 1.0
for step in range(options["steps"]):
    loss *= 0.5
    print(json.dumps({"metric": {"loss": loss}, "step": step}), flush=True)
told = f"{len(job['files'])} files, loss {loss}"
print(told.upper() if options["style"] == "loud" else told)
Path(os.environ["RUNGRAPH_OUTPUT"], "report.txt").write_text(told + "\\n")
'''


def add_to(app: typer.Typer) -> None:
    """Gives the noun these verbs."""
    app.command("check")(check)
    app.command("init")(init)


def check(
    ctx: typer.Context,
    source: Source,
    ref: Ref = None,
    folder: Folder = None,
    submodules: Submodules = False,
    name: Name = None,
    upload: Upload = False,
) -> None:
    """Explain a module without installing it: its functions, what is wrong, what is unusual."""
    wanted = Wanted(source, ref, folder, submodules, name, upload)

    async def action(client: Client, output: Output) -> int:
        given = await module_sources.described(client, output, wanted)
        answer = await client.execute(CHECK, {"input": given})
        found: dict[str, Any] = answer["checkModule"]["check"]
        if output.as_json:
            output.document(found)
        for line in _lines(found):
            output.write(printable(line))
        return exits.OK if found["installable"] else exits.FAILED

    invocation.perform(ctx, action)


def init(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where; here if not given.")] = Path(),
    name: Name = None,
) -> None:
    """Write a small module that installs and runs, to begin with."""

    async def main(output: Output) -> None:
        url = settings.find(invocation.of(ctx).url, invocation.of(ctx).token).url
        written = write(folder.expanduser().resolve(), name, url)
        if output.as_json:
            output.document([str(path) for path in written])
        for path in written:
            output.write(str(path))
        output.say(f"next: rungraph module add {_typed(folder)}")

    invocation.run(ctx, main)


def _typed(folder: Path) -> str:
    """A folder as `module add` takes it for one: `hello` alone would be the name of a module."""
    text = str(folder)
    named = folder.is_absolute() or text.startswith(("~", "."))
    return shlex.quote(text if named else f"./{text}")


def write(folder: Path, name: str | None, url: str) -> list[Path]:
    """Writes a module into a folder, over nothing that is there; what it wrote."""
    called = name or re.sub(r"^[^a-z]+|[-_]+$", "", re.sub(r"[^a-z0-9_]+", "-", folder.name.lower()))[:63]
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", called):
        raise BadUsage(
            f"“{called}” is no name for a module: give --name, in lower-case letters, digits, _ and -"
        )
    manifest = MANIFEST.format(url=url, name=called, title=called.replace("-", " ").capitalize())
    contents = {"rungraph.yaml": manifest, "main.py": SCRIPT}
    if there := [each for each in contents if (folder / each).exists()]:
        raise BadUsage(f"{folder} has a {there[0]} already; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for each, content in contents.items():
        (folder / each).write_text(content, encoding="utf-8")
    return [folder / each for each in contents]


def _lines(found: dict[str, Any]) -> Iterator[str]:
    if found["format"]:
        about = ": ".join(filter(None, (found["title"], found["tagline"] or found["description"])))
        commit = f" at commit {found['commit'][:12]}" if found["commit"] else ""
        yield f"{found['name']} ({_FORMATS[found['format']]}{commit}){'  ' if about else ''}{about}"
    for function in found["functions"]:
        yield f"  {function['name']}  {function['description']}".rstrip()
        yield from (f"    {line}" for line in _of_function(function))
    for note in found["notes"]:
        yield f"note: {problem_line(note)}"
    for problem in found["problems"]:
        yield problem_line(problem)
    if not found["installable"]:
        yield f"it cannot be installed: {found['message']}"
    elif found["needsContainer"]:
        yield "it can be installed; it states no command, so only a backend of containers can run it"
    else:
        yield "it can be installed"


def _of_function(function: dict[str, Any]) -> Iterator[str]:
    for option in function["options"]:
        yield _of_option(option)
    if function["accepts"]:
        yield f"takes {', or '.join(map(_accepted, function['accepts']))}"
    if function["outputTags"]:
        tags = (f"{tag['name']} ({tag['type']})" for tag in function["outputTags"])
        yield f"puts tags {', '.join(tags)}"
    stated = {"creates": function["createsFiles"], "modifies": function["modifiesFiles"]}
    for verb, truth in stated.items():
        if truth is not None:
            yield f"{verb} files" if truth else f"{verb} no files"
    if function["command"]:
        yield f"runs {' '.join(function['command'])}"


def _of_option(option: dict[str, Any]) -> str:
    kind = option["type"].lower() if option["type"] != "ENUM" else " | ".join(option["values"])
    value = option["default"]
    default = "required" if option["required"] else "optional" if value is None else f"default {value}"
    bounds = [
        f"{word} {option[key]:g}"
        for key, word in (("minimum", "min"), ("maximum", "max"))
        if option[key] is not None
    ]
    doc = f"  {option['doc']}" if option["doc"] else ""
    return f"{option['name']}: {', '.join((kind, default, *bounds))}{doc}"


def _accepted(accept: dict[str, Any]) -> str:
    types = " or ".join(f".{each}" for each in accept["types"]) or "any file"
    exact = [f"{tag}={value}" for tag, value in accept["tags"].items()]
    tags = [*exact, *(tag for tag in accept["requiredTags"] if tag not in accept["tags"])]
    return f"{types} tagged {', '.join(tags)}" if tags else types
