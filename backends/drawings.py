"""Pipelines as YAML: the document of db/documents.py as text, and back, exactly.

Read by the rules of manifests (manifest_documents.py): YAML 1.2, no key twice, bounded. `Drawing.located` leads
every mistake to the line it stands in. Reading a large text takes a while: not for the event loop.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from backends.manifest_documents import CoreDumper, Node, Problems, parse
from db import errors
from db.errors import Problem

MAX_BYTES = 256 << 10
MAX_NODES = 100_000


@dataclass(frozen=True, slots=True)
class Drawing:
    """A document that was read from text, with the place of each of its values."""

    document: Any
    root: Node

    def located(self, problem: Problem) -> Problem:
        """The problem with the line of what its path leads to, or of the nearest that there is."""
        node = self.root
        for part in problem.path:
            inner = _inner(node, part)
            if inner is None:
                break
            node = inner
        where = f"{'.'.join(problem.path)}: " if problem.path else ""
        return Problem(problem.path, f"line {node.key_line}: {where}{problem.message}")


def _inner(node: Node, part: str) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(part)
    if isinstance(node.value, list) and part.isdecimal() and int(part) < len(node.value):
        return node.value[int(part)]
    return None


def read(text: str) -> Drawing:
    """The document in a text; raises LimitExceeded, or Invalid with every place where it is no such document."""
    problems = Problems("")
    content = text.encode("utf-8", "replace")
    if len(content) > MAX_BYTES:
        message = f"a pipeline's text is at most {MAX_BYTES >> 10} KiB, this one has {len(content) >> 10}"
        raise errors.LimitExceeded(message)
    root = parse(content, problems, most_bytes=MAX_BYTES, most_nodes=MAX_NODES)
    if root is None or problems.found:
        raise errors.Invalid(problems=[_told(found) for found in problems.sorted()])
    return Drawing(_plain(root), root)


def _told(found: Any) -> Problem:
    where = f"{found.path}: " if found.path else ""
    return Problem((), f"line {found.line}: {where}{found.message}")


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: _plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    return node.value


class _Dumper(CoreDumper):
    """Short lists and objects of plain values on one line, everything else as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        return super().represent_sequence(tag, sequence, flow_style=_is_short(sequence))

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        return super().represent_mapping(tag, mapping, flow_style=_is_short(list(mapping.values())))


def _is_short(values: Sequence[Any]) -> bool:
    plain = all(isinstance(value, str | int | float | None) and "\n" not in str(value) for value in values)
    return plain and sum(len(str(value)) + 4 for value in values) <= 60


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


_FOLDED = re.compile("[\\r\\x85\\u2028\\u2029]")


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    if _FOLDED.search(value):
        style = '"'  # YAML takes them for line breaks, and a quoted line break for a space
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(str, _text)


def write(document: Any) -> str:
    """A document as text that `read` gives back."""
    written: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return written
