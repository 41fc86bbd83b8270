"""A disk that has no room, really: the kernel refuses what would make any file larger, than a MiB if nobody says."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def full(most_bytes: int = 1 << 20) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
