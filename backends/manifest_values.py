"""One value of a manifest as what it should be: a word, a list, an amount, a duration, a path in the folder.

Each reader takes a node, or None where the key is absent, puts what is wrong on the list and answers the
default, so that reading goes on and finds the next mistake. What the keys are is said in manifests.py.
"""

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from backends import durations
from backends.manifest_documents import Node, Problems
from db import manifests, texts
from db.module_sources import NAME as NAME

_LONGEST_SECONDS = 366 * 86_400
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]i?B?|B)?")
_POWERS = "KMGT"


def fields(node: Node, known: Collection[str], problems: Problems, what: str) -> dict[str, Node]:
    """The keys of a mapping that are known and not empty; anything else is told with what was meant."""
    if not isinstance(node.value, dict):
        problems.at(node, "not-a-mapping", f"{what} must be a mapping of keys, not {node.kind}")
        return {}
    for key, value in node.value.items():
        if key not in known:
            close = texts.suggestion(key, known)
            problems.at_key(value, "unknown-key", f"{what} has no key {texts.shown(key)}{close}")
    return {key: value for key, value in node.value.items() if key in known and value.value is not None}


def named(node: Node | None, problems: Problems, what: str) -> dict[str, Node]:
    """A mapping of names to anything."""
    if node is None:
        return {}
    if isinstance(node.value, dict):
        return node.value
    problems.at(node, "not-a-mapping", f"must be a mapping of names to {what}, not {node.kind}")
    return {}


def text(node: Node | None, problems: Problems, *, longest: int = 10_000) -> str | None:
    """A string, without the space around it."""
    if node is None:
        return None
    if not isinstance(node.value, str):
        problems.at(node, "not-text", f"must be text, not {node.kind}{quoted(node)}")
        return None
    if len(node.value) > longest:
        problems.at(node, "too-long", f"must be at most {longest} characters, not {len(node.value)}")
    return node.value.strip()


def quoted(node: Node) -> str:
    """What to write where a number or a truth value was meant as text."""
    return f'; write "{node.text}"' if isinstance(node.value, bool | int | float) else ""


def words(node: Node | None, problems: Problems, what: str) -> tuple[str, ...]:
    """A list of different, non-empty strings."""
    found: list[str] = []
    for item in _items(node, problems, f"a list of {what}"):
        word = text(item, problems, longest=1_000)
        if word == "":
            problems.at(item, "empty-text", "must not be empty")
        if word and word in found:
            problems.at(item, "twice", f"{word!r} is listed twice")
        elif word:
            found.append(word)
    return tuple(found)


def items(node: Node | None, problems: Problems, what: str) -> list[Node]:
    """The items of a list of anything."""
    return _items(node, problems, f"a list of {what}")


def command(node: Node, problems: Problems) -> tuple[str, ...]:
    """A program and its arguments. No shell takes part, so text is refused, with the list it would be."""
    if isinstance(node.value, str):
        would = f": [{', '.join(map(_flow, _split(node.value)))}]"
        problems.at(node, "command-is-text", f"must be a list of strings, no shell reads it{would}")
        return ()
    found = _items(node, problems, "a list of strings")
    for item in found:
        if isinstance(item.value, list | dict | None):
            problems.at(item, "not-text", f"must be text, not {item.kind}")
    if isinstance(node.value, list) and (not found or not found[0].text):
        problems.at(node, "empty-command", "must begin with the program to run")
    return tuple(item.text for item in found)


def truth(node: Node | None, problems: Problems) -> bool | None:
    """True, false, or not said."""
    if node is None:
        return None
    if not isinstance(node.value, bool):
        problems.at(node, "not-a-truth", f"must be true or false, not {node.kind}")
        return None
    return node.value


def scalars(node: Node | None, problems: Problems) -> dict[str, manifests.Scalar]:
    """A mapping of names to single values."""
    found: dict[str, manifests.Scalar] = {}
    for name, value in named(node, problems, "what they say").items():
        if isinstance(value.value, list | dict | None):
            problems.at(value, "not-a-value", f"must be a single value, not {value.kind}")
        else:
            found[name] = value.value
    return found


def whole(node: Node | None, problems: Problems, default: int, least: int, most: int) -> int:
    """A whole number within bounds."""
    if node is None:
        return default
    if isinstance(node.value, bool) or not isinstance(node.value, int):
        problems.at(node, "not-a-number", f"must be a whole number, not {node.kind}")
        return default
    if not least <= node.value <= most:
        problems.at(node, "out-of-bounds", f"must be from {least} to {most}, not {node.text}")
    return node.value


def amount(node: Node | None, problems: Problems, *, most: float) -> float | None:
    """A number above zero."""
    if node is None:
        return None
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        problems.at(node, "not-a-number", f"must be a number, not {node.kind}")
        return None
    if not 0 < node.value <= most:
        problems.at(node, "out-of-bounds", f"must be above 0 and at most {most:g}, not {node.text}")
    return float(node.value)


def seconds(node: Node | None, problems: Problems) -> float | None:
    """A duration: 10m, 1.5h, 1h30m, 2d, or plain seconds."""
    if node is None or (isinstance(node.value, int | float) and not isinstance(node.value, bool)):
        found = amount(node, problems, most=_LONGEST_SECONDS)
        if node is not None and found is not None and round(found * 1e6) / 1e6 != found:
            problems.at(node, "not-a-duration", f"must be in whole microseconds, not {node.kind}")
        return found
    try:
        found = durations.seconds(node.text if isinstance(node.value, str) else "")
    except ValueError as error:
        problems.at(node, "not-a-duration", f"must be {error}, not {node.kind}")
        return None
    if not 0 < found <= _LONGEST_SECONDS:
        problems.at(node, "out-of-bounds", f"must be above 0 and at most 366 days, not {node.kind}")
    return found


def memory(node: Node | None, problems: Problems) -> int | None:
    """Bytes: 512MiB, 2GiB, 1.5GB, or plain bytes. As Kubernetes has it, 2Gi and 2G are fine too."""
    if node is None:
        return None
    match = _MEMORY.fullmatch(node.text.strip()) if not isinstance(node.value, bool | list | dict) else None
    if not match:
        problems.at(node, "not-an-amount", f"must be an amount such as 512MiB or 2GiB, not {node.kind}")
        return None
    unit = match[2] or "B"
    base = 1024 if "i" in unit else 1000
    found = int(float(match[1]) * base ** (_POWERS.find(unit[0]) + 1))
    if not 1 << 20 <= found <= 1 << 50:
        problems.at(node, "out-of-bounds", f"must be from 1MiB to 1PiB, not {node.text}")
    return found


def file_in(folder: Path, node: Node | None, problems: Problems) -> Path | None:
    """A regular file of the module, named relative to its folder and lying within it."""
    name = text(node, problems, longest=1_000)
    if node is None or name is None:
        return None
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        problems.at(node, "path", f"must be a path within the module's folder, not {name!r}")
        return None
    found = folder / path
    if not found.is_file() or not found.resolve().is_relative_to(folder.resolve()):
        problems.at(node, "missing-file", f"the module has no file {name!r}")
        return None
    return found


def environment(node: Node | None, problems: Problems) -> Mapping[str, str]:
    """Variables for the job; numbers and truth values are taken as they are written."""
    found: dict[str, str] = {}
    for name, value in named(node, problems, "text").items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            problems.at_key(value, "name", f"{texts.shown(name)} is no name of an environment variable")
        elif name.startswith("RUNGRAPH_"):
            problems.at_key(value, "reserved", "names that begin with RUNGRAPH_ are set by the server")
        if isinstance(value.value, list | dict):
            problems.at(value, "not-text", f"must be text, not {value.kind}")
        found[name] = value.text
    return found


def _items(node: Node | None, problems: Problems, what: str) -> list[Node]:
    if node is None:
        return []
    if isinstance(node.value, list):
        return node.value
    problems.at(node, "not-a-list", f"must be {what}, not {node.kind}")
    return []


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def _flow(word: str) -> str:
    """A word as it is written in a YAML list on one line."""
    plain = re.fullmatch(r"[A-Za-z./_-][A-Za-z0-9./_=+-]*", word)
    return word if plain else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
