"""The image that has the Python a module asks for: the configured one where it will do, else its like.

Images of Python are called by their version, `python:3.11-slim`; another version is another tag of the same.
"""

import operator
import re

from backends.base import PreparationFailed

NEWEST_MINOR = 14
OLDEST_MINOR = 9
_TAG = re.compile(r"(?P<name>.*python):(?P<version>3(\.\d+){0,2})(?P<rest>-[\w.-]+)?")
_CLAUSE = re.compile(r"(==|~=|!=|<=|>=|<|>) ?([\d.]+)")
_COMPARE = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}

Version = tuple[int, ...]


def image(base: str, python: str | None) -> str:
    """What to run a module in that asks for this Python (a version, or a range as requirements have it)."""
    if python is None:
        return base
    tag = _TAG.fullmatch(base)
    if tag is None:
        raise PreparationFailed(
            f"the module asks for Python {python}, and {base}, which this backend runs modules in, does not say "
            "which one it has; let the module name an image"
        )
    if re.fullmatch(r"[\d.]+", python):
        return base if _within(_version(tag["version"]), _version(python)) else _called(tag, python)
    minors = sorted(range(OLDEST_MINOR, NEWEST_MINOR + 1), reverse=True)
    candidates = [_version(tag["version"])[:2], *((3, minor) for minor in minors)]
    for candidate in candidates:
        if all(_fits(candidate, *clause) for clause in _CLAUSE.findall(python)):
            found = ".".join(map(str, candidate))
            return base if candidate == candidates[0] else _called(tag, found)
    raise PreparationFailed(f"there is no image for Python {python}")


def _called(tag: "re.Match[str]", version: str) -> str:
    return f"{tag['name']}:{version}{tag['rest'] or ''}"


def _version(text: str) -> Version:
    return tuple(map(int, text.split(".")))


def _within(version: Version, wanted: Version) -> bool:
    return version[: len(wanted)] == wanted


def _fits(minor: Version, sign: str, text: str) -> bool:
    """Whether the newest of a minor version fits a clause: 3.11 stands for the latest 3.11.x."""
    wanted = _version(text)
    newest = (*minor, 1_000)
    match sign:
        case "==":
            return _within(newest, wanted[:2])
        case "!=":
            return not (len(wanted) <= 2 and _within(newest, wanted))
        case "~=":
            return newest >= wanted and _within(newest, wanted[:-1])
        case "<" | "<=" if len(wanted) > 2 and wanted[:2] == minor:
            return False
        case "<=" if wanted == minor:
            return True
        case ">" if wanted == minor:
            return False
    return bool(_COMPARE[sign](newest, wanted))
