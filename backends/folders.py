"""Folders of attempts on disk: filled before they get their name, emptied after they have lost it.

Contents are shared with the store where the file system can, and never linked, because jobs may write to
what they are given. Part of `local.py`.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from pathlib import Path

from backends import attempts, base

FICLONE = 0x40049409


def fill(new: Path, record: attempts.Record, spec: base.JobSpec, *, output: bool = True) -> None:
    """Make the folder of an attempt, complete but for its name; `output` is for what it writes."""
    path = str(new)  # launching happens in the event loop, and pathlib takes half of its time
    for folder in (path, *([f"{path}/output"] if output else ()), f"{path}/input"):
        os.mkdir(folder)  # noqa: PTH102
    for name, data in (
        ("input/input.json", spec.input_document),
        (attempts.SPEC, json.dumps(record).encode()),
    ):
        with open(f"{path}/{name}", "xb") as file:  # noqa: PTH123
            file.write(data)
    for each in spec.inputs:
        if not each.content.is_file():
            raise base.LaunchRejected(f"the content of the input file {each.name} is not there any more")
        _copy(each.content, new / "input" / each.name)


def _copy(source: Path, target: Path) -> None:
    """Share the blocks where the file system can, else copy in the kernel. Never a link: jobs may write."""
    with source.open("rb", buffering=0) as reading, target.open("xb") as writing:
        with contextlib.suppress(OSError):
            fcntl.ioctl(writing, FICLONE, reading.fileno())
            return
        with contextlib.suppress(OSError):
            while os.copy_file_range(reading.fileno(), writing.fileno(), 1 << 30):
                pass
        # Goes on where the kernel stopped; through a buffer, which says where the disk takes only a part.
        shutil.copyfileobj(reading, writing, 1 << 20)


def keep(path: Path, value: str) -> str:
    """The word that lies in a file, this one if there is none yet; a death or a full disk leaves no empty one."""
    with contextlib.suppress(FileNotFoundError):
        if found := path.read_text().strip():
            return found
        path.unlink()
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with new.open("x") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(new)
    finally:
        new.unlink(missing_ok=True)
    return path.read_text().strip()


def link(target: Path, link: Path) -> None:
    """Make or mend a symbolic link, in one step for whoever uses it now."""
    if not (link.is_symlink() and link.readlink() == target):
        new = link.with_name(f"{link.name}.{secrets.token_hex(4)}")
        new.symlink_to(target)
        new.rename(link)


def discard(folder: Path) -> None:
    """Remove a folder, also where a job took its own right to write away; what resists stays for later."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for path, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                Path(path).chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)
