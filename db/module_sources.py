"""Where a module comes from: a folder, a git repository, or an uploaded archive; told apart, and checked.

A source is checked before anything is recorded, for it becomes an argument of git and a line that everybody
of the project reads: no option in disguise, no transport that runs commands, no password. Fetching is in
backends/fetching.py.
"""

import enum
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from db import errors, ids, texts
from db.errors import Problem

SCHEMES = ("https", "ssh", "file")
"""What git may speak: nothing unauthenticated, and nothing that runs a command (ext::)."""

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""What modules and functions are called."""

_LONGEST = 2_000
_SCP = re.compile(r"([\w.-]+@[\w.-]+):(?!//)(.+)", re.ASCII)
_REF = re.compile(r"(?![-/.])(?!.*(\.\.|//|@\{))[^\s\x00-\x20\x7f~^:?*\[\\]{1,250}(?<![/.])")
"""What git-check-ref-format allows, and no option."""


class SourceKind(enum.Enum):
    """What kind of place a source is."""

    FOLDER = "FOLDER"
    GIT = "GIT"
    FILE = "FILE"


@dataclass(frozen=True, slots=True)
class Source:
    """A source. `ref` is a branch, tag or commit; `folder` the part of it that holds the module."""

    kind: SourceKind
    location: str
    ref: str | None = None
    folder: str | None = None
    submodules: bool = False
    name: str | None = None
    """What the module is to be called, where that is not for its manifest to say."""

    @property
    def file_id(self) -> bytes:
        """The id of the uploaded archive."""
        return ids.decode("file", self.location)


def parse(
    location: str,
    *,
    ref: str | None = None,
    folder: str | None = None,
    submodules: bool = False,
    name: str | None = None,
) -> Source:
    """The source that was meant. Raises Invalid with everything that is wrong with it.

    `git@host:path` and pip's `git+https://host/path@ref` are taken for what they mean.
    """
    kind, location, ref, problems = _place(location.strip(), ref)
    if kind is not SourceKind.GIT and ref is not None:
        problems.append(Problem(("ref",), "only a git repository has branches, tags and commits"))
    if kind is not SourceKind.GIT and submodules:
        problems.append(Problem(("submodules",), "only a git repository has submodules"))
    if ref is not None and not _REF.fullmatch(ref):
        problems.append(Problem(("ref",), f"{ids.shorten(ref)!r} is no branch, tag or commit"))
    parts = [part for part in (folder or "").split("/") if part not in ("", ".")]
    if folder is not None and (
        _refusal(folder) or folder.startswith("/") or ".." in parts or ".git" in parts
    ):
        problems.append(Problem(("folder",), "must be a path within the source, such as modules/text"))
    if name is not None and not NAME.fullmatch(name):
        rule = "must begin with a lower-case letter, then letters, digits, _ and -, at most 63"
        problems.append(Problem(("name",), f"{texts.shown(name)} {rule}"))
    if problems:
        raise errors.Invalid(problems=problems)
    return Source(kind, location, ref, "/".join(parts) or None, submodules, name)


def _place(location: str, ref: str | None) -> tuple[SourceKind, str, str | None, list[Problem]]:
    if not location:
        words = "say a folder, a git repository's URL, or the id of an uploaded archive"
        return SourceKind.FOLDER, location, ref, [Problem(("source",), words)]
    if message := _refusal(location):
        return SourceKind.FOLDER, location, ref, [Problem(("source",), message)]
    if _is_file(location):
        return SourceKind.FILE, location, ref, []
    pinned = location.startswith("git+")
    if pinned:
        location, ref = _pinned(location.removeprefix("git+"), ref)
    elif match := _SCP.fullmatch(location):
        location = f"ssh://{match[1]}/{match[2].lstrip('/')}"
    if pinned or "://" in location or "::" in location or location.startswith("-"):
        return SourceKind.GIT, location, ref, [Problem(("source",), m) for m in _url_problems(location)]
    return SourceKind.FOLDER, location, ref, []


def _is_file(location: str) -> bool:
    """Whether it is a file's id; anything else of that look is a folder that is not there."""
    try:
        return ids.split(location)[0] == "file"
    except errors.NotFound:
        return False


def _refusal(text: str) -> str | None:
    if message := texts.refusal(text):
        return message
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        return "has control characters"
    return f"is longer than {_LONGEST} characters" if len(text) > _LONGEST else None


def _pinned(location: str, ref: str | None) -> tuple[str, str | None]:
    """pip writes the branch, tag or commit behind the last @ of the path."""
    head, at, tail = location.rpartition("@")
    return (head, ref or tail) if at and "/" in head.partition("://")[2] else (location, ref)


def _url_problems(location: str) -> list[str]:
    """Of a URL that may hold a secret, nothing but its scheme is repeated."""
    allowed = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    if location.startswith("-") or "::" in location.partition("://")[0]:
        return [f"is no URL that git is given here: {allowed}"]
    try:
        parts = urlsplit(location)
        _ = parts.port
    except ValueError:
        return ["is no URL: its host or port cannot be read"]
    if parts.scheme not in SCHEMES:
        return [f"{ids.shorten(parts.scheme)}:// is not taken from a git repository: {allowed}"]
    problems = []
    if parts.password is not None or (parts.scheme == "https" and parts.username):
        problems.append(
            "must carry no credentials, which everybody would read: use an SSH key or the server's ~/.netrc"
        )
    if parts.query or parts.fragment:
        problems.append("must have no ? or #: give branch, tag or commit as ref, a subfolder as folder")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.strip("/"):
            problems.append("must name an absolute path: file:///srv/repositories/text.git")
    elif not parts.hostname or parts.hostname.startswith("-") or (parts.username or "").startswith("-"):
        problems.append("names no host")
    elif not parts.path.strip("/"):
        problems.append("names a host and no repository")
    return problems
