"""Walking a connection page by page."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from rungraph.api import Client
from rungraph.errors import ApiError

MOST_A_PAGE = 100
MOST_LINES = 500
"""What the server gives at most in one answer, and of log lines."""


async def walk(
    client: Client,
    query: str,
    variables: Mapping[str, Any],
    path: Sequence[str],
    limit: int | None = None,
    *,
    most: int = MOST_A_PAGE,
) -> AsyncIterator[dict[str, Any]]:
    """The nodes of the connection at `path`, at most `limit`; NOT_FOUND when something on the way is null.

    `query` declares `$first: Int` and `$after: String`, and selects `nodes` and `pageInfo { hasNextPage
    endCursor }`.
    """
    after: str | None = None
    left = limit
    while left is None or left > 0:
        first = most if left is None else min(left, most)
        page = _at(await client.execute(query, {**variables, "first": first, "after": after}), path)
        for node in page["nodes"]:
            yield node
        left = None if left is None else left - len(page["nodes"])
        if not page["pageInfo"]["hasNextPage"]:
            return
        after = page["pageInfo"]["endCursor"]


async def tail(
    client: Client, query: str, variables: Mapping[str, Any], path: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """The last nodes of a connection of log lines at `path`, in its order, at most `limit`.

    `query` declares `$last: Int` and `$before: String`, and selects `nodes` and `pageInfo { hasPreviousPage
    startCursor }`.
    """
    found: list[dict[str, Any]] = []
    before: str | None = None
    while len(found) < limit:
        last = min(limit - len(found), MOST_LINES)
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
