"""Saying seldom what is found again and again: a change is news, the same for another minute is not."""

import time

_EVERY_SECONDS = 60.0


class Seldom:
    """Decides whether the words of what goes on are to be logged."""

    def __init__(self, every_seconds: float = _EVERY_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._said: str | None = None
        self._said_at = 0.0

    def says(self, words: str) -> bool:
        """Whether these words are news, or were said last so long ago that they are to be said again."""
        now = time.monotonic()
        if words == self._said and now - self._said_at < self._every_seconds:
            return False
        self._said, self._said_at = words, now
        return True

    def forget(self) -> None:
        """It has ended: when it begins again, that is news."""
        self._said = None
