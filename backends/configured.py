"""The configured backends, read from a YAML file: which adapters, under which names, with what they may hold.

    backends:
      - name: local
        kind: local
      - name: engine
        kind: docker
        slots: 8
        memory: 16GiB
        host: tcp://10.0.0.7:2375      # an option of the docker adapter

The first is where runs go that name none. What is common to all kinds is checked here, an adapter's own
options by the adapter; every mistake is told with its place in the file.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backends import manifest_values as values
from backends import registry
from backends.base import Backend, BadOptions
from backends.manifest_documents import ManifestProblem, Node, Problems, parse
from db import texts

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_COMMON = ("name", "kind", "slots", "cpus", "memory", "gpus", "url")
_MOST = 1_000_000


class ConfigInvalid(Exception):
    """The file cannot be meant; `problems` are in the order of reading."""

    def __init__(self, problems: tuple[ManifestProblem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Caps:
    """What all workers of a backend may have together, where that is configured."""

    slots: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """A backend as the file has it. `url` is where its jobs reach the server, when not as others do."""

    name: str
    kind: str
    caps: Caps
    options: Mapping[str, Any]
    url: str | None = None


Make = Callable[[Declared], Backend]


def read(path: Path, make: Make) -> list[tuple[Declared, Backend]]:
    """Every backend of the file, with the adapter that `make` constructs. Raises ConfigInvalid."""
    problems = Problems(str(path))
    try:
        root = parse(path.read_bytes(), problems)
    except OSError as error:
        root = None
        problems.place(1, 1, "", "missing-file", f"cannot be read: {error.strerror}")
    found = [] if root is None else list(_backends(root, problems, make))
    if problems.found:
        raise ConfigInvalid(problems.sorted())
    return found


def _backends(root: Node, problems: Problems, make: Make) -> Iterator[tuple[Declared, Backend]]:
    top = values.fields(root, ("backends",), problems, "the file")
    if isinstance(root.value, dict) and "backends" not in top:
        problems.at(root, "missing-key", "must have backends: a list of at least one")
    listed = values.items(top.get("backends"), problems, "backends")
    if "backends" in top and isinstance(top["backends"].value, list) and not listed:
        problems.at(top["backends"], "empty-list", "must list at least one backend")
    names: dict[str, int] = {}
    for node in listed:
        before = len(problems.found)
        declared = _declared(node, problems, names)
        if declared is None or len(problems.found) > before:
            continue
        try:
            yield declared, make(declared)
        except BadOptions as error:
            _tell(node, error, problems)


def _declared(node: Node, problems: Problems, names: dict[str, int]) -> Declared | None:
    if not isinstance(node.value, dict):
        problems.at(node, "not-a-mapping", f"a backend must be a mapping of keys, not {node.kind}")
        return None
    given = {key: value for key, value in node.value.items() if value.value is not None}
    name, kind = _name(node, given.get("name"), problems, names), _kind(node, given.get("kind"), problems)
    caps = Caps(
        _count(given.get("slots"), problems, 1),
        values.amount(given.get("cpus"), problems, most=1e9),
        values.memory(given.get("memory"), problems),
        _count(given.get("gpus"), problems, 0),
    )
    url = _url(given.get("url"), problems)
    options = {key: plain(value) for key, value in given.items() if key not in _COMMON}
    return None if name is None or kind is None else Declared(name, kind, caps, options, url)


def _name(node: Node, given: Node | None, problems: Problems, names: dict[str, int]) -> str | None:
    if given is None:
        problems.at(node, "missing-key", "must have a name")
        return None
    name = values.text(given, problems)
    if name is None:
        return None
    if not NAME.fullmatch(name):
        problems.at(
            given, "name", f"must be lower-case letters, digits and inner hyphens, at most 63, not {name!r}"
        )
    elif name in names:
        problems.at(given, "twice", f"the backend in line {names[name]} is called {name!r} already")
    names.setdefault(name, given.line)
    return name


def _kind(node: Node, given: Node | None, problems: Problems) -> str | None:
    if given is None:
        problems.at(node, "missing-key", f"must have a kind: {_kinds()}")
        return None
    kind = values.text(given, problems)
    if kind is not None and kind not in registry.KINDS:
        close = texts.suggestion(kind, registry.KINDS)
        problems.at(given, "kind", f"must be one of {_kinds()}, not {texts.shown(kind)}{close}")
        return None
    return kind


def _kinds() -> str:
    return ", ".join(registry.KINDS)


def _count(given: Node | None, problems: Problems, least: int) -> int | None:
    return None if given is None else values.whole(given, problems, least, least, _MOST)


def _url(given: Node | None, problems: Problems) -> str | None:
    url = values.text(given, problems)
    if given is None or url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        problems.at(given, "url", f"must be http://host:port or https://host, not {texts.shown(url)}")
    return url.rstrip("/")


def _tell(node: Node, error: BadOptions, problems: Problems) -> None:
    """What an adapter refuses, at the key that it names, or at the backend."""
    assert isinstance(node.value, dict)
    option = (error.option or "").split(".")[0].split("[")[0]
    if option in node.value:
        problems.at(node.value[option], "option", str(error))
    else:
        problems.at(node, "option", f"{error.option}: {error}" if error.option else str(error))


def plain(node: Node) -> Any:
    """A value without its places."""
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [plain(value) for value in node.value]
    return node.value
