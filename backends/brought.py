"""The client's package where jobs of this machine find it, so that `import rungraph` works in every one.

A folder that holds a copy of it and nothing else: of the server's own environment jobs see nothing. It is named
by its content, so that a job goes on with the files it began with when the server has been replaced.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def bring(package: Path, folder: Path) -> Path:
    """What to put on a job's PYTHONPATH: a folder with a copy of the package, made now or found whole."""
    contents = {path.relative_to(package): path.read_bytes() for path in sorted(package.rglob("*.py"))}
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(b"%s\0%d\0" % (os.fsencode(name), len(content)) + content)
    target = folder / digest.hexdigest()[:16]
    if _holds(target / package.name, contents):
        return target
    if target.exists():  # a power cut, or somebody, left less of it than its name says
        torn = folder / f".{target.name}.{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):  # another was faster
            target.rename(torn)
        shutil.rmtree(torn, ignore_errors=True)
    new = folder / f".{target.name}.{secrets.token_hex(4)}"
    for name, content in contents.items():
        path = new / package.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    with suppress(OSError):  # another was faster
        new.rename(target)
    shutil.rmtree(new, ignore_errors=True)
    return target


def _holds(package: Path, contents: Mapping[Path, bytes]) -> bool:
    try:
        return all((package / name).read_bytes() == content for name, content in contents.items())
    except OSError:
        return False
