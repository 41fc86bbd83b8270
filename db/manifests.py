"""What a module says of itself, and whether arguments fit it.

A manifest is frozen with the module version that brought it, stored as plain JSON (`encode`, `decode`), and
never read again from the module's files. `resolve` is the one place that decides what a job's options are:
at `startRun`, before anything is launched, so that no job finds a bad argument after an hour. Pure, standard
library alone. Reading `rungraph.yaml` is in backends/manifests.py, the files of a job in contracts.py.
"""

import enum
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from db import policies, texts

Scalar = str | int | float | bool

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exact; options and tags stay within ± this."""
_TOO_LARGE = "must be a whole number within ±(2^53−1)"

MOST_PROBLEMS = 100
"""More than a person reads; a document of a million mistakes must not cost a million suggestions."""


class OptionType(enum.Enum):
    """The type of an option. A FILE is the name of one of the job's input files."""

    INT = "int"
    FLOAT = "float"
    STR = "str"
    BOOL = "bool"
    ENUM = "enum"
    FILE = "file"


class TagType(enum.Enum):
    """The type of a tag that a function puts on the files it makes."""

    STR = "str"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"


@dataclass(frozen=True, slots=True)
class Option:
    """A typed parameter. Without `default` and not `required`, a job that is not given it sees null."""

    name: str
    type: OptionType
    required: bool = False
    default: Scalar | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    values: tuple[str, ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Accept:
    """Files a function takes: any of these types (lower case, no dot; none means any) with all these tags.

    `required_tags` must be there, whatever they say; `tags` must say just this.
    """

    types: tuple[str, ...] = ()
    required_tags: tuple[str, ...] = ()
    tags: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputTag:
    """A tag that a function may put on the files it makes."""

    name: str
    type: TagType


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker asks for. None leaves the backend's default; cpus are cores."""

    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Function:
    """One callable of a module. No `accepts` takes any file; no `output_tags` allows any tag.

    `retries` counts the attempts after the first, `retry` those after certain ends
    (policies.py). `timeout_seconds` holds for one attempt; None is for ever.
    `creates_files` and `modifies_files` say what it does with files; None leaves it open. `network` asks for
    one where jobs are given none by themselves.
    """

    name: str
    description: str = ""
    command: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    accepts: tuple[Accept, ...] = ()
    output_tags: tuple[OutputTag, ...] = ()
    resources: Resources = Resources()
    workers: int = 1
    timeout_seconds: float | None = None
    retries: int = 0
    retry: policies.Policy = policies.NOTHING
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    creates_files: bool | None = None
    modifies_files: bool | None = None
    network: bool = False


class Format(enum.Enum):
    """What a manifest was written as."""

    RUNGRAPH = "RUNGRAPH"
    MLSPLOIT = "MLSPLOIT"
    MLSPLOIT_SCHEMAS = "MLSPLOIT_SCHEMAS"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A module version in its own words. At most one of `image` and `dockerfile` is set."""

    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    image: str | None = None
    dockerfile: str | None = None
    python: str | None = None
    requirements: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()
    title: str = ""
    tagline: str = ""
    icon_url: str | None = None
    format: Format = Format.RUNGRAPH

    @property
    def needs_container(self) -> bool:
        """Whether no function says what to run, so that only an image can."""
        return not any(function.command for function in self.functions)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where: the keys and indexes that lead to it from the document's top."""

    path: tuple[str | int, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """Every option of a function with its value, in the order declared. Complete only without problems."""

    arguments: dict[str, Any]
    problems: tuple[Problem, ...] = ()


def resolve(function: Function, given: Mapping[str, Any]) -> Resolved:
    """Check what was given against what is declared and fill in defaults; all problems at once, never raises.

    A null counts as not given. Nothing is coerced, but for an int where a float is wanted.
    """
    declared = {option.name: option for option in function.options}
    unknown = itertools.islice((name for name in given if name not in declared), MOST_PROBLEMS)
    problems = [_unknown(name, declared, function) for name in unknown]
    arguments: dict[str, Any] = {}
    for name, option in declared.items():
        value = given.get(name)
        if value is None and option.required:
            problems.append(Problem((name,), f"is required ({option.type.value})"))
            continue
        if value is None:
            arguments[name] = option.default
            continue
        message = refusal(option, value)
        if message:
            problems.append(Problem((name,), message))
        else:
            arguments[name] = normal(option, value)
    return Resolved(arguments, tuple(problems))


def refusal(option: Option, value: object) -> str | None:
    """Why the value is none for this option, in words; None when it is fine."""
    match option.type:
        case OptionType.INT:
            return _integer(value) or _bounds(option, value)
        case OptionType.FLOAT:
            return _number(value) or _bounds(option, value)
        case OptionType.BOOL:
            return None if isinstance(value, bool) else f"must be true or false, not {texts.shown(value)}"
        case OptionType.STR:
            return texts.refusal(value)
        case OptionType.FILE:
            return _file_name(value)
        case OptionType.ENUM:
            return _one_of(option.values, value)


def tag_refusal(type: TagType | None, value: object) -> str | None:
    """Why the value is none for a tag of this type (None: of any type), in words; None when it is fine."""
    match type, value:
        case (TagType.BOOL, bool()) | (None, bool()):
            return None
        case (TagType.BOOL, _):
            return f"must be true or false, not {texts.shown(value)}"
        case (TagType.INT, _):
            return _integer(value)
        case (TagType.FLOAT, _) | (None, int() | float()):
            return _number(value)
        case (None, _) if not isinstance(value, str):
            return f"must be a string, a number, true or false, not {texts.shown(value)}"
    return texts.refusal(value)


def normal(option: Option, value: Any) -> Scalar:
    """The value as it is stored: a float is a float even where an int was written."""
    stored: Scalar = float(value) if option.type is OptionType.FLOAT else value
    return stored


def encode(manifest: Manifest) -> dict[str, Any]:
    """The manifest as JSON holds it; `decode` gives back an equal one."""
    document: dict[str, Any] = plain(manifest)
    return document


def decode(document: Mapping[str, Any]) -> Manifest:
    """What `encode` made, read again. A field that the document lacks, being older, takes its default."""
    return Manifest(
        **{
            **document,
            "tags": tuple(document.get("tags", ())),
            "requirements": tuple(document.get("requirements", ())),
            "functions": tuple(map(decode_function, document.get("functions", ()))),
            "format": Format(document.get("format", Format.RUNGRAPH.value)),
        }
    )


def decode_function(document: Mapping[str, Any]) -> Function:
    return Function(
        **{
            **document,
            "command": tuple(document.get("command", ())),
            "options": tuple(map(_decode_option, document.get("options", ()))),
            "accepts": tuple(map(_decode_accept, document.get("accepts", ()))),
            "output_tags": tuple(
                OutputTag(tag["name"], TagType(tag["type"])) for tag in document.get("output_tags", ())
            ),
            "resources": Resources(**document.get("resources", {})),
            "environment": dict(document.get("environment", {})),
            "secrets": tuple(document.get("secrets", ())),
            "retry": policies.decode(document.get("retry")),
        }
    )


def _decode_option(document: Mapping[str, Any]) -> Option:
    values = tuple(document.get("values", ()))
    return Option(**{**document, "type": OptionType(document["type"]), "values": values})


def _decode_accept(document: Mapping[str, Any]) -> Accept:
    types, required_tags = (tuple(document.get(key, ())) for key in ("types", "required_tags"))
    return Accept(types, required_tags, dict(document.get("tags", {})))


def plain(value: Any) -> Any:
    """A part of a manifest as JSON holds it."""
    if is_dataclass(value):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    match value:
        case enum.Enum():
            return value.value
        case tuple():
            return [plain(item) for item in value]
        case Mapping():
            return dict(value)
    return value


def _unknown(name: str, declared: Iterable[str], function: Function) -> Problem:
    return Problem((name,), f"is not an option of {function.name}{texts.suggestion(name, declared)}")


def _integer(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        # As JSON is read where a number is that long.
        if isinstance(value, float) and abs(value) > MAX_INTEGER:
            return _TOO_LARGE
        return f"must be a whole number, not {texts.shown(value)}"
    return None if abs(value) <= MAX_INTEGER else _TOO_LARGE


def _number(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {texts.shown(value)}"
    if isinstance(value, int):
        return _integer(value)
    return None if math.isfinite(value) else f"must be a finite number, not {texts.shown(value)}"


def _bounds(option: Option, value: Any) -> str | None:
    if option.minimum is not None and value < option.minimum:
        return f"must be at least {option.minimum}, not {texts.shown(value)}"
    if option.maximum is not None and value > option.maximum:
        return f"must be at most {option.maximum}, not {texts.shown(value)}"
    return None


def _file_name(value: object) -> str | None:
    if isinstance(value, str) and value and "/" not in value:
        return texts.refusal(value)
    return f"must be the name of an input file, not {texts.shown(value)}"


def _one_of(values: tuple[str, ...], value: object) -> str | None:
    if isinstance(value, str) and value in values:
        return None
    close = texts.suggestion(value, values) if isinstance(value, str) else ""
    return f"must be one of {', '.join(values)}, not {texts.shown(value)}{close}"
