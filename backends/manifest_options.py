"""The options of a function as a manifest declares them, in full or in short.

`epochs: 10` is an int with that default; `data: file` is a required option of that type; `[a, b]` is an enum
whose first value is the default. In full a mapping says type, default, min, max, values, doc, required. An
option without a default is required unless it says otherwise. Values in general are in manifest_values.py.
"""

import dataclasses
import keyword
from typing import Any

from backends import manifest_values as values
from backends.manifest_documents import Node, Problems
from backends.manifest_schema import OPTION
from db import manifests, texts
from db.manifests import Option, OptionType

_TYPES = tuple(kind.value for kind in OptionType)
_NUMBERS = (OptionType.INT, OptionType.FLOAT)


def read_options(node: Node | None, problems: Problems) -> tuple[Option, ...]:
    """Every option declared, those with mistakes left out."""
    found = []
    for name, declared in values.named(node, problems, "options").items():
        if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii() or len(name) > 63:
            message = f"{texts.shown(name)} must be a Python identifier of at most 63 letters"
            problems.at_key(declared, "name", message)
        option = _option(name, declared, problems)
        if option:
            found.append(option)
    return tuple(found)


def _option(name: str, node: Node, problems: Problems) -> Option | None:
    match node.value:
        case dict():
            return _in_full(name, node, problems)
        case list():
            choices = values.words(node, problems, "values")
            if not choices:
                problems.at(node, "no-values", "an enum needs values")
                return None
            return Option(name, OptionType.ENUM, default=choices[0], values=choices)
        case None:
            message = f"needs a default or a type ({', '.join(_TYPES)})"
            problems.at_key(node, "no-type", message)
            return None
        case "enum":
            problems.at(node, "no-values", "an enum needs values: write them as a list")
            return None
        case str() if node.value in _TYPES:
            return Option(name, OptionType(node.value), required=True)
    return _checked(Option(name, _type_of(node.value), default=node.value), node, problems)


def _in_full(name: str, node: Node, problems: Problems) -> Option | None:
    parts = values.fields(node, OPTION, problems, "an option")
    kind = _type(node, parts, problems)
    if kind is None:
        return None
    option = Option(
        name,
        kind,
        required=_required(parts, problems),
        minimum=_bound(parts.get("min"), kind, problems),
        maximum=_bound(parts.get("max"), kind, problems),
        values=_choices(node, parts.get("values"), kind, problems),
        doc=values.text(parts.get("doc"), problems) or "",
        default=_scalar(parts.get("default"), problems),
    )
    if option.minimum is not None and option.maximum is not None and option.minimum > option.maximum:
        problems.at(parts["max"], "bounds", f"is below min ({option.minimum})")
        return None
    return _checked(option, parts.get("default"), problems)


def _type(node: Node, parts: dict[str, Node], problems: Problems) -> OptionType | None:
    """What is said, or what follows from the values or the default."""
    said = parts.get("type")
    if said is not None and said.value in _TYPES:
        return OptionType(said.value)
    if said is not None:
        close = texts.suggestion(said.text, _TYPES)
        problems.at(said, "type", f"must be one of {', '.join(_TYPES)}, not {said.kind}{close}")
        return None
    if "values" in parts:
        return OptionType.ENUM
    if "default" in parts and not isinstance(parts["default"].value, list | dict):
        return _type_of(parts["default"].value)
    problems.at(node, "no-type", f"needs a type: {', '.join(_TYPES)}")
    return None


def _type_of(value: Any) -> OptionType:
    match value:
        case bool():
            return OptionType.BOOL
        case int():
            return OptionType.INT
        case float():
            return OptionType.FLOAT
    return OptionType.STR


def _required(parts: dict[str, Node], problems: Problems) -> bool:
    said = parts.get("required")
    if said is None:
        return "default" not in parts
    if not isinstance(said.value, bool):
        problems.at(said, "not-a-truth", f"must be true or false, not {said.kind}")
        return False
    if said.value and "default" in parts:
        problems.at(
            said, "required-default", "an option with a default is not required; leave one of them out"
        )
    return said.value


def _bound(node: Node | None, kind: OptionType, problems: Problems) -> int | float | None:
    if node is None:
        return None
    if kind not in _NUMBERS:
        problems.at_key(node, "bounds", f"only int and float have bounds, not {kind.value}")
        return None
    if refusal := manifests.refusal(Option("", kind), node.value):
        problems.at(node, "bounds", refusal)
        return None
    return node.value if isinstance(node.value, int | float) else None


def _choices(whole: Node, node: Node | None, kind: OptionType, problems: Problems) -> tuple[str, ...]:
    if kind is OptionType.ENUM:
        found = values.words(node, problems, "values")
        if not found:
            problems.at(node or whole, "no-values", "an enum needs values: a list of strings")
        return found
    if node is not None:
        problems.at_key(node, "values", f"only an enum has values, not {kind.value}")
    return ()


def _scalar(node: Node | None, problems: Problems) -> Any:
    if node is not None and isinstance(node.value, list | dict):
        problems.at(node, "default", f"must be a single value, not {node.kind}")
        return None
    return node.value if node else None


def _checked(option: Option, default: Node | None, problems: Problems) -> Option:
    """The option with its default as it is stored; a default that the option would refuse is told."""
    if option.default is None or default is None or (option.type is OptionType.ENUM and not option.values):
        return option
    if refusal := manifests.refusal(option, option.default):
        textual = option.type in (OptionType.STR, OptionType.ENUM)
        problems.at(default, "default", f"{refusal}{values.quoted(default) if textual else ''}")
        return option
    return dataclasses.replace(option, default=manifests.normal(option, option.default))
