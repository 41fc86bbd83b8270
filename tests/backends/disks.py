"""A disk that has no room, really: the kernel refuses what would make any file larger than a MiB."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def full() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
