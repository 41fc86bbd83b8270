"""What the command line says in `name=value`, as the API wants it.

A value is JSON where it reads as JSON (`5`, `0.1`, `true`, `null`, `"5"`, `[1, 2]`), else the word itself, so
that nobody quotes a word twice.
"""

import json
import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NoReturn

from rungraph import durations
from rungraph.errors import BadUsage

Arguments = dict[str, dict[str, Any]]
"""Step, then option, to its value."""

_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(B|KiB|MiB|GiB|TiB)?", re.ASCII)
_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

RESOURCES = ("workers", "cpus", "memoryBytes", "gpus")
REASONS = ("PREEMPTED", "LOST", "IMAGE_UNAVAILABLE", "OUT_OF_MEMORY", "EXIT_CODE", "TIMED_OUT")
"""Those of the ends of attempts that may be tried again."""


def value(text: str) -> Any:
    """JSON if it parses, else the text; NaN, Infinity and what is as large are no JSON and stay words."""
    try:
        return json.loads(text, parse_constant=_no_json, parse_float=_finite)
    except ValueError:
        return text


def word(given: Any) -> str:
    """A value as `value` reads it."""
    return (
        given if isinstance(given, str) and value(given) == given else json.dumps(given, ensure_ascii=False)
    )


def arguments(settings: Iterable[str], flag: str = "--set", shape: str = "step.option=value") -> Arguments:
    """The options set by `step.option=value`, by step."""
    found: Arguments = {}
    for setting in settings:
        left, text = _split(setting, flag, shape)
        step, dot, option = left.partition(".")
        if not (step and dot and option):
            raise BadUsage(f"{flag} {setting}: write it as {shape}")
        found.setdefault(step, {})[option] = value(text)
    return found


def resources(settings: Iterable[str]) -> list[dict[str, Any]]:
    """What steps ask for, by `step.resource=number`; memory is a size, such as 4GiB."""
    asked = arguments(settings, "--ask", "step.resource=number")
    return [
        {"step": step, **dict(_resource(step, name, number) for name, number in given.items())}
        for step, given in asked.items()
    ]


def retry(rules: Iterable[str]) -> list[dict[str, Any]]:
    """How often another attempt follows an end, by `reason=times[,memory=factor][,most=size]`."""
    return [_rule(rule) for rule in rules]


def rule(given: dict[str, Any]) -> str:
    """A rule of the API's as `retry` reads it."""
    memory = f",memory={given['memoryFactor']:g}" if given["memoryFactor"] != 1 else ""
    most = "" if given["mostMemoryBytes"] is None else f",most={given['mostMemoryBytes']}"
    return f"{given['reason']}={given['times']}{memory}{most}"


def pairs(settings: Iterable[str], flag: str, shape: str) -> list[tuple[str, str]]:
    """The two sides of each `name=value` given to `flag`; `shape` is what its message says to write."""
    return [_split(setting, flag, shape) for setting in settings]


def tags(settings: Iterable[str]) -> list[dict[str, str]]:
    """Tags, of which one may be a name alone."""
    split = [setting.partition("=") for setting in settings]
    for name, equals, text in split:
        if not name:
            raise BadUsage(f"--tag {equals}{text}: write it as name=value, or a name alone")
    return [{"name": name, "value": text} for name, _, text in split]


def seconds(text: str, flag: str) -> float:
    """A duration such as 90, 1.5s, 1h30m, 7d or 1w; a bare number is seconds; raises BadUsage."""
    try:
        return durations.seconds(text)
    except ValueError as error:
        raise BadUsage(f"{flag} {text}: a duration must be {error}") from None


def moment(text: str, flag: str) -> str:
    """A date or a time as the API takes one, as it was written; raises BadUsage."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise BadUsage(f"{flag} {text}: write a time as 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return text


def size(text: str, flag: str) -> int:
    """Bytes such as 512MiB or 64GiB; a bare number is bytes; raises BadUsage."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise BadUsage(f"{flag} {text}: write it as 512MiB or 64GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def is_id(kind: str, text: str) -> bool:
    """Whether a word is an id of the kind and not a name."""
    return re.fullmatch(rf"{kind}_[0-9a-z]{{26}}", text) is not None


def _resource(step: str, name: str, given: Any) -> tuple[str, Any]:
    if name in ("memory", "memoryBytes"):
        return "memoryBytes", size(word(given), f"--ask {step}.{name}:")
    if name not in RESOURCES:
        raise BadUsage(f"--ask {step}.{name}: a resource is one of workers, cpus, memory, gpus")
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise BadUsage(f"--ask {step}.{name}: it is a number, not “{word(given)}”")
    return name, given


def _rule(rule: str) -> dict[str, Any]:
    times, *more = rule.split(",")
    word, count = _split(times, "--retry", "reason=times")
    reason = word.upper()
    if reason not in REASONS:
        raise BadUsage(f"--retry {word}: the ends that are tried again are {', '.join(REASONS)}")
    found: dict[str, Any] = {"reason": reason, "times": _number(rule, "times", count, whole=True)}
    for part in more:
        match part.partition("="):
            case "memory", "=", factor:
                found["memoryFactor"] = _number(rule, "memory", factor)
            case "most", "=", most:
                found["mostMemoryBytes"] = size(most, f"--retry {word}: most")
            case _:
                raise BadUsage(f"--retry {rule}: after the number there may be memory=2 and most=64GiB")
    return found


def _number(rule: str, part: str, text: str, whole: bool = False) -> int | float:
    found = value(text)
    if type(found) is int or (type(found) is float and not whole):
        return found
    raise BadUsage(f"--retry {rule}: {part} is a {'whole ' if whole else ''}number, not “{text}”")


def _split(setting: str, flag: str, shape: str) -> tuple[str, str]:
    left, equals, right = setting.partition("=")
    if not (left and equals):
        raise BadUsage(f"{flag} {setting}: write it as {shape}")
    return left, right


def _finite(word: str) -> float:
    number = float(word)
    return number if math.isfinite(number) else _no_json(word)


def _no_json(word: str) -> NoReturn:
    raise ValueError(word)
