"""What the system of record refuses, as errors that callers turn into answers.

Each class carries the code that the API shows; its docstring is the message when none is given. `path`
leads to the offending part of the caller's input, in the caller's own words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in an input: where it is, and what the rule says."""

    path: tuple[str, ...]
    message: str


class DomainError(Exception):
    """The request cannot be done."""

    code: ClassVar[str] = "INVALID"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, *, path: Sequence[str] = ()) -> None:
        super().__init__(message or self.__doc__)
        self.problems: tuple[Problem, ...] = (Problem(tuple(path), str(self)),)


class NotFound(DomainError):
    """There is nothing of that id, or you may not see it."""

    code = "NOT_FOUND"


class Conflict(DomainError):
    """What exists already contradicts the request."""

    code = "CONFLICT"


class Invalid(DomainError):
    """The input breaks a rule."""

    code = "INVALID"

    def __init__(
        self, message: str | None = None, *, path: Sequence[str] = (), problems: Sequence[Problem] = ()
    ) -> None:
        super().__init__(message or "; ".join(p.message for p in problems) or None, path=path)
        if problems:
            self.problems = tuple(problems)


class Unauthenticated(DomainError):
    """Send a token as `Authorization: Bearer …`, or open the one-time link that `rungraph link` prints."""

    code = "UNAUTHENTICATED"


class Forbidden(DomainError):
    """Your credentials do not allow this."""

    code = "FORBIDDEN"


class LimitExceeded(DomainError):
    """A limit of the server is reached."""

    code = "LIMIT_EXCEEDED"


class Unavailable(DomainError):
    """Something the request needs is away just now; ask again."""

    code = "UNAVAILABLE"
    retryable = True
