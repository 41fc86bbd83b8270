"""The formats a module may describe itself in: rungraph.yaml, and MLsploit's two.

Which one it is, the files say. Ours names its module; the others are called by their title, or by what their
source is called. What is unusual but accepted comes as notes, beside the manifest.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backends import manifests, mlsploit
from backends.manifest_documents import ManifestProblem
from db.manifests import Manifest
from db.module_sources import NAME, Source

_ENDS = re.compile(r"\.(git|tar|tgz|tar\.gz|zip)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Described:
    """What a module says of itself, and what is worth a word."""

    manifest: Manifest
    notes: Sequence[ManifestProblem] = ()


def describe(folder: Path, source: Source, file_name: str | None = None) -> Described:
    """What the module in a folder says of itself. Raises ManifestInvalid.

    `source` is where it came from, `file_name` what an uploaded archive was called: either may have to name it.
    """
    described = _described(folder, source, file_name)
    if source.name is None:
        return described
    return Described(dataclasses.replace(described.manifest, name=source.name), described.notes)


def _described(folder: Path, source: Source, file_name: str | None) -> Described:
    ours, theirs, older = (
        (folder / name).exists() for name in (manifests.FILE_NAME, mlsploit.FILE_NAME, mlsploit.INPUT_SCHEMA)
    )
    if ours or not (theirs or older):
        try:
            return Described(manifests.read(folder), _ignored(theirs or older))
        except manifests.ManifestInvalid as error:
            raise error if ours else _nothing(error) from error
    called = source.name or _name(source, file_name)
    if not theirs:
        return Described(*mlsploit.read_schemas(folder, called))
    manifest, notes = mlsploit.read(folder, called)
    titled = _slug(manifest.title)
    return Described(dataclasses.replace(manifest, name=titled or called), notes)


def _ignored(others: bool) -> Sequence[ManifestProblem]:
    words = f"{mlsploit.FILE_NAME} or {mlsploit.INPUT_SCHEMA} lies beside it and is ignored"
    return [ManifestProblem(manifests.FILE_NAME, 1, 1, "", "two-formats", words)] if others else []


def _nothing(error: manifests.ManifestInvalid) -> manifests.ManifestInvalid:
    """Nothing that describes it: all the names that were looked for."""
    names = f"nor {mlsploit.FILE_NAME}, nor {mlsploit.INPUT_SCHEMA} and {mlsploit.OUTPUT_SCHEMA}"
    first, *rest = error.problems
    told = dataclasses.replace(first, message=f"{first.message}, {names}")
    return manifests.ManifestInvalid((told, *rest))


def _name(source: Source, file_name: str | None) -> str:
    last = PurePosixPath(source.folder or file_name or source.location.rstrip("/")).name
    return _slug(_ENDS.sub("", last)) or "module"


def _slug(words: str) -> str:
    """Words as a module's name; empty where nothing is left of them."""
    plain = re.sub(r"[^a-z0-9_]+", "-", words.lower()).strip("-_")
    plain = re.sub(r"^[^a-z]+", "", plain)[:63].rstrip("-_")
    return plain if NAME.fullmatch(plain) else ""
