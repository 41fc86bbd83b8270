"""What every adapter does: find its run, take the numbers out of what a library hands over, tell what is missing."""

from collections.abc import Mapping
from typing import Any

from rungraph.log import Run, active


def run_of(given: Run | None) -> Run:
    """The run that is given, else the one that `rungraph.log` reports to now."""
    return active() if given is None else given


def numbers(values: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """What of a library's mixed values may be a metric, by its name under the prefix; texts and lists are not."""
    given = (values or {}).items()
    return {f"{prefix}{name}": value for name, value in given if _is_scalar(value)}


def missing(adapter: str, package: str, error: ImportError) -> ImportError:
    """What to raise where the library is not installed."""
    return ImportError(f"{adapter} needs {package}: pip install {package} ({error})")


def _is_scalar(value: Any) -> bool:
    if isinstance(value, (str, bytes, list, tuple, dict, type(None))):
        return False
    # Of numpy, torch and the like what has one element.
    return (
        getattr(value, "size", 1) == 1 if not callable(getattr(value, "numel", None)) else value.numel() == 1
    )
