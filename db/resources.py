"""What a run asks for in the place of what its functions state: workers, cores, memory, GPUs, by step.

Only what is given takes its place; all jobs that a step's matrix makes are alike in it. Whether there is that
much anywhere is for the claim to say (claims.py).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from db import ids, texts
from db.errors import Problem

_BOUNDS: Mapping[str, tuple[float, float, str]] = {
    "workers": (1, 10_000, "1 to 10,000 workers"),
    "cpus": (0.001, 100_000, "0.001 to 100,000 cores"),
    "memory_bytes": (1, 1 << 53, "1 to 2^53 bytes"),
    "gpus": (0, 10_000, "0 to 10,000 GPUs"),
}


@dataclass(frozen=True, slots=True)
class StepResources:
    """What each worker of one step asks for, and how many there are; None leaves it to the function."""

    step: str
    workers: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: int | None = None

    def document(self) -> dict[str, Any]:
        """What of it is given, to keep and to tell requests apart by."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def problems(given: Sequence[StepResources], steps: Collection[str]) -> list[Problem]:
    """Everything that is wrong with them."""
    found: list[Problem] = []
    for index, each in enumerate(given):
        at = ("resources", str(index))
        if each.step not in steps:
            close = texts.suggestion(each.step, list(steps))
            found.append(Problem((*at, "step"), f"no step is named {ids.shorten(each.step)!r}{close}"))
        for name, (least, most, words) in _BOUNDS.items():
            value = getattr(each, name)
            if value is not None and not least <= value <= most:
                first, *rest = name.split("_")
                path = first + "".join(word.title() for word in rest)
                found.append(Problem((*at, path), f"a step asks for {words}"))
    if len({each.step for each in given}) < len(given):
        found.append(Problem(("resources",), "a step is named twice"))
    return found


def replaced(step: str, given: Sequence[StepResources]) -> dict[str, Any]:
    """The columns of a step's jobs that are other than its function has them."""
    asked = [each.document() for each in given if each.step == step]
    return {name: value for each in asked for name, value in each.items() if name != "step"}
