"""Module sources, kept by content: the same folder is the same version, whenever and wherever it is read.

A version's jobs must see what was checked at its installation, so the folder is copied, read-only, to a
place named by a digest of names, executable bits and contents. Caches and environments stay behind. The copy
appears by one rename after everything is on disk: after a crash it is whole or absent. What is not a folder
yet becomes one in fetching.py.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MAX_FILES = 10_000
MAX_BYTES = 1 << 30

_LEFT_BEHIND = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", "node_modules", ".DS_Store", ".rungraph"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
)
SCRATCH = ".fetch-"
"""How the name of what is only there for a while begins; `sweep` removes what a death left of it."""

_READS = 3
_CHUNK = 1 << 20
_STALE_SECONDS = 86_400


class SourceInvalid(Exception):
    """The source cannot become a module version; the message names what stands in the way, and the rule."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source at rest: `path` is read-only, named by `digest`, and holds so many files and bytes."""

    digest: str
    path: Path
    files: int
    bytes: int


async def fetch(source: str, store: Path, label: str | None = None) -> Fetched:
    """Copy the local folder `source` into `store`, or find there what equals it. Raises SourceInvalid.

    `label` is what messages call it.

    Symbolic links to files within the folder become those files. A folder that changes while it is read is
    read again, up to three times.
    """
    return await asyncio.to_thread(_fetch, source, store, label or source)


def survey(folder: Path, label: str) -> None:
    """Raise SourceInvalid for what `fetch` would refuse, without copying anything."""
    if not folder.is_dir():
        raise SourceInvalid(_no_folder(folder, label))
    try:
        _listed(folder.resolve())
    except _Changed as error:
        raise SourceInvalid(f"{error} changed while it was read; try again when it is at rest") from error


def sweep(store: Path) -> None:
    """Remove what a crash left half copied, a day after."""
    for left in store.glob(f"{SCRATCH}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS:
                remove(left)


def remove(folder: Path) -> None:
    """Removes a copy, read-only folders included; nothing is said of what is gone already."""
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def discard(store: Path, digest: str) -> None:
    """Free a content of the store: gone at once, and its disk soon after; a repeat is silent."""
    gone = store / f"{SCRATCH}{digest}.{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        (store / digest).chmod(0o755)
        (store / digest).rename(gone)
        remove(gone)


class _Changed(Exception):
    """The folder is not what it was when its reading began."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file to copy: its name in the copy, where its content lies, how it stood when listed."""

    name: str
    path: Path
    state: tuple[int, ...]
    size: int
    executable: bool


def _fetch(source: str, store: Path, label: str) -> Fetched:
    folder = Path(source)
    if not folder.is_dir():
        raise SourceInvalid(_no_folder(folder, label))
    folder = folder.resolve()
    store.mkdir(parents=True, exist_ok=True)
    inside = store.resolve().parts[len(folder.parts) :] if store.resolve().is_relative_to(folder) else None
    if inside is not None and _LEFT_BEHIND.isdisjoint(inside):
        raise SourceInvalid(f"{label} holds the server's own files; install a folder of its own")
    sweep(store)
    for _ in range(_READS):
        try:
            return _copy(folder, store)
        except _Changed as change:
            changed = str(change)
    raise SourceInvalid(f"{changed} changed while it was read, {_READS} times; try again when it is at rest")


def _no_folder(folder: Path, label: str) -> str:
    return (
        f"{label} is {'no folder' if folder.exists() else 'not there'}: give a folder of the server's machine"
    )


def _copy(folder: Path, store: Path) -> Fetched:
    entries = _listed(folder)
    temporary = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=store))
    try:
        digest = _copy_entries(entries, temporary)
        if _listed(folder) != entries:
            raise _Changed(str(folder))
        _settle(temporary)
        return Fetched(digest, _place(temporary, store / digest), len(entries), sum(e.size for e in entries))
    finally:
        remove(temporary)


def _listed(folder: Path) -> list[_Entry]:
    """Everything that belongs to the version, by name, or the first thing that cannot."""
    entries: list[_Entry] = []
    total = 0
    for name, path in _walk(folder, PurePosixPath(), folder):
        entry = _entry(folder, name, path)
        total += entry.size
        entries.append(entry)
        if len(entries) > MAX_FILES:
            raise SourceInvalid(f"the folder has more than {MAX_FILES} files, the most a module may have")
        if total > MAX_BYTES:
            raise SourceInvalid(f"the folder is larger than {MAX_BYTES >> 20} MiB, the most a module may be")
    if not entries:
        raise SourceInvalid("the folder holds no files")
    return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def _walk(folder: Path, below: PurePosixPath, top: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    try:
        with os.scandir(folder) as found:
            items = list(found)
    except FileNotFoundError as error:
        raise _Changed(str(folder)) from error
    except OSError as error:
        raise SourceInvalid(f"{below or top} cannot be read: {error.strerror}") from error
    for item in items:
        if item.name in _LEFT_BEHIND or item.name.endswith(".pyc"):
            continue
        if item.is_dir(follow_symlinks=False):
            yield from _walk(Path(item.path), below / item.name, top)
        else:
            yield below / item.name, Path(item.path)


def _entry(folder: Path, name: PurePosixPath, path: Path) -> _Entry:
    try:
        name.as_posix().encode()
        target = path.resolve(strict=True) if path.is_symlink() else path
        status = target.stat(follow_symlinks=False)
    except UnicodeEncodeError as error:
        raise SourceInvalid(f"{name.as_posix()!r} is no UTF-8 file name") from error
    except FileNotFoundError as error:
        if path.is_symlink():
            raise SourceInvalid(f"{name} is a symbolic link to what is not there") from error
        raise _Changed(str(name)) from error
    except (OSError, RuntimeError) as error:
        raise SourceInvalid(f"{name} cannot be read: {error}") from error
    if not target.is_relative_to(folder):
        raise SourceInvalid(f"{name} is a symbolic link that leaves the folder; links must stay within it")
    if not stat.S_ISREG(status.st_mode):
        what = "a symbolic link to a folder" if stat.S_ISDIR(status.st_mode) else "a special file"
        raise SourceInvalid(f"{name} is {what}; a module holds regular files alone")
    executable = bool(status.st_mode & stat.S_IXUSR)
    return _Entry(name.as_posix(), target, _state(status), status.st_size, executable)


def _state(status: os.stat_result) -> tuple[int, ...]:
    """What differs once a file is written to or replaced."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _copy_entries(entries: list[_Entry], temporary: Path) -> str:
    """The digest: over each file its name's length and name, its executable bit, and its content's digest."""
    digest = hashlib.sha256()
    for entry in entries:
        place = temporary / entry.name
        place.parent.mkdir(parents=True, exist_ok=True)
        content = _copy_file(entry, place)
        name = entry.name.encode()
        digest.update(len(name).to_bytes(4, "big") + name + (b"x" if entry.executable else b"-") + content)
    return digest.hexdigest()


def _copy_file(entry: _Entry, place: Path) -> bytes:
    """Copies one file to disk and returns its SHA-256. What is read is what was listed, or the read fails."""
    digest = hashlib.sha256()
    try:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError as error:
        raise SourceInvalid(f"{entry.name} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise _Changed(entry.name) from error
    if _state(os.fstat(descriptor)) != entry.state:
        os.close(descriptor)
        raise _Changed(entry.name)
    with os.fdopen(descriptor, "rb") as source, place.open("xb") as copy:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
            if copy.tell() > entry.size:
                raise _Changed(entry.name)
        if _state(os.fstat(descriptor)) != entry.state:
            raise _Changed(entry.name)
        copy.flush()
        os.fchmod(copy.fileno(), 0o555 if entry.executable else 0o444)
        os.fsync(copy.fileno())
    return digest.digest()


def _settle(folder: Path) -> None:
    """Folders read-only and on disk, from the bottom up; the top stays writable until it is renamed."""
    for path, _, _ in os.walk(folder, topdown=False):
        if Path(path) != folder:
            Path(path).chmod(0o555)
        _sync(Path(path))


def _place(temporary: Path, place: Path) -> Path:
    if not place.is_dir():
        try:
            temporary.rename(place)
        except OSError:
            if not place.is_dir():
                raise
    place.chmod(0o555)
    _sync(place.parent)
    return place


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
