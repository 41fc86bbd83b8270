"""Which adapter a configured kind names. Adapters import lazily: who needs one pays for one.

Each adapter's module has `adapter(home, options)`, which reads its own options and raises base.BadOptions.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backends.base import Backend

Construct = Callable[[Path, Mapping[str, Any]], Backend]


def _local(home: Path, options: Mapping[str, Any]) -> Backend:
    from backends.local_options import adapter

    return adapter(home, options)


def _fake(home: Path, options: Mapping[str, Any]) -> Backend:
    from backends.fake import adapter

    return adapter(home, options)


def _docker(home: Path, options: Mapping[str, Any]) -> Backend:
    from backends.docker_options import adapter

    return adapter(home, options)


def _kubernetes(home: Path, options: Mapping[str, Any]) -> Backend:
    from backends.kubernetes.adapter import adapter

    return adapter(home, options)


KINDS: dict[str, Construct] = {
    "local": _local,
    "fake": _fake,
    "docker": _docker,
    "kubernetes": _kubernetes,
}


def construct(kind: str, home: Path, options: Mapping[str, Any]) -> Backend:
    """The adapter of this kind, keeping its files below `home`; KeyError for a kind there is not."""
    return KINDS[kind](home, options)
