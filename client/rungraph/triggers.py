"""When a schedule fires, as words of the command: one of --cron, --every, --on-file and --after, and its parts."""

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from rungraph import pipelines, values
from rungraph.api import Client
from rungraph.errors import BadUsage

Document = dict[str, Any]


class End(StrEnum):
    """What --after-state takes."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


FIELDS = """trigger { __typename
    ... on CronTrigger { expression timeZone }
    ... on IntervalTrigger { everySeconds anchorAt }
    ... on FileTrigger { kinds name tags batchSeconds }
    ... on RunTrigger { states outputs steps pipeline { id name } } }"""

PARTS = {
    "zone": ("cron", "timeZone"),
    "file-tag": ("file", "tags"),
    "made": ("file", "kinds"),
    "batch": ("file", "batchSeconds"),
    "after-state": ("after", "states"),
    "outputs": ("after", "outputs"),
}
"""Options that say a part of a trigger, and what the API calls the trigger and the part."""

_HEADS = {
    "cron": ("--cron", "expression"),
    "interval": ("--every", "everySeconds"),
    "file": ("--on-file", "name"),
    "after": ("--after", "pipeline"),
}
_KINDS = {"CronTrigger": "cron", "IntervalTrigger": "interval", "FileTrigger": "file", "RunTrigger": "after"}


@dataclass(frozen=True, slots=True)
class Trigger:
    """What was said of it: a group of options (groups.py)."""

    cron: Annotated[str, typer.Option(help="A cron expression, or @daily and the like.")] = ""
    zone: Annotated[str, typer.Option(help="The cron's IANA time zone; else UTC.")] = ""
    every: Annotated[
        str, typer.Option(metavar="DURATION", help="An interval: 30s, 1.5h, 1h30m, 1d, counted anew.")
    ] = ""
    on_file: Annotated[str, typer.Option(metavar="PATTERN", help="For each file that arrives.")] = ""
    file_tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag that the file has; repeatable.")
    ] = None
    made: Annotated[bool, typer.Option("--made", help="Files that jobs make, instead of uploads.")] = False
    batch: Annotated[
        str, typer.Option(metavar="DURATION", help="Files that come within so long are one run.")
    ] = ""
    after: Annotated[str, typer.Option(metavar="PIPELINE", help="When a run of this one has ended.")] = ""
    after_state: Annotated[
        list[End] | None, typer.Option(case_sensitive=False, help="In these states; else SUCCEEDED.")
    ] = None
    outputs: Annotated[bool, typer.Option("--outputs", help="Give it that run's outputs.")] = False

    def one(self) -> str:
        """The flag that says when, "" for none; raises BadUsage for two."""
        said = {"--cron": self.cron, "--every": self.every, "--on-file": self.on_file, "--after": self.after}
        flags = [flag for flag, word in said.items() if word]
        if len(flags) > 1:
            raise BadUsage(
                f"give exactly one of --cron, --every, --on-file and --after, not {' and '.join(flags)}"
            )
        return flags[0] if flags else ""

    async def asked(self, client: Client, had: Document, forgotten: Set[str] = frozenset()) -> Document:
        """What the API takes of it, on top of what a schedule `had`; {} if nothing is said. Raises BadUsage."""
        flag, said = self.one(), await self._said(client)
        (chosen,) = [kind for kind, (head, _) in _HEADS.items() if head == flag] or had
        about = said.keys() | {PARTS[option][0] for option in forgotten}
        for kind in about - {chosen}:
            raise BadUsage(f"{self._part_of(kind, forgotten)} goes with {_HEADS[kind][0]}")
        return {kind: {**_kept(kind, said, had, forgotten), **said.get(kind, {})} for kind in about}

    async def _said(self, client: Client) -> dict[str, Document]:
        tags = values.pairs(self.file_tag or [], "--file-tag", "name=value")
        other = (await pipelines.get(client, self.after))["id"] if self.after else None
        parts: dict[str, Document] = {
            "cron": {"expression": self.cron, "timeZone": self.zone},
            "interval": {"everySeconds": self.every and values.seconds(self.every, "--every")},
            "file": {
                "name": self.on_file,
                "tags": {name: values.value(text) for name, text in tags},
                "kinds": ["OUTPUT"] if self.made else [],
                "batchSeconds": values.seconds(self.batch, "--batch") if self.batch else None,
            },
            "after": {
                "pipeline": other,
                "states": [state.value for state in self.after_state or []],
                "outputs": self.outputs,
            },
        }
        said = {kind: {k: v for k, v in part.items() if _is_said(v)} for kind, part in parts.items()}
        return {kind: part for kind, part in said.items() if part}

    def _part_of(self, kind: str, forgotten: Set[str]) -> str:
        options = [option for option, (of, _) in PARTS.items() if of == kind]
        given = next((f"--{name}" for name in options if getattr(self, name.replace("-", "_"))), None)
        return given or next(f"--reset {name}" for name in options if name in forgotten)


def input_of(trigger: Document) -> Document:
    """A schedule's trigger as the API takes one."""
    kind = _KINDS[trigger["__typename"]]
    said = {name: part for name, part in trigger.items() if name != "__typename" and part is not None}
    if kind == "after":
        said["pipeline"] = said["pipeline"]["id"] if "pipeline" in said else None
    return {kind: said}


def _kept(kind: str, said: Document, had: Document, forgotten: Set[str]) -> Document:
    before: Document = had.get(kind, {})
    gone = {PARTS[option][1] for option in forgotten}
    if "everySeconds" in said.get(kind, {}):
        gone |= {"anchorAt"}
    if said.get(kind, {}).get("pipeline", before.get("pipeline")) != before.get("pipeline"):
        gone |= {"steps"}  # they are the other pipeline's
    return {name: part for name, part in before.items() if name not in gone}


def _is_said(part: Any) -> bool:
    return part is not None and part is not False and part not in ("", [], {})
