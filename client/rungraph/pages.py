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


def _at(data: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    for name in path:
        data = data[name]
        if data is None:
            raise ApiError("NOT_FOUND", f"there is no such {name}")
    return data
