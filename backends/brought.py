"""The client's package where jobs of this machine find it, so that `import rungraph` works in every one.

A folder that holds a copy of it and nothing else: of the server's own environment jobs see nothing. It is named
by its content, so that a job goes on with the files it began with when the server has been replaced.
"""

import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


def bring(package: Path, folder: Path) -> Path:
    """What to put on a job's PYTHONPATH: a folder with a copy of the package, made now or found whole."""
    contents = {path.relative_to(package): path.read_bytes() for path in sorted(package.rglob("*.py"))}
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(b"%s\0%d\0" % (os.fsencode(name), len(content)) + content)
    target = folder / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    new = folder / f".{target.name}.{secrets.token_hex(4)}"
    for name, content in contents.items():
        path = new / package.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with suppress(OSError):  # another was faster
        new.rename(target)
    shutil.rmtree(new, ignore_errors=True)
    return target
