"""Options of an adapter, as configured, read into a frozen dataclass of its own; a mistake is named with its rule.

Each field is one option: `bool`, `int`, `float` or `str` by its annotation, or whatever a reader in the field's
metadata makes of it (`field(metadata=READ(...))`). `least` and `most` bound numbers.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from backends.base import BadOptions
from db import texts

T = TypeVar("T")

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def option(
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    most: float | None = None,
    read: Callable[[Any], Any] | None = None,
) -> Any:
    """A field of such a dataclass: bounds of a number, or what makes a value of it and raises ValueError."""
    metadata = {"least": least, "most": most, "read": read}
    return dataclasses.field(default=default, metadata=metadata)


def parse(kind: type[T], options: Mapping[str, Any]) -> T:
    """The options as this dataclass. Raises BadOptions for the first mistake."""
    assert dataclasses.is_dataclass(kind)
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in options:
        if name not in known:
            close = texts.suggestion(name, known)
            raise BadOptions(f"is no option of this kind of backend{close}", option=name)
    types = get_type_hints(kind)
    found: dict[str, Any] = {}
    for name, field in known.items():
        if name in options and options[name] is not None:
            found[name] = _value(name, options[name], types[name], field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BadOptions("must be given", option=name)
    return kind(**found)


def _value(name: str, value: Any, wanted: Any, rules: Mapping[str, Any]) -> Any:
    if rules.get("read") is not None:
        try:
            return rules["read"](value)
        except ValueError as error:
            raise BadOptions(str(error), option=name) from error
    plain = next(kind for kind in (bool, int, float, str) if wanted in (kind, kind | None))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = (
        is_number
        if plain is float
        else isinstance(value, plain) and (plain is bool or plain is str or is_number)
    )
    if not fits:
        raise BadOptions(f"must be {_WORDS[plain]}, not {texts.shown(value)}", option=name)
    least, most = rules.get("least"), rules.get("most")
    if (least is not None and value < least) or (most is not None and value > most):
        raise BadOptions(f"must be {_range(least, most)}, not {value}", option=name)
    return plain(value)


def _range(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return f"at least {least:g}" if most is None else f"at most {most:g}"
    return f"from {least:g} to {most:g}"
