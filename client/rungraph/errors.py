"""What can go wrong between a caller and the server, as the client tells it.

Three questions decide what a caller does next, so each has a class: did the server refuse (ApiError for the
whole operation, Refused for one mutation's payload), did nobody answer (Unreachable), or is what arrived not
what was sent (Corrupted). Their exit codes are in exits.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ClientError(Exception):
    """The request could not be done."""


class ApiError(ClientError):
    """The server refused an operation as a whole.

    `code` is one of the API's ErrorCode words; `request_id` is what the server's log knows the request by,
    where it says so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        path: Sequence[str | int] = (),
        request_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = tuple(path)
        self.request_id = request_id
        self.retryable = code == "UNAVAILABLE" if retryable is None else retryable


@dataclass(frozen=True, slots=True)
class UserError:
    """One reason why a mutation did nothing; `path` leads to the offending part of its input."""

    code: str
    message: str
    path: tuple[str, ...] = ()
    retryable: bool = False

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.message}" if self.path else self.message


class Refused(ClientError):
    """A mutation answered with errors instead of doing its work."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


class Unreachable(ClientError):
    """Nobody answered, or the connection was lost before the answer was complete."""

    @classmethod
    def nothing_at(cls, url: str) -> "Unreachable":
        """Nothing listens at `url`."""
        return cls(f"no server at {url}: start one with `rungraph serve`")

    @classmethod
    def lost(cls, url: str, reason: object) -> "Unreachable":
        """Something listened at `url`, but the answer did not come through."""
        return cls(f"lost the connection to {url}: {str(reason) or type(reason).__name__}")


class BadUsage(ClientError):
    """What the caller gave cannot be used as it is."""


class Corrupted(ClientError):
    """A downloaded file is not the one the server described."""
