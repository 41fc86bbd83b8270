"""One list and one watch over all our pods of a namespace: how they stand, then what changes.

The watch goes on from the list's resourceVersion, and from bookmarks where nothing of ours changes, so that a
connection that ends costs no new list; only a version that the API server has forgotten (410) does. Each
connection is asked to end after a minute, and given up a little later, for one that a network has dropped
silently would look like peace.
"""

import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from backends.base import BackendUnavailable
from backends.kubernetes.cluster import Cluster, Refused, comprehensible, reachable

_CONNECTION_SECONDS = 60
_LATE_SECONDS = 15.0
_PAGE = 500
_GONE = 410


@dataclass(frozen=True, slots=True)
class Listed:
    """All pods that there are; what is not among them is gone."""

    pods: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """One pod as it is now, or as it was when it went."""

    pod: Mapping[str, Any]
    gone: bool


class _Forgotten(Exception):
    """The API server has no history from this version on."""


async def follow(cluster: Cluster, selector: str) -> AsyncIterator[Listed | Changed]:
    """Without end; raises BackendUnavailable when the API server is away."""
    while True:
        pods, version = await _list(cluster, selector)
        yield Listed(pods)
        try:
            while True:
                async for kind, thing in _watch(cluster, selector, version):
                    version = thing["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield Changed(thing, kind == "DELETED")
        except _Forgotten:
            continue


async def _list(cluster: Cluster, selector: str) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """All pages of one list, which are one moment's."""
    pods: list[Mapping[str, Any]] = []
    query = [("labelSelector", selector), ("limit", str(_PAGE))]
    token = ""
    while True:
        try:
            page = await cluster.json("GET", cluster.path("pods"), query=[*query, ("continue", token)])
        except Refused as error:
            if error.status == _GONE and token:
                pods, token = [], ""  # its moment is forgotten already
                continue
            raise BackendUnavailable(f"the cluster does not let us list pods: {error}") from error
        pods += page["items"] or ()
        token = page["metadata"].get("continue") or ""
        if not token:
            return tuple(pods), page["metadata"]["resourceVersion"]


async def _watch(
    cluster: Cluster, selector: str, version: str
) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
    """What one connection tells."""
    seconds = _CONNECTION_SECONDS + random.randrange(10)
    query = [
        ("labelSelector", selector),
        ("watch", "true"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", version),
        ("timeoutSeconds", str(seconds)),
    ]
    patience = aiohttp.ClientTimeout(sock_connect=10.0, sock_read=seconds + _LATE_SECONDS)
    try:
        async with cluster.stream("GET", cluster.path("pods"), query=query, timeout=patience) as response:
            rest = b""
            while True:
                with reachable():
                    chunk = await response.content.readany()
                if not chunk:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(bytes.strip, lines):
                    with comprehensible():
                        told = orjson.loads(line)
                    if told["type"] == "ERROR":
                        raise _error(told["object"])
                    yield told["type"], told["object"]
    except Refused as error:
        if error.status == _GONE:
            raise _Forgotten from error
        raise BackendUnavailable(f"the cluster does not let us watch pods: {error}") from error


def _error(status: Mapping[str, Any]) -> Exception:
    if status.get("code") == _GONE:
        return _Forgotten()
    return BackendUnavailable(f"the watch broke off: {status.get('message')}", retry_in_seconds=1.0)
