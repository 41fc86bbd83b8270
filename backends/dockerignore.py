"""What a .dockerignore keeps out of a build: it is the client that leaves it out, and here we are the client.

A pattern is a path from the context's top, `*` and `?` within a name, `**` across names; what matches takes what
lies below it along; `!` brings back; the last pattern that matches decides.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

FILE_NAME = ".dockerignore"


@dataclass(frozen=True, slots=True)
class Ignored:
    """The patterns of one context, in order, and what is sent in spite of them."""

    patterns: tuple[tuple[re.Pattern[str], bool], ...] = ()
    keep: frozenset[str] = frozenset()

    @classmethod
    def of(cls, source: Path, keep: Iterable[str] = ()) -> "Ignored":
        """What the file in a folder says; nothing where there is none."""
        path = source / FILE_NAME
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if path.is_file() else []
        return cls(tuple(map(_pattern, filter(_says, lines))), frozenset(keep))

    def has(self, name: str) -> bool:
        """Whether a path of the context is left out."""
        if name in self.keep:
            return False
        ignored = False
        ends = [*map(str, PurePosixPath(name).parents)][:-1]
        for pattern, back in self.patterns:
            if any(pattern.fullmatch(each) for each in (name, *ends)):
                ignored = not back
        return ignored


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _pattern(line: str) -> tuple[re.Pattern[str], bool]:
    text = line.strip()
    back = text.startswith("!")
    parts = [part for part in text.removeprefix("!").strip().split("/") if part not in ("", ".")]
    expression = "/".join("\0" if part == "**" else _part(part) for part in parts)
    expression = expression.replace("\0/", "(?:.*/)?").replace("/\0", "/.*").replace("\0", ".*")
    return re.compile(expression, re.DOTALL), back


def _part(part: str) -> str:
    """One name's pattern, as Go's filepath.Match has it."""
    words = []
    for token in re.findall(r"\*+|\?|\[\^?[^]]+]|\\.|.", part):
        if token.startswith("*"):
            words.append(".*" if len(token) > 1 else "[^/]*")
        elif token == "?":
            words.append("[^/]")
        elif token.startswith("[") and len(token) > 1:
            words.append(token)
        else:
            words.append(re.escape(token.removeprefix("\\") or token))
    return "".join(words)
