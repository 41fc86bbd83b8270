"""What it means that the cluster refuses to make something: not now, never, or that it is none of the job's doing."""

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator

from backends import base
from backends.kubernetes.cluster import Refused
from backends.kubernetes.nodes import amount

ACCOUNT_SECONDS = 60.0
"""For the service account that a new namespace, or whoever set it up, has not made yet."""
_CROWDED_SECONDS = (3.0, 7.0)
"""Between which lies the next try of what a quota refused: two gangs that were in one another's way part."""
_ACCOUNT_RETRY_SECONDS = 1.0
_NO_ACCOUNT = "error looking up service account"
_EXCEEDED = re.compile(r"exceeded quota: ([^,]+), requested: (.+), used: .*, limited: (.+)", re.DOTALL)


class Refusals:
    """Judges refusals, and knows since when launches wait for what is to come by itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def judge(self, name: str, error: Refused, *, workers: int = 1) -> Exception:
        """What a launch ends with: Crowded, LaunchRejected or BackendUnavailable.

        `workers` is how many alike would have to be made. A namespace's end is not the job's fault; what is
        nobody's else is the document's.
        """
        words = error.message
        if error.status == 404:
            return base.BackendUnavailable(f"the cluster refuses: {error}")
        if error.status in (401, 403) and "cannot create resource" in words:
            return base.BackendUnavailable(f"the cluster does not let us: {error}")
        if error.status == 403 and _NO_ACCOUNT in words:
            waited = self._clock() - self._since.setdefault(name, self._clock())
            if waited < ACCOUNT_SECONDS:
                return base.Crowded(words, retry_in_seconds=_ACCOUNT_RETRY_SECONDS)
            return base.LaunchRejected(f"the cluster refuses it, for {ACCOUNT_SECONDS:g} s now: {words}")
        # A quota that wants what the pod does not say (`failed quota: … must specify`) will never have it.
        if error.status == 403 and "quota" in words and "failed quota" not in words:
            if (never := next(_never(words, workers), None)) is not None:
                return base.LaunchRejected(f"{never}: {words}")
            return crowded(words)
        return base.LaunchRejected(f"the cluster refuses it: {words}")

    def forget(self, name: str) -> None:
        """It waits no longer."""
        self._since.pop(name, None)


def crowded(words: str) -> base.Crowded:
    """There is no room just now."""
    return base.Crowded(words, retry_in_seconds=random.uniform(*_CROWDED_SECONDS))


def _never(words: str, workers: int) -> Iterator[str]:
    """What a quota would not have for it alone, whatever else there is."""
    found = _EXCEEDED.search(words)
    if found is None:
        return
    requested, limited = _amounts(found[2]), _amounts(found[3])
    for resource, asked in requested.items():
        most = limited.get(resource)
        # What cannot be read as a number decides nothing.
        with contextlib.suppress(ValueError):
            if most is not None and amount(asked) * workers > amount(most) * (1 + 1e-9):
                each = f"{asked} of {resource}" + (f" for each of {workers} workers" if workers > 1 else "")
                yield f"it asks for {each}, and the quota {found[1]} has {most} in all"


def _amounts(text: str) -> dict[str, str]:
    """Resources as quotas tell them: limits.memory=1Gi,pods=1."""
    return dict(each.strip().partition("=")[::2] for each in text.split(","))
