"""What a job made: its output folder read, checked against its output.json, and its files kept.

Contents go to the blobs before the database hears of them; a crash in between leaves contents without a
name, and doing it again finds them there.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from backends.blobs import Blobs
from backends.contents import BlobInvalid
from db import contracts, manifests
from db.claims import Input
from db.contracts import OutputFile, OutputKind
from db.ends import Made

MOST_FILES = 10_000


@dataclass(frozen=True, slots=True)
class Gathered:
    """The files of a job and its document, or why its output cannot be taken."""

    made: tuple[Made, ...] = ()
    document: Any = None
    refusal: str | None = None


async def gather(
    folder: Path, blobs: Blobs, function: manifests.Function, inputs: Sequence[Input]
) -> Gathered:
    """Keep what lies in an output folder, as its output.json says; a lie is a refusal, and keeps nothing."""
    try:
        sizes = _sizes(folder)
        document = _document(folder, sizes)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        # The job owns its folder, and may have taken it away.
        return Gathered(refusal=f"the output folder cannot be read: {error.strerror}")
    if len(sizes) > MOST_FILES:
        return Gathered(refusal=f"more than {MOST_FILES} files in the output folder")
    given = {file.name: file for file in inputs}
    outputs = contracts.read_output(document, sizes, set(given), function)
    if outputs.problems:
        told = "; ".join(f"{_where(problem.path)}{problem.message}" for problem in outputs.problems)
        return Gathered(refusal=told)
    try:
        said = _said(document)
        made = tuple([await _keep(folder, blobs, file, given.get(file.name)) for file in outputs.files])
    except orjson.JSONDecodeError as error:
        # It is stricter than the contract's reader: NaN or half a character cannot be kept.
        return Gathered(refusal=f"output.json is not JSON: {error}")
    except orjson.JSONEncodeError:
        return Gathered(refusal="output.json is nested too deeply")
    except (BlobInvalid, FileNotFoundError) as error:
        return Gathered(refusal=str(error))
    return Gathered(made, said)


def _said(document: bytes | None) -> Any:
    """The document's value, if it can be kept: writing goes less deep than reading."""
    said = orjson.loads(document) if document else None
    orjson.dumps(said)
    return said


def _sizes(folder: Path) -> dict[str, int]:
    """The regular files, one more than may be at most."""
    sizes: dict[str, int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                sizes[os.fsencode(entry.name).decode("utf-8", "backslashreplace")] = status.st_size
            if len(sizes) > MOST_FILES:
                break
    return sizes


def _document(folder: Path, sizes: dict[str, int]) -> bytes | None:
    if contracts.OUTPUT_DOCUMENT not in sizes:
        return None
    with (folder / contracts.OUTPUT_DOCUMENT).open("rb") as file:
        return file.read(contracts.MAX_DOCUMENT_BYTES + 1)


async def _keep(folder: Path, blobs: Blobs, file: OutputFile, given: Input | None) -> Made:
    source = None if file.kind is OutputKind.CREATED else given
    if file.kind is OutputKind.UNCHANGED:
        assert given is not None
        size = blobs.path(given.sha256).stat().st_size
        return Made(file, given.sha256, size, given.file_id)
    stored = await blobs.adopt(folder / file.name)
    return Made(file, stored.sha256, stored.size_bytes, source.file_id if source else None)


def _where(path: Sequence[str | int]) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""
