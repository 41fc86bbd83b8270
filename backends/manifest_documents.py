"""A YAML document as plain values that know their place, and the list of what is wrong with them.

PyYAML's own constructors lose line numbers, keep the last of two equal keys in silence, and read YAML 1.1,
where `1e-4` is text and `off` is false. Here a composed tree is walked by YAML 1.2's core rules instead.
Size, depth and expanded aliases are capped, so no document costs more than it is worth. What the values
mean is decided in manifests.py.
"""

import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from db import texts

MAX_BYTES = 128 << 10
MAX_DEPTH = 32
MAX_NODES = 20_000

Value = None | bool | int | float | str | list["Node"] | dict[str, "Node"]


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """One mistake: where it stands (line and column from 1), a stable code of the rule, and words."""

    file: str
    line: int
    column: int
    path: str
    rule: str
    message: str

    def __str__(self) -> str:
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{self.file}:{self.line}:{self.column}: {what} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. `text` is a scalar as written: as a number, 3.10 is 3.1."""

    value: Value
    path: str = ""
    line: int = 1
    column: int = 1
    text: str = ""
    key_line: int = 1
    key_column: int = 1

    @property
    def kind(self) -> str:
        """What the value is, in words for a message."""
        match self.value:
            case None:
                return "nothing"
            case dict():
                return "a mapping"
            case list():
                return "a list"
            case str():
                return f"the text {_clipped(self.text)!r}"
        return _clipped(self.text)


@dataclass(slots=True)
class Problems:
    """What is wrong with one file, in the order of finding; `sorted` gives the order of reading."""

    file: str
    found: list[ManifestProblem] = field(default_factory=list)

    def at(self, node: Node, rule: str, message: str) -> None:
        """Something is wrong with a value."""
        self.place(node.line, node.column, node.path, rule, message)

    def at_key(self, node: Node, rule: str, message: str) -> None:
        """Something is wrong with the key that a value stands under."""
        self.place(node.key_line, node.key_column, node.path, rule, message)

    def place(self, line: int, column: int, path: str, rule: str, message: str) -> None:
        self.found.append(ManifestProblem(self.file, line, column, path, rule, message))

    def sorted(self) -> tuple[ManifestProblem, ...]:
        return tuple(sorted(self.found, key=lambda problem: (problem.file, problem.line, problem.column)))


def read_file(folder: Path, name: str, problems: Problems) -> bytes | None:
    """A file's content: at most one byte more than is allowed, so that a huge one is not read to be refused."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            with os.fdopen(descriptor, "rb") as file:
                return file.read(MAX_BYTES + 1)
        os.close(descriptor)
    except FileNotFoundError:
        problems.place(1, 1, "", "missing-file", f"the module has no {name}")
        return None
    except OSError as error:
        problems.place(1, 1, "", "missing-file", f"cannot be read: {error.strerror}")
        return None
    problems.place(1, 1, "", "missing-file", "is no regular file")
    return None


def parse(
    content: bytes, problems: Problems, *, most_bytes: int = MAX_BYTES, most_nodes: int = MAX_NODES
) -> Node | None:
    """The document's tree, or None where it has none; duplicate keys and the like are put on the list."""
    text = _text(content, problems, most_bytes)
    if text is None:
        return None
    try:
        _bound(text, most_nodes)
        root = yaml.compose(text, _CoreLoader)
    except _TooMuch as error:
        problems.place(error.line, 1, "", "too-much", str(error))
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        line = min(line, text.count("\n") + 1)  # libyaml puts the end past the last line
        problems.place(line, column, "", "syntax", f"is not YAML: {error.problem or error.context}")
        return None
    except yaml.reader.ReaderError as error:
        line = (
            text.encode()[: error.position].count(b"\n") + 1
            if _FAST
            else text.count("\n", 0, error.position) + 1
        )
        problems.place(line, 1, "", "encoding", "has a control character, so it is no text")
        return None
    except RecursionError:
        problems.place(1, 1, "", "too-much", f"is nested deeper than {MAX_DEPTH} levels")
        return None
    if root is None:
        problems.place(1, 1, "", "empty", "the file says nothing")
        return None
    try:
        return _Walk(problems, most_nodes).node(root, "", 0)
    except _TooMuch as error:
        problems.place(error.line, 1, "", "too-much", str(error))
        return None


def _text(content: bytes, problems: Problems, most_bytes: int) -> str | None:
    if len(content) > most_bytes:
        problems.place(1, 1, "", "too-large", f"is larger than {most_bytes >> 10} KiB")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.place(line, 1, "", "encoding", "is not UTF-8 text")
        return None
    return text


class _TooMuch(Exception):
    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _bound(text: str, most_nodes: int) -> None:
    """Raise _TooMuch before a tree is made, whose depth nothing bounds in libyaml."""
    depth = count = 0
    for event in yaml.parse(text, _CoreLoader):
        count += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else 1
        if depth > MAX_DEPTH + 1:
            raise _TooMuch(f"is nested deeper than {MAX_DEPTH} levels", line)
        if count > 2 * most_nodes:  # keys are nodes here
            raise _TooMuch(f"has more than {most_nodes} values", line)


_FAST = yaml.__with_libyaml__
_Loader = yaml.CSafeLoader if _FAST else yaml.SafeLoader
"""libyaml's where there is one: ten times as fast."""


class _CoreLoader(_Loader):  # type: ignore[misc, valid-type]
    """YAML 1.2's core schema in place of 1.1's: no sexagesimals, dates, yes and no, and 1e-4 is a number."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - a class attribute of the base


_CORE = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class CoreDumper(yaml.SafeDumper):
    """Writes what `parse` reads as the same values: text that would be read as something else is quoted."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - a class attribute of the base


for _tag, _pattern, _first in _CORE:
    for _kind in (_CoreLoader, CoreDumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


class _Walk:
    """From PyYAML's nodes to ours, counting what aliases repeat."""

    def __init__(self, problems: Problems, most_nodes: int) -> None:
        self.problems = problems
        self.most_nodes = most_nodes
        self.count = 0

    def node(self, raw: yaml.Node, path: str, depth: int, key: yaml.Node | None = None) -> Node:
        self.count += 1
        line, column = raw.start_mark.line + 1, raw.start_mark.column + 1
        if self.count > self.most_nodes:
            raise _TooMuch(f"has more than {self.most_nodes} values, aliases counted", line)
        if depth > MAX_DEPTH:
            raise _TooMuch(f"is nested deeper than {MAX_DEPTH} levels", line)
        mark = (key or raw).start_mark
        text = raw.value if isinstance(raw, yaml.ScalarNode) else ""
        value = self.value(raw, path, depth)
        return Node(value, path, line, column, text, mark.line + 1, mark.column + 1)

    def value(self, raw: yaml.Node, path: str, depth: int) -> Value:
        match raw:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return dict(self.entries(raw, path, depth))
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                return [
                    self.node(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(raw.value)
                ]
            case yaml.ScalarNode():
                return self.scalar(raw, path)
        self.wrong(raw, path, "tag", f"the tag {raw.tag} is not allowed")
        return None

    def entries(self, raw: yaml.MappingNode, path: str, depth: int) -> Iterator[tuple[str, Node]]:
        lines: dict[str, int] = {}
        for key, value in raw.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value or texts.refusal(key.value):
                self.wrong(key, path, "key", "a key must be a word")
                continue
            if key.value == "<<":
                self.wrong(key, path, "key", "merge keys are not read; an alias may stand for a whole value")
                continue
            inner = f"{path}.{key.value}" if path else key.value
            node = self.node(value, inner, depth + 1, key)
            if key.value in lines:
                message = f"the key {key.value!r} stands in line {lines[key.value]} already"
                self.wrong(key, inner, "duplicate-key", message)
                continue
            lines[key.value] = node.key_line
            yield key.value, node

    def scalar(self, raw: yaml.ScalarNode, path: str) -> Value:
        text: str = raw.value
        match raw.tag.rpartition(":")[2]:
            case "str":
                if refusal := texts.refusal(text):
                    self.wrong(raw, path, "character", refusal)
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" | "float" as kind:
                number = _number(kind, text)
                if number is None:
                    self.wrong(raw, path, "number", f"{_clipped(text)} is no number that JSON can hold")
                return number
        self.wrong(raw, path, "tag", f"the tag {raw.tag} is not allowed")
        return None

    def wrong(self, raw: yaml.Node, path: str, rule: str, message: str) -> None:
        mark = raw.start_mark
        self.problems.place(mark.line + 1, mark.column + 1, path, rule, message)


def _number(kind: str, text: str) -> int | float | None:
    try:
        number = int(text, 0 if text.startswith(("0o", "0x")) else 10) if kind == "int" else float(text)
        return number if math.isfinite(number) else None
    except (ValueError, OverflowError):
        return None


def _clipped(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
