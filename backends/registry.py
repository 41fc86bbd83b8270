"""Which adapter a configured kind names. Constructors import lazily: who needs one pays for one."""

from collections.abc import Callable
from pathlib import Path

from backends.base import Backend

Construct = Callable[[Path], Backend]


def _local(home: Path) -> Backend:
    from backends.local import Local

    return Local(home)


KINDS: dict[str, Construct] = {"local": _local}


def construct(kind: str, home: Path) -> Backend:
    """The adapter of this kind, keeping its files below `home`; KeyError for a kind there is not."""
    return KINDS[kind](home)
