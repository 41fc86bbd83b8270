"""Links that open the explorer in a browser, logged in."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from rungraph.api import Client

CREATE = """mutation CreateLoginLink($input: CreateLoginLinkInput!) {
  createLoginLink(input: $input) { path expiresAt errors { code message path retryable } }
}"""

EXPLORER = "/graphql"


async def login_link(client: Client, then: str = EXPLORER) -> dict[str, str]:
    """A login that is good once: the whole `url`, and when it `expiresAt`."""
    answer = (await client.execute(CREATE, {"input": {"then": then}}))["createLoginLink"]
    return {"url": client.url + answer["path"], "expiresAt": answer["expiresAt"]}


def explorer_path(query: str, variables: Mapping[str, Any]) -> str:
    """The explorer's path with an operation ready; behind the #, so it never reaches a server's log."""
    return f"{EXPLORER}#query={quote(query, safe='')}&variables={quote(json.dumps(variables), safe='')}"
