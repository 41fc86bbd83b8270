"""Saying seldom what is met again and again: at first, then at most once a minute, whatever its words are by now."""

import math
import time

_EVERY_SECONDS = 60.0


class Seldom:
    """Decides whether what goes on is to be logged once more."""

    def __init__(self, every_seconds: float = _EVERY_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._said_at = -math.inf

    def is_due(self) -> bool:
        """Whether it is to be said now, by which it is said."""
        now = time.monotonic()
        if now - self._said_at < self._every_seconds:
            return False
        self._said_at = now
        return True

    def over(self) -> None:
        """It goes on no more: when it begins again, that is news."""
        self._said_at = -math.inf
