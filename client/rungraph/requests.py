"""What is asked of a pipeline, as words of the command: the same for `run start` and `schedule create`."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from rungraph import datasets, files, sources, values
from rungraph.api import Client
from rungraph.output import Output

Words = list[str] | None

Settings = Annotated[
    Words, typer.Option("--set", metavar="STEP.OPTION=VALUE", help="JSON, or else a word; repeatable.")
]
Ask = Annotated[
    Words,
    typer.Option(metavar="STEP.RESOURCE=N", help="workers, cpus, memoryBytes or gpus of each; repeatable."),
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
    typer.Option("--file", metavar="PATH_OR_ID", help="An input: a file here, which is uploaded, or an id."),
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
    str, typer.Option(metavar="NAME", help="Where it runs: `rungraph backend list`; else the first of those.")
]
Priority = Annotated[int, typer.Option(help="Higher ones start first.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop all at the first failure.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do all anew, whatever has been done before.")]

_UNSAID: dict[str, Any] = {"name": "", "priority": 0, "failFast": False, "cache": True, "backend": ""}
"""What the server takes for a field that is left out; [] for all others."""


@dataclass(frozen=True, slots=True)
class Given:
    """What was said of a request."""

    settings: Words = None
    ask: Words = None
    retry: Words = None
    file: Words = None
    dataset: Words = None
    source: Words = None
    tags: Words = None
    name: str = ""
    priority: int = 0
    fail_fast: bool = False
    no_cache: bool = False
    backend: str = ""

    def plain(self) -> dict[str, Any]:
        """What of it needs no server, as the API takes it; raises BadUsage."""
        options = values.arguments(self.settings or [])
        wanted: dict[str, Any] = {
            "arguments": [{"step": step, "arguments": given} for step, given in options.items()],
            "resources": values.resources(self.ask or []),
            "retry": values.retry(self.retry or []),
            "tags": values.tags(self.tags or []),
            "name": self.name,
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


def _said(wanted: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in wanted.items() if value != _UNSAID.get(field, [])}
