"""Walking a connection page by page."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from rungraph.api import Client
from rungraph.errors import ApiError

MOST_A_PAGE = 100
"""What the server gives at most in one answer."""


async def walk(
    client: Client, query: str, variables: Mapping[str, Any], path: Sequence[str], limit: int | None = None
) -> AsyncIterator[dict[str, Any]]:
    """The nodes of the connection at `path`, at most `limit`; NOT_FOUND when something on the way is null.

    `query` declares `$first: Int` and `$after: String`, and selects `nodes` and `pageInfo { hasNextPage
    endCursor }`.
    """
    after: str | None = None
    left = limit
    while left is None or left > 0:
        first = MOST_A_PAGE if left is None else min(left, MOST_A_PAGE)
        page = _at(await client.execute(query, {**variables, "first": first, "after": after}), path)
        for node in page["nodes"]:
            yield node
        left = None if left is None else left - len(page["nodes"])
        if not page["pageInfo"]["hasNextPage"]:
            return
        after = page["pageInfo"]["endCursor"]


async def tail(
    client: Client, query: str, variables: Mapping[str, Any], path: Sequence[str], most: int
) -> list[dict[str, Any]]:
    """The last nodes of the connection at `path`, in its order, at most so many.

    `query` declares `$last: Int` and `$before: String`, and selects `nodes` and `pageInfo { hasPreviousPage
    startCursor }`.
    """
    found: list[dict[str, Any]] = []
    before: str | None = None
    while len(found) < most:
        last = min(most - len(found), MOST_A_PAGE)
        page = _at(await client.execute(query, {**variables, "last": last, "before": before}), path)
        found = [*page["nodes"], *found]
        if not page["pageInfo"]["hasPreviousPage"]:
            break
        before = page["pageInfo"]["startCursor"]
    return found


def _at(data: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    for name in path:
        data = data[name]
        if data is None:
            raise ApiError("NOT_FOUND", f"there is no such {name}")
    return data
