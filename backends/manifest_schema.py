"""What may stand in rungraph.yaml, as JSON Schema: for editors, and the one list of its keys.

The reader takes its keys from here (manifests.py, manifest_options.py), so that no key is known to one of
them alone. An editor sees less than the reader: that a file exists, or that a default lies within its bounds,
takes more than a schema. `python -m backends.manifest_schema --write` writes docs/rungraph.schema.json.
"""

import json
import sys
from pathlib import Path
from typing import Any

from backends import durations
from db import policies
from db.manifests import MAX_INTEGER, OptionType, TagType
from db.module_sources import NAME

FILE = Path(__file__).parent.parent / "docs" / "rungraph.schema.json"
ADDRESS = "/schema/rungraph.yaml.json"

Schema = dict[str, Any]


def _list(what: str, item: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": item, "description": what, **more}


def _text(what: str, **more: Any) -> Schema:
    return {"type": "string", "description": what, **more}


def _whole(what: str, least: int, most: int, default: int) -> Schema:
    return {"type": "integer", "description": what, "minimum": least, "maximum": most, "default": default}


_SCALAR = {"type": ["string", "number", "boolean"]}
_WORDS = {"type": "string", "minLength": 1}
_DURATION = {
    "oneOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": rf"^({durations.PATTERN})$"},
    ]
}
_MEMORY = {
    "oneOf": [
        {"type": "integer", "minimum": 1 << 20},
        {"type": "string", "pattern": r"^\d+(\.\d+)? ?([KMGT]i?B?|B)?$"},
    ]
}

OPTION: dict[str, Schema] = {
    "type": {"enum": [kind.value for kind in OptionType], "description": "What values it takes."},
    "default": {**_SCALAR, "description": "What it is when not given; without one it is required."},
    "min": {"type": "number", "description": "The least value, of an int or float."},
    "max": {"type": "number", "description": "The greatest value, of an int or float."},
    "values": _list("The values of an enum.", _WORDS, minItems=1, uniqueItems=True),
    "doc": _text("What it means."),
    "required": {"type": "boolean", "description": "Whether a job cannot do without."},
}

RESOURCES: dict[str, Schema] = {
    "cpus": {"type": "number", "exclusiveMinimum": 0, "maximum": 100_000, "description": "Cores."},
    "memory": {**_MEMORY, "description": "An amount such as 512MiB or 2GiB."},
    "gpus": _whole("GPUs.", 0, 10_000, 0),
}

ACCEPT: dict[str, Schema] = {
    "types": _list("Ends of names, such as csv or tar.gz; none means any.", _WORDS),
    "tags": {
        "oneOf": [
            _list("Tags that must be there.", _WORDS),
            {
                "type": "object",
                "additionalProperties": _SCALAR,
                "description": "Tags and what they must say.",
            },
        ]
    },
}

RULE: dict[str, Schema] = {
    "times": _whole("Attempts after those that ended so.", 0, policies.MOST_TIMES, 1),
    "memory": {
        "type": "number",
        "minimum": 1,
        "maximum": policies.MOST_FACTOR,
        "description": "After OUT_OF_MEMORY: so many times what it had.",
    },
    "most": {**_MEMORY, "description": "After OUT_OF_MEMORY: no more memory than this."},
}
BACKOFF: dict[str, Schema] = {
    "first": {**_DURATION, "description": "Before the second attempt; doubled for each one more. 1 second."},
    "most": {**_DURATION, "description": "And at most. 1 minute."},
}
_TIMES = _whole("Attempts after those that ended so.", 0, policies.MOST_TIMES, 0)
RETRY: dict[str, Schema] = {
    **{
        reason.value: {
            "oneOf": [_TIMES, {"type": "object", "properties": RULE, "additionalProperties": False}]
        }
        for reason in policies.RULED
    },
    "backoff": {"type": "object", "properties": BACKOFF, "additionalProperties": False},
}

FUNCTION: dict[str, Schema] = {
    "description": _text("What it does."),
    "command": _list(
        "A program and its arguments; no shell reads it. An image may bring its own.",
        _SCALAR,
        minItems=1,
    ),
    "options": {
        "type": "object",
        "description": "Its parameters by name: a default, a type, a list of values, or all of it.",
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$"},
        "additionalProperties": {"$ref": "#/$defs/option"},
    },
    "accepts": _list("Files it takes; any without this.", {"oneOf": [_WORDS, {"$ref": "#/$defs/accept"}]}),
    "creates_files": {"type": "boolean", "description": "Whether it makes new files; held to what it says."},
    "modifies_files": {"type": "boolean", "description": "Whether it makes new states of its inputs."},
    "output_tags": {
        "type": "object",
        "description": "Tags it puts on its files, by name with their type; any without this.",
        "additionalProperties": {"enum": [kind.value for kind in TagType]},
    },
    "resources": {"$ref": "#/$defs/resources"},
    "workers": _whole("How many run together.", 1, 10_000, 1),
    "timeout": {**_DURATION, "description": "Of one attempt: 90s, 1.5h, 1h30m, or seconds."},
    "retries": _whole(
        "Attempts after the first, where EXIT_CODE, OUT_OF_MEMORY, PREEMPTED or LOST ended the last.",
        0,
        100,
        0,
    ),
    "retry": {"$ref": "#/$defs/retry"},
    "env": {
        "type": "object",
        "description": "Variables set for it.",
        "propertyNames": {"pattern": "^(?!RUNGRAPH_)[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": _SCALAR,
    },
    "network": {"type": "boolean", "description": "Whether it needs a network, where containers have none."},
    "secrets": _list("Names of the project's secrets that it is given as variables.", _WORDS),
}

MODULE: dict[str, Schema] = {
    "name": _text("What steps call it: name/function.", pattern=f"^{NAME.pattern}$"),
    "title": _text("Its name for people.", maxLength=100),
    "tagline": _text("What it is in a few words.", maxLength=200),
    "description": _text("What it is for."),
    "icon": _text("The address of a picture.", pattern=r"^https?://[^\s/]+/\S+$"),
    "tags": _list("Words to find it by.", _WORDS, uniqueItems=True),
    "image": _text("The image its functions run in, on a backend of containers."),
    "dockerfile": _text("The file in its folder that such an image is built from."),
    "python": {"type": ["string", "number"], "description": 'A version or a range: "3.12", ">=3.11".'},
    "requirements": {
        "oneOf": [
            _list("Python requirements, as pip takes them.", _WORDS),
            _text("The name of a file of them."),
        ]
    },
    "functions": {
        "type": "object",
        "description": "What it brings, by name.",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": {"$ref": "#/$defs/function"},
    },
}


def document() -> Schema:
    """The schema of rungraph.yaml."""
    short = [{"type": ["boolean", "string"]}, {"type": "number", "maximum": MAX_INTEGER}, OPTION["values"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rungraph.yaml",
        "description": "What a module says of itself.",
        **_object(MODULE),
        "required": ["name", "functions"],
        "not": {"required": ["image", "dockerfile"]},
        "$defs": {
            "function": {**_object(FUNCTION), "type": ["object", "null"], "description": "One callable."},
            "option": {"oneOf": [*short, _object(OPTION)], "description": "One parameter."},
            "accept": {
                **_object(ACCEPT),
                "description": "Files of any of these types, with all of these tags.",
            },
            "resources": {**_object(RESOURCES), "description": "What one worker asks for."},
            "retry": {**_object(RETRY), "description": "Which ends are tried again, by their reason."},
        },
    }


def text() -> str:
    """The schema as it is committed and served."""
    return json.dumps(document(), indent=2) + "\n"


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(text())
    else:
        sys.stdout.write(text())
