"""What a job is given and what it hands on: two folders, input.json in the one, output.json in the other.

The standard library alone; copy it into a module of your own, or write these lines in any other language.
"""

import json
import os
from pathlib import Path
from typing import Any

INPUT = Path(os.environ.get("RUNGRAPH_INPUT", "/mnt/input"))
OUTPUT = Path(os.environ.get("RUNGRAPH_OUTPUT", "/mnt/output"))


def read() -> dict[str, Any]:
    """The document of this job: `options` by name, `files` and their `tags` in parallel."""
    document: dict[str, Any] = json.loads((INPUT / "input.json").read_text(encoding="utf-8"))
    return document


def tagged(document: dict[str, Any], tag: str) -> dict[Any, str]:
    """The names of the input files that carry the tag, by its value."""
    pairs = zip(document["files"], document["tags"], strict=True)
    return {tags[tag]: name for name, tags in pairs if tag in tags}


def report(step: int | None = None, **metrics: float) -> None:
    """A line of JSON on standard output becomes a point of every series that it names."""
    line: dict[str, Any] = {"metric": metrics}
    if step is not None:
        line["step"] = step
    print(json.dumps(line), flush=True)


def hand_on(name: str, created: dict[str, dict[str, Any]], unchanged: tuple[str, ...] = ()) -> None:
    """Say which files this job made, with their tags, and which of its inputs go on as they are."""
    document = {
        "name": name,
        "files": [*created, *unchanged],
        "files_created": list(created),
        "files_modified": [],
        "tags": [*created.values(), *({} for _ in unchanged)],
    }
    (OUTPUT / "output.json").write_text(json.dumps(document), encoding="utf-8")
