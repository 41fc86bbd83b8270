"""Many commands in one request: each its own transaction, each with its own answer, in the order given.

An item that is refused changes nothing and touches no other; what the items before it did stays done. On
SQLite an item is done in the event loop: whoever asks for something meanwhile comes between any two.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from db.errors import DomainError, Invalid

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

MOST = 100
_LIGHT_SECONDS = 0.005
_REST_SECONDS = 0.05


async def each(items: Sequence[I], path: str, act: Callable[[int, I], Awaitable[R]]) -> list[R | DomainError]:
    """What `act` makes of each item and its index, or why it was refused; Invalid for too many items.

    `act` opens a transaction of its own. `path` is where the caller has the items.
    """
    if len(items) > MOST:
        raise Invalid(f"at most {MOST} at once, not {len(items)}", path=(path,))
    results: list[R | DomainError] = []
    for index, item in enumerate(items):
        began = time.perf_counter()
        try:
            results.append(await act(index, item))
        except DomainError as error:
            results.append(error)
        # About as long as it took, for a request comes through the loop several times; a light item costs nothing.
        spent = time.perf_counter() - began
        await asyncio.sleep(min(spent, _REST_SECONDS) if spent > _LIGHT_SECONDS else 0)
    return results
