"""How much may be made by who reports: 10,000 metrics a worker, 10,000 producers an attempt.

A metric whose name has a number in it (`loss_17`) is a series a step, and never what was meant. To count with each
batch would cost as much as to keep it: a process lets in some uncounted and counts then, so that the bounds may be
passed by so many in each process, and by a batch. What is there already is taken as ever.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

from sqlalchemy import Executable

from db.database import Transaction

MOST = 10_000
UNCOUNTED = 500
_KEPT = 10_000


class Room:
    """How many more each of many may make, as far as this process knows."""

    def __init__(self, count: Executable) -> None:
        self._count = count
        self._left: OrderedDict[Hashable, int] = OrderedDict()

    def is_full(self, key: Hashable) -> bool:
        """Whether nothing new is to be let in."""
        return self._left.get(key) == 0

    async def take(self, session: Transaction, key: Hashable, made: int, whose: Mapping[str, Any]) -> None:
        """Note what was made, after it was; `whose` are the parameters of the count."""
        left = self._left.pop(key, UNCOUNTED) - made
        if left <= 0:
            left = min(max(MOST - (await session.scalar(self._count, dict(whose)) or 0), 0), UNCOUNTED)
        self._left[key] = left
        if len(self._left) > _KEPT:
            self._left.popitem(last=False)
