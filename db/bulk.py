"""Many commands in one request: each its own transaction, each with its own answer, in the order given.

An item that is refused changes nothing and touches no other; what the items before it did stays done.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from db.errors import DomainError, Invalid

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

MOST = 100


async def each(items: Sequence[I], path: str, act: Callable[[int, I], Awaitable[R]]) -> list[R | DomainError]:
    """What `act` makes of each item and its index, or why it was refused; Invalid for too many items.

    `act` opens a transaction of its own. `path` is where the caller has the items.
    """
    if len(items) > MOST:
        raise Invalid(f"at most {MOST} at once, not {len(items)}", path=(path,))
    results: list[R | DomainError] = []
    for index, item in enumerate(items):
        try:
            results.append(await act(index, item))
        except DomainError as error:
            results.append(error)
    return results
