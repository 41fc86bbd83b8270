"""Archives as a source of modules: .tar, .tar.gz and .zip, unpacked so that nothing lands outside.

What an archive says of itself is believed of nothing: names are checked, bytes are counted as they come out,
links are made last and only to what lies inside, and anything but files, folders and links is refused. What
it is, its content decides, not its name. A single folder at the top is entered.
"""

import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from backends import tars
from backends.sources import MAX_BYTES, MAX_FILES, SourceInvalid

_CHUNK = 1 << 20
_MOST_ENTRIES = 4 * MAX_FILES
"""Folders, and what no version keeps, come on top of a module's files."""
_HEADER_BYTES = 1 << 20
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_DIRECTORY_BYTES = 32 << 20
"""What a zip's list of entries may come to, which is read whole."""
_KINDS = ".tar, .tar.gz and .zip"
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
)
"""What the standard library raises over content that is not what it says; gzip.BadGzipFile is an OSError."""


def unpack(archive: Path, into: Path) -> Path:
    """Unpack into the empty folder `into`; the folder that holds the module. Raises SourceInvalid."""
    with _Sparing(io.FileIO(archive)) as file:
        start = file.read(262)
        file.seek(0)
        writer = _Writer(into)
        try:
            if start.startswith(b"PK"):
                _unpack_zip(file, writer)
            elif start.startswith(b"\x1f\x8b"):
                with gzip.GzipFile(fileobj=file) as content:
                    _unpack_tar(content, writer)
            elif start[257:262] == b"ustar":
                _unpack_tar(file, writer)
            else:
                raise SourceInvalid(f"this is no archive that is known here: {_KINDS} are")
        except (*_DAMAGED, gzip.BadGzipFile) as error:
            raise SourceInvalid(f"the archive is damaged: {error}") from error
        except (NotImplementedError, RuntimeError, OSError) as error:
            raise SourceInvalid(f"the archive cannot be unpacked: {error}") from error
    writer.make_links()
    return _top(into)


def _top(folder: Path) -> Path:
    found = [entry for entry in folder.iterdir() if entry.name != ".DS_Store"]
    return found[0] if len(found) == 1 and found[0].is_dir() and not found[0].is_symlink() else folder


class _Sparing(io.BufferedReader):
    """A file that nobody reads in one piece: zipfile takes the list of entries for as long as it says it is."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _DIRECTORY_BYTES:
            raise SourceInvalid(f"the archive has more than {_MOST_ENTRIES} entries")
        return super().read(size)


@dataclass(slots=True)
class _Capped:
    """A stream that gives out only so many bytes: headers and skipped entries count like files."""

    content: IO[bytes] | gzip.GzipFile
    left: int

    def read(self, size: int) -> bytes:
        data = self.content.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise SourceInvalid(f"the archive unpacks to more than {MAX_BYTES >> 20} MiB")
        return data


class _Member(tars.Member):
    """tarfile reads a header's extension whole; one of a gigabyte is no header."""

    def _proc_member(self, archive: Any) -> Any:
        if self.type in (*_HEADERS, *_LONG) and self.size > _HEADER_BYTES:
            raise tarfile.ReadError("a header is larger than any name")
        return super()._proc_member(archive)  # type: ignore[misc]


def _unpack_tar(content: IO[bytes] | gzip.GzipFile, writer: "_Writer") -> None:
    capped: Any = _Capped(content, MAX_BYTES + _MOST_ENTRIES * 2 * tarfile.BLOCKSIZE)
    with tarfile.open(fileobj=capped, mode="r|", tarinfo=_Member) as archive:
        for member in archive:
            if not writer.wants(member.name):
                continue
            if member.isdir():
                writer.folder(member.name)
            elif member.issym():
                writer.link(member.name, member.linkname)
            elif member.islnk():
                writer.again(member.name, member.linkname)
            elif member.isreg():
                data = archive.extractfile(member)
                assert data is not None
                writer.file(member.name, data, bool(member.mode & stat.S_IXUSR))
            else:
                raise SourceInvalid(
                    f"{member.name!r} is a device or pipe; a module holds regular files alone"
                )
    while capped.read(_CHUNK):
        pass  # what gzip says of the whole stands at its end


def _unpack_zip(file: IO[bytes], writer: "_Writer") -> None:
    with zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > _MOST_ENTRIES:
            raise SourceInvalid(f"the archive has more than {_MOST_ENTRIES} entries")
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if not writer.wants(info.filename):
                continue
            if info.flag_bits & 1:
                raise SourceInvalid(f"{info.filename!r} is encrypted")
            if info.is_dir():
                writer.folder(info.filename)
                continue
            with archive.open(info) as data:
                if stat.S_ISLNK(mode):
                    writer.link(info.filename, data.read(4_096).decode(errors="replace"))
                elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                    writer.file(info.filename, data, bool(mode & stat.S_IXUSR))
                else:
                    raise SourceInvalid(f"{info.filename!r} is a device or pipe")


class _Writer:
    """Writes what an archive says, inside one folder alone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._left = MAX_BYTES
        self._entries = 0
        self._links: list[tuple[str, PurePosixPath, str]] = []

    def wants(self, name: str) -> bool:
        """Whether it is part of the module; what macOS adds is not."""
        self._entries += 1
        if self._entries > _MOST_ENTRIES:
            raise SourceInvalid(f"the archive has more than {_MOST_ENTRIES} entries")
        return not name.startswith("__MACOSX/")

    def folder(self, name: str) -> None:
        if PurePosixPath(name).parts:  # the archive's own top is here already
            with _named(name):
                (self._root / _inside(name)).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, data: IO[bytes], executable: bool) -> None:
        with _named(name), self._created(name) as copy:
            while chunk := data.read(_CHUNK):
                self._left -= len(chunk)
                if self._left < 0:
                    raise SourceInvalid(f"the archive unpacks to more than {MAX_BYTES >> 20} MiB")
                copy.write(chunk)
            os.fchmod(copy.fileno(), 0o755 if executable else 0o644)

    def again(self, name: str, target: str) -> None:
        """A hard link: the content of an earlier entry under another name."""
        with _named(name):
            original = self._root / _inside(target)
            if not original.is_file():
                raise SourceInvalid(f"{name!r} is a link to {target!r}, which does not come before it")
            with original.open("rb") as data:
                self.file(name, data, bool(original.stat().st_mode & stat.S_IXUSR))

    def link(self, name: str, target: str) -> None:
        """A symbolic link, made when nothing is written any more: nothing is ever written through one."""
        place = _inside(name)
        if target.startswith("/") or _climbs(place.parent / target):
            raise SourceInvalid(f"{name!r} is a link that leaves the archive, to {target!r}")
        self._links.append((name, place, target))

    def make_links(self) -> None:
        """Make what `link` was told of."""
        for name, place, target in self._links:
            with _named(name):
                if any((self._root / above).is_symlink() for above in place.parents):
                    raise SourceInvalid(
                        f"{name!r} stands behind a link; an entry must be where its name says"
                    )
                (self._root / place).parent.mkdir(parents=True, exist_ok=True)
                (self._root / place).symlink_to(target)

    @contextlib.contextmanager
    def _created(self, name: str) -> Iterator[IO[bytes]]:
        place = self._root / _inside(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as copy:
            yield copy


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """A name that is there already, is a file where a folder is needed, or cannot be a name."""
    try:
        yield
    except FileExistsError as error:
        raise SourceInvalid(f"{name!r} stands in the archive twice") from error
    except (OSError, ValueError) as error:
        raise SourceInvalid(f"{name!r} cannot be unpacked: {error}") from error


def _inside(name: str) -> PurePosixPath:
    """The path within the folder that an entry's name means, or nothing at all."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or not path.parts:
        raise SourceInvalid(f"{name!r} leads out of the archive; its names must be relative, without ..")
    return path


def _climbs(path: PurePosixPath) -> bool:
    depth = 0
    for part in path.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
