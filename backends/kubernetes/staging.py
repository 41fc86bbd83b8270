"""Folders of jobs on their way out of a pod: unpacked where nothing can lead elsewhere, whole or not at all.

A tar's last entry says that it is whole. What lies there already stays: of workers that make files of one name,
the lowest rank's counts.
"""

import contextlib
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

_TOP = "files"
_WHOLE = "complete"


def unpack(descriptor: int, into: Path) -> bool:
    """Unpack what comes through a pipe, which is closed; whether all of it came."""
    links: list[tuple[Path, str]] = []
    with os.fdopen(descriptor, "rb") as source:
        try:
            with tarfile.open(fileobj=source, mode="r|") as tar:
                for member in tar:
                    if member.name == _WHOLE:
                        _link(links)
                        return True
                    _take(tar, member, into, links)
        except (tarfile.TarError, EOFError):
            return False
        finally:
            while source.read(1 << 20):
                pass  # lest who writes waits for ever
    return False


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path, links: list[tuple[Path, str]]) -> None:
    path = PurePosixPath(member.name)
    if path.parts[:1] != (_TOP,) or ".." in path.parts or path.is_absolute():
        return
    target = into.joinpath(*path.parts[1:])
    if member.isdir():
        with contextlib.suppress(FileExistsError):
            target.mkdir(parents=True)
    elif member.issym():
        links.append((target, member.linkname))
    elif member.isreg() and (content := tar.extractfile(member)) is not None:
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _link(links: list[tuple[Path, str]]) -> None:
    """Symbolic links last, so that nothing is ever written through one."""
    for target, name in links:
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(name)
