"""One cluster's API over the official client: requests by path, answers as plain JSON, faults in our words.

The client does what is hard to do right, credentials of every kind and TLS; its thousand model classes are left
alone, for a watch of many pods would spend more on them than on everything else. Whatever says that the API
server is not there, or not in its right mind just now, is BackendUnavailable; a refusal is `Refused`, with its
status, for whoever asked to judge.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from backends.base import BackendUnavailable

PATIENCE = aiohttp.ClientTimeout(total=60.0, sock_connect=10.0)
_AWAY = {408, 429, 500, 502, 503, 504}
_MERGE = {"Content-Type": "application/merge-patch+json"}
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Refused(Exception):
    """The API server understood, and said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Cluster:
    """The API server of one cluster, and one namespace there; without a kubeconfig, that of the pod we run in."""

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._namespace = namespace
        self._client: ApiClient | None = None

    @property
    def namespace(self) -> str:
        """Where everything of ours is."""
        return self._namespace or "default"

    async def open(self) -> None:
        """Read the configuration and ask the API server for its version; raises BackendUnavailable."""
        await self._connect()
        await self.json("GET", "/version")

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()  # type: ignore[no-untyped-call]

    def path(self, kind: str, name: str = "", *, sub: str = "") -> str:
        """Of one of the namespace's objects, or of all of a kind."""
        parts = ("/api/v1/namespaces", self.namespace, kind, name, sub)
        return "/".join(part for part in parts if part)

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = PATIENCE,
    ) -> Any:
        """The answer, None where it is empty. Raises Refused and BackendUnavailable."""
        asked = self.stream(method, path, query=query, body=body, headers=headers, timeout=timeout)
        async with asked as response:
            with reachable():
                text = await response.read()
        with comprehensible():
            return orjson.loads(text) if text else None

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Merge into an object."""
        return await self.json("PATCH", path, body=body, headers=_MERGE)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout = PATIENCE,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response, to be read within; whoever reads translates what breaks by `reachable`."""
        response = await self._request(method, path, query, body, headers, timeout)
        if response.status == 401 and self._client is not None:
            # Credentials of a kubeconfig may have run out: they are read, or made, anew.
            response.close()
            await self._connect()
            response = await self._request(method, path, query, body, headers, timeout)
        try:
            if response.status >= 400:
                raise await _refusal(response)
            yield response
        finally:
            response.close()

    async def _request(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        body: Any,
        headers: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        if self._client is None:
            raise BackendUnavailable("the cluster is not connected")
        with reachable():
            given = await self._client.param_serialize(
                method,
                path,
                query_params=list(query),
                header_params={"Accept": "application/json", **(headers or {})},
                auth_settings=["BearerToken"],
            )
            _, url, sent, _, _ = given
            answer = await self._client.call_api(method, url, sent, body, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _connect(self) -> None:
        made = Configuration()
        try:
            if self._kubeconfig is None:
                config.load_incluster_config(client_configuration=made)  # type: ignore[no-untyped-call]
                if self._namespace is None and _NAMESPACE.is_file():
                    self._namespace = _NAMESPACE.read_text().strip()
            else:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=str(Path(self._kubeconfig).expanduser()),
                    context=self._context,
                    client_configuration=made,
                    persist_config=False,
                )
        except (config.ConfigException, OSError, ValueError) as error:
            raise BackendUnavailable(f"the cluster's configuration cannot be used: {error}") from error
        made.connection_pool_maxsize = 0  # every job that runs has a request open
        await self.close()
        self._client = ApiClient(made)
        self._client.user_agent = "rungraph"


@contextlib.contextmanager
def reachable() -> Any:
    """What breaks below is an API server that cannot be reached."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        words = f"the API server does not answer: {error or type(error).__name__}"
        raise BackendUnavailable(words, retry_in_seconds=1.0) from error


@contextlib.contextmanager
def comprehensible() -> Any:
    """What is no JSON is said by who stands before the API server: a page that asks for patience, say."""
    try:
        yield
    except ValueError as error:
        words = f"what answers is not the API server: {error}"
        raise BackendUnavailable(words, retry_in_seconds=1.0) from error


async def _refusal(response: aiohttp.ClientResponse) -> Exception:
    with reachable():
        text = await response.read()
    message = text[:2000].decode(errors="replace")
    with contextlib.suppress(ValueError, AttributeError):
        message = json.loads(text).get("message") or message
    if response.status in _AWAY:
        return BackendUnavailable(f"the API server says {response.status}: {message}", retry_in_seconds=1.0)
    return Refused(response.status, message)
