"""Where a module is, as the command takes it, and how the server gets at it.

A folder is named to a server of this machine, packed and uploaded to any other one, or when asked; an archive
is uploaded; a repository's URL goes to the server as it is.
"""

import asyncio
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rungraph import files, settings, values
from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.output import Output

_LEFT_BEHIND = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", "node_modules", ".DS_Store", ".rungraph"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
)
"""What the server leaves behind too."""
_REMOTE = re.compile(r"[\w.-]+@[\w.-]+:.+", re.ASCII)

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A folder, an archive (.tar.gz, .zip), a file's id, or a git URL."),
]
Ref = Annotated[str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of the repository.")]
Folder = Annotated[
    str | None, typer.Option(metavar="PATH", help="The folder of the source that holds the module.")
]
Submodules = Annotated[bool, typer.Option("--submodules", help="Fetch the repository's submodules too.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="What to call the module.")]
Upload = Annotated[
    bool, typer.Option("--upload", help="Pack and upload the folder, also to a server of this machine.")
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A source as it was written on the command line."""

    source: str
    ref: str | None = None
    folder: str | None = None
    submodules: bool = False
    name: str | None = None
    upload: bool = False


async def described(client: Client, output: Output, wanted: Wanted) -> dict[str, Any]:
    """What the server is to be told, once what only we have is there."""
    given: dict[str, Any] = {"source": await _placed(client, output, wanted)}
    if wanted.submodules:
        given["submodules"] = True
    for key in ("ref", "folder", "name"):
        if (value := getattr(wanted, key)) is not None:
            given[key] = value
    return given


async def _placed(client: Client, output: Output, wanted: Wanted) -> str:
    source = wanted.source
    path = Path(source).expanduser()
    if "://" in source or (_REMOTE.fullmatch(source) and not path.exists()):
        return source
    if values.is_id("file", source) and not path.exists():
        return source
    if path.is_file():
        return str((await files.put(client, output, path))["id"])
    if wanted.upload or not settings.is_loopback(client.url):
        if not path.is_dir():
            raise BadUsage(f"{source}: there is no such folder or archive here")
        return await _pack(client, output, path)
    # The server does not share our working directory.
    return str(path.resolve())


async def _pack(client: Client, output: Output, folder: Path) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, f"{folder.resolve().name or 'module'}.tar.gz")
        await asyncio.to_thread(_write, folder.resolve(), archive)
        return str((await files.put(client, output, archive))["id"])


def _write(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz", dereference=True) as packed:
        for path in _files(folder):
            packed.add(path, path.relative_to(folder).as_posix(), recursive=False)


def _files(folder: Path) -> Iterator[Path]:
    """The module's files; links to files within it become those files, as on the server."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_BEHIND)
        linked = [name for name in folders if Path(at, name).is_symlink()]
        for name in sorted([*names, *linked]):
            path = Path(at, name)
            if name in _LEFT_BEHIND or name.endswith(".pyc"):
                continue
            if not path.resolve().is_relative_to(folder) or not path.is_file():
                raise BadUsage(f"{path.relative_to(folder)}: a module holds regular files of its own alone")
            yield path
