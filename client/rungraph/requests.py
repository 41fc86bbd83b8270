"""What is asked of a pipeline, as words of the command: the same for starting runs and for schedules."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from rungraph import datasets, files, sources, values
from rungraph.api import Client
from rungraph.output import Output

Words = list[str] | None

FIELDS = """name priority failFast cache backend files sources tags { name value }
  arguments { step arguments } resources { step workers cpus memoryBytes gpus }
  retry { reason times memoryFactor mostMemoryBytes } datasets { dataset version parts }"""
"""What the API tells of a request."""

Settings = Annotated[
    Words, typer.Option("--set", metavar="STEP.OPTION=VALUE", help="JSON, or else a word; repeatable.")
]
Ask = Annotated[
    Words,
    typer.Option(metavar="STEP.RESOURCE=N", help="workers, cpus, memory (4GiB) or gpus of each; repeatable."),
]
Retry = Annotated[
    Words,
    typer.Option(
        metavar="REASON=TIMES[,…]",
        help="So many more attempts after those that ended so: EXIT_CODE=3, OUT_OF_MEMORY=2,memory=2 with "
        "twice the memory each time, and most=64GiB for no more; repeatable.",
    ),
]
Inputs = Annotated[
    Words,
    typer.Option(
        "--file", metavar="PATH_OR_ID", help="An input: a file here, which is uploaded, or an id; repeatable."
    ),
]
Datasets = Annotated[
    Words,
    typer.Option(
        "--dataset", metavar="NAME[@VERSION][:PART,…]", help="A dataset, its latest version; repeatable."
    ),
]
Sources = Annotated[
    Words,
    typer.Option(
        "--source", metavar="NAME_OR_ID", help="A data source that jobs read themselves; repeatable."
    ),
]
Tags = Annotated[Words, typer.Option("--tag", metavar="NAME=VALUE", help="A tag; repeatable.")]
Backend = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Where it runs: `rungraph backend list`; else the first that is configured."
    ),
]
Priority = Annotated[int | None, typer.Option(help="Higher ones start first; else 0.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop all at the first failure.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do all anew, whatever has been done before.")]

_UNSAID: dict[str, Any] = {"name": "", "priority": None, "failFast": False, "cache": True, "backend": ""}
"""What the server takes for a field that is left out; [] for all others."""


@dataclass(frozen=True, slots=True)
class Given:
    """What was said of a request: a group of options (groups.py)."""

    set_: Settings = None
    ask: Ask = None
    retry: Retry = None
    file: Inputs = None
    dataset: Datasets = None
    source: Sources = None
    backend: Backend = ""
    tag: Tags = None
    priority: Priority = None
    fail_fast: FailFast = False
    no_cache: NoCache = False

    def plain(self, name: str = "") -> dict[str, Any]:
        """What of it needs no server, with the name of what is started, as the API takes it; raises BadUsage."""
        options = values.arguments(self.set_ or [])
        wanted: dict[str, Any] = {
            "arguments": [{"step": step, "arguments": given} for step, given in options.items()],
            "resources": values.resources(self.ask or []),
            "retry": values.retry(self.retry or []),
            "tags": values.tags(self.tag or []),
            "name": name,
            "priority": self.priority,
            "failFast": self.fail_fast,
            "cache": not self.no_cache,
            "backend": self.backend,
        }
        return _said(wanted)

    async def inputs(self, client: Client, output: Output) -> dict[str, Any]:
        """The rest; what is a path is uploaded last, so that a mistake uploads nothing."""
        wanted = {
            "datasets": await datasets.uses(client, self.dataset or []),
            "sources": [(await sources.get(client, word))["id"] for word in self.source or []],
            "files": await files.ids_of(client, output, self.file or []),
        }
        return _said(wanted)


def words(run: dict[str, Any]) -> str:
    """What the API tells of a request, as the options that say it."""
    return " ".join(f"{option} {shlex.quote(text)}" if text else option for option, text in _options(run))


def _options(run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for step in run["arguments"]:
        for name, given in step["arguments"].items():
            yield "--set", f"{step['step']}.{name}={values.word(given)}"
    for step in run["resources"]:
        for name in values.RESOURCES:
            if step[name] is not None:
                yield (
                    "--ask",
                    f"{step['step']}.{name.removesuffix('Bytes')}={values.word(step[name]).removesuffix('.0')}",
                )
    yield from (("--retry", values.rule(rule)) for rule in run["retry"])
    yield from (("--file", file) for file in run["files"])
    for use in run["datasets"]:
        yield (
            "--dataset",
            ":".join([use["dataset"] or use["version"], *filter(None, [",".join(use["parts"])])]),
        )
    yield from (("--source", source) for source in run["sources"])
    yield from (("--tag", f"{tag['name']}={tag['value']}") for tag in run["tags"])
    once = {"--backend": run["backend"], "--run-name": run["name"], "--priority": run["priority"]}
    yield from ((option, str(said)) for option, said in once.items() if said)
    flags = {"--fail-fast": run["failFast"], "--no-cache": not run["cache"]}
    yield from ((option, "") for option, said in flags.items() if said)


def _said(wanted: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in wanted.items() if value != _UNSAID.get(field, [])}
