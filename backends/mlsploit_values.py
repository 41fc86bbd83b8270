"""Values of MLsploit's two formats, read as modules in the wild write them.

Strict where meaning is at stake: an option nobody can give a value, a type nobody knows, two functions of one
name. Tolerant where it is not: what is missing, too long or written in other words is noted and taken for
what it must mean. Each reader takes the lists `problems` and `notes` as one `Findings`.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from backends.manifest_documents import Node, Problems
from backends.manifests import file_type
from db import manifests, texts
from db.manifests import Option, OptionType, OutputTag, TagType

_OPTION_TYPES = ("int", "float", "str", "bool", "enum")
_TAG_TYPES = tuple(kind.value for kind in TagType)
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
FUNCTION_NAME = re.compile(r"[A-Za-z0-9_][\w .+-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with one file, and what is unusual but was accepted."""

    problems: Problems
    notes: Problems

    @classmethod
    def of(cls, file: str) -> "Findings":
        return cls(Problems(file), Problems(file))


def fields(node: Node, known: Collection[str], found: Findings, what: str) -> dict[str, Node]:
    """The known keys that say something; the others are noted, as nobody reads them."""
    if not isinstance(node.value, dict):
        found.problems.at(node, "not-a-mapping", f"{what} must be a mapping of keys, not {node.kind}")
        return {}
    for key, value in node.value.items():
        if key not in known:
            close = texts.suggestion(key, known)
            found.notes.at_key(value, "unknown-key", f"{what} has no key {texts.shown(key)}{close}; ignored")
    return {key: value for key, value in node.value.items() if key in known and value.value is not None}


def entries(node: Node | None, found: Findings, what: str) -> list[Node]:
    """A list of anything, or nothing."""
    if node is None:
        return []
    if isinstance(node.value, list):
        return node.value
    found.problems.at(node, "not-a-list", f"must be a list of {what}, not {node.kind}")
    return []


def text(node: Node | None, found: Findings, *, longest: int | None = None) -> str:
    """Words. A number is taken as it is written, and what is too long is kept."""
    if node is None:
        return ""
    if isinstance(node.value, list | dict):
        found.notes.at(node, "not-text", f"must be text, not {node.kind}; ignored")
        return ""
    if not isinstance(node.value, str):
        found.notes.at(node, "not-text", f"is {node.kind}, taken as text")
    words = node.text.strip()
    if longest is not None and len(words) > longest:
        found.notes.at(node, "too-long", f"is longer than {longest} characters; kept")
    return words[:10_000]


def said(
    whole: Node, parts: dict[str, Node], key: str, found: Findings, *, longest: int | None = None
) -> str:
    """Words under a key that should be there."""
    words = text(parts.get(key), found, longest=longest)
    if not words:
        found.notes.at(whole, "missing-key", f"has no {key}")
    return words


def truth(node: Node | None, found: Findings) -> bool | None:
    """True or false, also as a word; None where nothing is said."""
    if node is None or isinstance(node.value, bool):
        return None if node is None else bool(node.value)
    word = _TRUTHS.get(node.text.strip().lower()) if isinstance(node.value, str) else None
    if word is None:
        found.problems.at(node, "not-a-truth", f"must be true or false, not {node.kind}")
    else:
        found.notes.at(node, "not-a-truth", f"is {node.kind}, taken as {'true' if word else 'false'}")
    return word


def function_name(node: Node, parts: dict[str, Node], taken: Collection[str], found: Findings) -> str | None:
    """The name that the module's own code knows; two of one name cannot be told apart."""
    said = parts.get("name")
    name = text(said, found)
    if said is None or not FUNCTION_NAME.fullmatch(name):
        message = "a function needs a name: letters, digits, and . _ + - or spaces between, at most 63"
        found.problems.at(said or node, "name", message)
        return None
    if name in taken:
        found.problems.at(said, "twice", f"{name!r} is the name of an earlier function too")
        return None
    return name


def types(node: Node | None, found: Findings) -> tuple[str, ...]:
    """File types, as a list or as words between commas; `*` means any, which is none here."""
    if node is None:
        return ()
    if isinstance(node.value, list):
        items = node.value
    elif isinstance(node.value, str) and "," not in node.value:
        items = [node]
    elif isinstance(node.value, str):
        found.notes.at(node, "not-a-list", "should be a list; taken as one")
        return tuple(filter(None, (_type(node, part, found) for part in node.value.split(","))))
    else:
        found.problems.at(node, "not-a-list", f"must name file types, not {node.kind}")
        return ()
    return tuple(filter(None, (_type(item, item.text, found) for item in items)))


def _type(node: Node, written: str, found: Findings) -> str:
    written = written.replace(" ", "")
    return "" if written in ("", "*", ".*") else file_type(node, written, found.problems)


def output_tags(node: Node | None, found: Findings) -> tuple[OutputTag, ...]:
    """Tags with a name and a type."""
    tags: dict[str, OutputTag] = {}
    for item in entries(node, found, "tags"):
        parts = fields(item, ("name", "type"), found, "a tag")
        name, kind = text(parts.get("name"), found), parts.get("type")
        if not name:
            found.problems.at(item, "no-name", "a tag needs a name")
        elif name in tags:
            found.problems.at(item, "twice", f"{name!r} is the name of an earlier tag too")
        elif kind is None or kind.value not in _TAG_TYPES:
            close = texts.suggestion(kind.text, _TAG_TYPES) if kind else ""
            found.problems.at(kind or item, "type", f"must be of type {', '.join(_TAG_TYPES)}{close}")
        else:
            tags[name] = OutputTag(name, TagType(kind.value))
    return tuple(tags.values())


@dataclass(frozen=True, slots=True)
class OptionWords:
    """What the two formats call an option's parts, and what an option is that says nothing of it."""

    values: str
    keys: tuple[str, ...]
    required: bool | None


def options(node: Node | None, words: OptionWords, found: Findings) -> tuple[Option, ...]:
    """Every option that can be read."""
    options: dict[str, Option] = {}
    for item in entries(node, found, "options"):
        parts = fields(item, words.keys, found, "an option")
        name = text(parts.get("name"), found)
        if not name.isidentifier() or not name.isascii() or len(name) > 63:
            message = f"an option needs a name that is a Python identifier, not {texts.shown(name)}"
            found.problems.at(parts.get("name", item), "name", message)
        elif name in options:
            found.problems.at(parts["name"], "twice", f"{name!r} is the name of an earlier option too")
        elif option := _option(name, item, parts, words, found):
            options[name] = option
    return tuple(options.values())


def _option(
    name: str, node: Node, parts: dict[str, Node], words: OptionWords, found: Findings
) -> Option | None:
    kind = _option_type(node, parts, words, found)
    if kind is None:
        return None
    if "doctxt" in words.keys and "doctxt" not in parts:
        found.notes.at(node, "missing-key", f"option {name!r} has no doctxt")
    values = _choices(node, parts.get(words.values), kind, words, found)
    default, given = parts.get("default"), truth(parts.get("required"), found)
    required = given if given is not None else words.required
    if required is None:
        required = default is None
        found.notes.at(
            node, "missing-key", f"option {name!r} does not say whether it is required; {_taken(required)}"
        )
    if required and default is not None:
        found.notes.at(default, "required-default", "a required option has no default; ignored")
    option = Option(name, kind, required=required, values=values, doc=text(parts.get("doctxt"), found))
    if required:
        return option
    if default is None and given is False:
        found.notes.at(node, "missing-key", f"option {name!r} has no default; without a value it is null")
    return option if default is None else _with_default(option, default, found)


def _taken(required: bool) -> str:
    return "taken as required" if required else "taken as not required"


def _option_type(
    node: Node, parts: dict[str, Node], words: OptionWords, found: Findings
) -> OptionType | None:
    said = parts.get("type")
    if said is not None and said.value in _OPTION_TYPES:
        return OptionType(said.value)
    if said is None and words.values in parts:
        found.notes.at(node, "no-type", "has values and no type; taken as enum")
        return OptionType.ENUM
    close = texts.suggestion(said.text, _OPTION_TYPES) if said else ""
    message = f"an option's type must be one of {', '.join(_OPTION_TYPES)}{close}"
    found.problems.at(said or node, "type" if said else "no-type", message)
    return None


def _choices(
    whole: Node, node: Node | None, kind: OptionType, words: OptionWords, found: Findings
) -> tuple[str, ...]:
    if kind is not OptionType.ENUM:
        if node is not None:
            found.notes.at(node, "values", f"only an enum has {words.values}, not {kind.value}; ignored")
        return ()
    values = tuple(
        dict.fromkeys(filter(None, (text(item, found) for item in entries(node, found, "values"))))
    )
    if not values:
        found.problems.at(node or whole, "no-values", f"an enum needs {words.values}: a list of strings")
    return values


def _with_default(option: Option, node: Node, found: Findings) -> Option | None:
    value = node.value if manifests.refusal(option, node.value) is None else _cast(option.type, node)
    if option.type is OptionType.ENUM and not option.values:
        return option
    if refusal := manifests.refusal(option, value):
        found.problems.at(node, "default", refusal)
        return None
    if value is not node.value:
        found.notes.at(node, "default", f"is {node.kind}, taken as {texts.shown(value)}")
    return Option(
        option.name,
        option.type,
        default=manifests.normal(option, value),
        values=option.values,
        doc=option.doc,
    )


def _cast(kind: OptionType, node: Node) -> Any:
    """What a value that was written as another type must mean; itself where that is nothing."""
    try:
        match kind, node.value:
            case (OptionType.INT, float()) if float(node.value).is_integer():
                return int(node.value)
            case (OptionType.INT, str()):
                return int(node.text)
            case (OptionType.FLOAT, str()):
                number = float(node.text)
                return number if math.isfinite(number) else node.value
            case (OptionType.BOOL, str()):
                return _TRUTHS.get(node.text.strip().lower(), node.value)
            case (OptionType.STR | OptionType.ENUM, bool() | int() | float()):
                return node.text
    except ValueError:
        return node.value
    return node.value
