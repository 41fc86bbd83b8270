"""What of the local backend is configured: how far its jobs give way, and how often it looks at what they use."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends import options
from backends.base import Backend
from backends.local import Local


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """Options of `kind: local`."""

    nice: int = options.option(0, least=0, most=19)
    usage_seconds: float = options.option(0.0, least=0, most=3600)


def adapter(home: Path, given: Mapping[str, Any]) -> Backend:
    """This machine, as configured."""
    read = options.parse(LocalOptions, given)
    return Local(home, nice=read.nice, usage_seconds=read.usage_seconds)
