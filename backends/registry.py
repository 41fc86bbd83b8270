"""Which adapter a configured kind names. Constructors import lazily: who needs one pays for one."""

from collections.abc import Callable
from pathlib import Path

from backends.base import Backend

Construct = Callable[[Path, int, float], Backend]


def _local(home: Path, nice: int, usage_seconds: float) -> Backend:
    from backends.local import Local

    return Local(home, nice=nice, usage_seconds=usage_seconds)


KINDS: dict[str, Construct] = {"local": _local}


def construct(kind: str, home: Path, *, nice: int = 0, usage_seconds: float = 0.0) -> Backend:
    """The adapter of this kind, keeping its files below `home`; KeyError for a kind there is not.

    Jobs on this machine are so `nice` to the server and to others. What workers use is looked at that often.
    """
    return KINDS[kind](home, nice, usage_seconds)
