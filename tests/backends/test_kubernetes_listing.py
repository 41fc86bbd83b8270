"""The one list and watch, against an API server that forgets: pages, bookmarks, connections that end, 410."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from backends.base import BackendUnavailable
from backends.kubernetes import listing
from backends.kubernetes.cluster import Cluster
from backends.kubernetes.listing import Changed, Listed
from tests.backends.standins import small_cluster


def pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, thing: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": thing}


class Scripted:
    """Answers lists and watches in the order that a test has written them, and keeps what was asked."""

    def __init__(self) -> None:
        self.lists: list[Response] = []
        self.watches: list[Callable[[], Response]] = []
        self.asked: list[tuple[str, ...]] = []

    def listed(self, version: int, *names: str, more: str = "") -> None:
        metadata = {"resourceVersion": str(version), "continue": more}
        self.lists.append(
            JSONResponse({"metadata": metadata, "items": [pod(name, version) for name in names]})
        )

    def watched(self, *events: dict[str, Any], status: int = 200) -> None:
        async def told() -> AsyncIterator[bytes]:
            for each in events:
                data = json.dumps(each).encode() + b"\n"
                yield data[:7]
                yield data[7:]

        self.watches.append(lambda: StreamingResponse(told(), status))

    async def answer(self, request: Request) -> Response:
        asked = request.query_params
        if "watch" in asked:
            self.asked.append(("watch", asked["resourceVersion"], asked["allowWatchBookmarks"]))
            return self.watches.pop(0)() if self.watches else JSONResponse({"message": "over"}, 503)
        self.asked.append(("list", asked.get("continue", "")))
        return self.lists.pop(0)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Scripted, Cluster]]:
    scripted = Scripted()
    app = Starlette(
        routes=[Route("/api/v1/namespaces/ns/pods", scripted.answer), Route("/version", _version)]
    )
    async with small_cluster(app, tmp_path) as path:
        cluster = Cluster(path, None, "ns")
        await cluster.open()
        yield scripted, cluster
        await cluster.close()


async def _version(_request: Request) -> Response:
    return JSONResponse({"major": "1"})


async def told(cluster: Cluster) -> list[tuple[str, ...]]:
    """All that is told until the API server has no more answers."""
    found: list[tuple[str, ...]] = []
    with pytest.raises(BackendUnavailable):
        async for change in listing.follow(cluster, "a=b"):
            match change:
                case Listed(pods):
                    found.append(("listed", *(each["metadata"]["name"] for each in pods)))
                case Changed(each, gone):
                    found.append(("gone" if gone else "changed", each["metadata"]["name"]))
    return found


async def test_a_watch_goes_on_from_where_the_last_connection_was(served: tuple[Scripted, Cluster]) -> None:
    scripted, cluster = served
    scripted.listed(10, "a", "b")
    scripted.watched(event("MODIFIED", pod("a", 12)), event("BOOKMARK", pod("", 20)))
    scripted.watched(event("ADDED", pod("c", 21)), event("DELETED", pod("b", 22)))
    assert await told(cluster) == [("listed", "a", "b"), ("changed", "a"), ("changed", "c"), ("gone", "b")]
    assert scripted.asked == [("list", ""), *(("watch", at, "true") for at in ("10", "20", "22"))]


@pytest.mark.parametrize("as_event", [True, False])
async def test_a_version_that_is_forgotten_costs_a_new_list(
    served: tuple[Scripted, Cluster], as_event: bool
) -> None:
    scripted, cluster = served
    scripted.listed(10, "a")
    gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
    scripted.watched(event("ERROR", gone) if as_event else gone, status=200 if as_event else 410)
    scripted.listed(30, "b")
    scripted.watched(event("MODIFIED", pod("b", 31)))
    assert await told(cluster) == [("listed", "a"), ("listed", "b"), ("changed", "b")]
    assert [each[1] for each in scripted.asked if each[0] == "watch"] == ["10", "30", "31"]


async def test_a_list_comes_in_pages_and_begins_again_when_its_moment_is_forgotten(
    served: tuple[Scripted, Cluster],
) -> None:
    scripted, cluster = served
    scripted.listed(10, "a", more="next")
    scripted.lists.append(JSONResponse({"code": 410, "message": "expired"}, 410))
    scripted.listed(20, "a", more="again")
    scripted.listed(20, "b")
    assert await told(cluster) == [("listed", "a", "b")]
    assert [each[1] for each in scripted.asked if each[0] == "list"] == ["", "next", "", "again"]


@pytest.mark.parametrize("page", ["<html>be patient</html>\n", '{"type": "ADD\n'])
async def test_a_page_of_who_stands_before_the_api_server_is_no_answer_of_its(
    served: tuple[Scripted, Cluster], page: str
) -> None:
    script, cluster = served
    script.lists.append(Response(page))
    with pytest.raises(BackendUnavailable, match="is not the API server"):
        await anext(listing.follow(cluster, "x"))
    script.listed(3, "a")
    script.watches.append(lambda: Response(page))
    told = listing.follow(cluster, "x")
    assert isinstance(await anext(told), Listed)
    with pytest.raises(BackendUnavailable, match="is not the API server"):
        await anext(told)
