"""The API client: one server, one token, any operation.

    async with Client(url, token) as client:
        data = await client.execute("query { viewer { kind } }")
        async for event in client.follow(WATCH, {"run": run_id}):
            ...

Errors are in errors.py, the WebSocket in sockets.py, resuming in feeds.py, file contents in transfers.py.
"""

import re
from collections.abc import AsyncGenerator, Generator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from rungraph import feeds, sockets
from rungraph.backoff import FOR_FEEDS, FOR_REQUESTS, Backoff, pause
from rungraph.errors import ClientError, Unreachable
from rungraph.replies import failure, read_answer
from rungraph.settings import is_loopback

TIMEOUT = httpx.Timeout(30, connect=5)
ACCEPT = "application/graphql-response+json, application/json;q=0.9"


class Client:
    """An asynchronous client of one server; an async context manager that holds its HTTP connections."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        for_requests: Backoff = FOR_REQUESTS,
        for_feeds: Backoff = FOR_FEEDS,
    ) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self.for_requests = for_requests
        self.for_feeds = for_feeds
        # A proxy of the environment cannot reach this machine's loopback.
        self.http = httpx.AsyncClient(
            base_url=self.url,
            auth=_BearerAtHome(self.url, token),
            timeout=TIMEOUT,
            trust_env=not is_loopback(self.url),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def execute(
        self, query: str, variables: Mapping[str, Any] | None = None, *, repeatable: bool | None = None
    ) -> dict[str, Any]:
        """The `data` of a query or mutation; raises ApiError, Refused or Unreachable.

        Asks again after a lost connection or 503 where that is harmless: queries, mutations with an
        idempotency key, what `repeatable` says is, and whatever cannot have reached the server.
        """
        if repeatable is None:
            repeatable = _is_repeatable(query, variables or {})
        body = {"query": query, "variables": dict(variables or {})}
        delays = self.for_requests.delays()
        while True:
            response = await self._post(body, repeatable)
            if isinstance(response, httpx.Response):
                if response.status_code != 503 or not repeatable:
                    return read_answer(response)
                response = failure(response)
            await pause(delays, response)

    async def _post(self, body: Mapping[str, Any], repeatable: bool) -> httpx.Response | ClientError:
        """The response, or why there is none if another try may be made; raises when it may not."""
        try:
            return await self.http.post("/graphql", json=body, headers={"Accept": ACCEPT})
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Unreachable.nothing_at(self.url)
        except httpx.TransportError as error:
            lost = Unreachable.lost(self.url, error)
            if not repeatable:
                raise lost from error
            return lost

    def subscribe(
        self, query: str, variables: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """The answers of a subscription over one WebSocket, each its `data`; a lost socket is Unreachable."""
        return sockets.subscribe(self.url, self.token, query, variables or {})

    def follow(self, query: str, variables: Mapping[str, Any] | None = None) -> AsyncGenerator[feeds.Event]:
        """The events of a feed through lost connections, each once and in order: see feeds.follow."""
        return feeds.follow(self.subscribe, query, variables or {}, self.for_feeds)


class _BearerAtHome(httpx.Auth):
    """Shows the token to the server it belongs to, and to no other address that an answer may name."""

    def __init__(self, url: str, token: str | None) -> None:
        self.origin = _origin(httpx.URL(url))
        self.token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self.token and _origin(request.url) == self.origin:
            request.headers["Authorization"] = f"Bearer {self.token}"
        yield request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _is_repeatable(query: str, variables: Mapping[str, Any]) -> bool:
    """Whether sending the operation twice is as good as once; in doubt it is not."""
    return not re.search(r"\bmutation\b", query) or _has_key(variables)


def _has_key(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value.get("idempotencyKey")) or any(_has_key(part) for part in value.values())
    return False
