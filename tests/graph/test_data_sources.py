"""Data sources through the API: fetched into files, passed to jobs, and never with their credentials."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from backends import retrieving
from db import data_fetches, ids
from db.bus import Bus
from db.database import Database
from rungraph.errors import ApiError
from tests.backends.grounds import eventually
from tests.backends.places import Place, trickle
from tests.backends.places import serving as serving_place
from tests.graph.conftest import Serve
from tests.graph.serving import Server, clear, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

FETCH = """query ($id: ID!) { node(id: $id) { ... on DataFetch {
  state message doneBytes totalBytes file { id name sizeBytes sha256 state mediaType url } } } }"""
FOLLOW = "subscription ($id: ID!) { dataFetch(id: $id) { state doneBytes totalBytes } }"
TELLS = """import json, os
given = json.load(open(os.environ['RUNGRAPH_INPUT'] + '/input.json'))
print(json.dumps(given['sources']))
print(os.environ['RUNGRAPH_SOURCE_RAW_DATA_URL'], os.environ['RUNGRAPH_SOURCE_RAW_DATA_CREDENTIALS'][::-1])
print(os.environ['RUNGRAPH_SOURCE_RAW_DATA_CREDENTIALS'], flush=True)
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with serving_place() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server that may fetch from this machine and from one folder."""
    folder = tmp_path_factory.mktemp("sources")
    home = folder / "home"
    (folder / "open").mkdir()
    async with serving(
        home, server_url, source_hosts=["127.0.0.0/8"], source_roots=[folder / "open"]
    ) as found:
        yield found
    await clear(home)


async def known(server: Server, name: str, url: str, **input: Any) -> str:
    payload = await server.change("createDataSource", "source { id }", name=name, url=url, **input)
    assert payload["errors"] == [], payload
    return str(payload["source"]["id"])


async def fetched(server: Server, source: str, **input: Any) -> Any:
    payload = await server.change("fetchDataSource", "fetch { id }", id=source, **input)
    assert payload["errors"] == [], payload

    async def ended() -> Any:
        found = await server.ask(FETCH, id=payload["fetch"]["id"])
        return found if found["state"] != "FETCHING" else None

    return await eventually(ended)


async def test_what_lies_on_the_web_becomes_a_file(server: Server, place: Place) -> None:
    await server.change("setSecret", "secret { id }", name="WEB", value="web-token-1")
    url = place.put("/data/train.csv", b"x\n1\n")
    found = await fetched(server, await known(server, "web", url, secret="WEB"))
    file = found["file"]
    assert (found["state"], found["doneBytes"], found["totalBytes"]) == ("READY", 4, 4)
    assert (file["name"], file["mediaType"], file["state"]) == ("train.csv", "text/csv", "READY")
    assert (await server.get(file["url"])).content == b"x\n1\n"
    assert place.asked[-1] == ("/data/train.csv", "Bearer web-token-1")
    secrets = (await server.ask("{ secrets(first: 100) { nodes { name usedBy } } }"))["nodes"]
    assert {"name": "WEB", "usedBy": ["web"]} in secrets
    made = await server.change(
        "createDataset", "dataset { id }", name="of the web", parts=[{"name": "train", "files": [file["id"]]}]
    )
    assert made["errors"] == []


async def test_a_file_under_a_root_is_fetched_and_no_other(server: Server) -> None:
    path = server.home.parent / "open" / "a.bin"
    path.write_bytes(bytes(3 << 20))
    found = await fetched(server, await known(server, "disk", f"file://{path}"), name="b.bin")
    assert (found["state"], found["file"]["name"], found["file"]["sizeBytes"]) == ("READY", "b.bin", 3 << 20)
    refused = await fetched(server, await known(server, "home", f"file://{server.home}/token"))
    assert (refused["state"], refused["file"]) == ("FAILED", None)
    assert "RUNGRAPH_SOURCE_ROOTS" in refused["message"]


async def test_what_is_too_large_or_breaks_off_makes_no_file(server: Server, place: Place) -> None:
    large = await fetched(server, await known(server, "large", place.put("/large", b"12345")), limitBytes=4)
    assert (large["state"], large["message"]) == ("FAILED", "has 5 bytes, the limit is 4")
    short = await known(server, "short", place.put("/short", b"12345", Content_Length="9"))
    assert (await fetched(server, short))["message"] == "broke off after 5 of 9 bytes"
    silent = await known(server, "silent", place.put("/silent", b"123456789", Connection="close"))
    del place.pages["/silent"][1]["Content-Length"]
    assert (await fetched(server, silent, limitBytes=8))["message"] == "is larger than 8 bytes"
    assert (await fetched(server, silent))["state"] == "READY"


async def test_who_sends_a_byte_now_and_then_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieving, "_CHUNK_SECONDS", 0.2)
    said = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9999\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as slow, ThreadPoolExecutor(1) as beside:
        hung_up = beside.submit(trickle, slow, said)
        source = await known(server, "slow", f"http://127.0.0.1:{slow.getsockname()[1]}/")
        got = await fetched(server, source)
        assert (got["state"], got["message"]) == ("FAILED", "sent less than a MiB in 0.2 s")
        assert await asyncio.wrap_future(hung_up)


async def test_a_fetch_that_is_cancelled_hangs_up_and_makes_no_file(server: Server) -> None:
    said = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9999\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as slow, ThreadPoolExecutor(1) as beside:
        hung_up = beside.submit(trickle, slow, said)
        source = await known(server, "unwanted", f"http://127.0.0.1:{slow.getsockname()[1]}/")
        fetch = (await server.change("fetchDataSource", "fetch { id }", id=source))["fetch"]["id"]
        states = []
        async for event in server.client.subscribe(FOLLOW, {"id": fetch}):
            states.append(event["dataFetch"]["state"])
            if len(states) == 1:
                cancelled = await server.change("cancelDataFetch", "fetch { state endedAt }", id=fetch)
                assert cancelled["fetch"]["state"] == "CANCELLED" and cancelled["fetch"]["endedAt"]
        assert states == ["FETCHING", "CANCELLED"]
        assert await asyncio.wrap_future(hung_up)
    again = await server.change("cancelDataFetch", "fetch { state file { id } }", id=fetch)
    assert again == {"fetch": {"state": "CANCELLED", "file": None}, "errors": []}
    unknown = await server.change("cancelDataFetch", "fetch { id }", id="data_fetch_" + "0" * 26)
    assert [(error["code"], error["path"]) for error in unknown["errors"]] == [("NOT_FOUND", ["input", "id"])]


async def test_a_fetch_is_followed_from_its_progress_to_its_end(server: Server, place: Place) -> None:
    source = await known(server, "followed", place.put("/followed", b"1234567"))
    fetch = (await server.change("fetchDataSource", "fetch { id }", id=source))["fetch"]["id"]
    events = [event["dataFetch"] async for event in server.client.subscribe(FOLLOW, {"id": fetch})]
    assert (events[-1]["state"], events[-1]["doneBytes"]) == ("READY", 7)
    assert all(event["state"] == "FETCHING" for event in events[:-1])
    late = [event["dataFetch"] async for event in server.client.subscribe(FOLLOW, {"id": fetch})]
    assert late == events[-1:]
    with pytest.raises(ApiError, match="no such fetch"):
        async for _ in server.client.subscribe(FOLLOW, {"id": "data_fetch_" + "0" * 26}):
            pass


async def test_jobs_read_a_source_for_themselves_with_its_credentials(server: Server) -> None:
    await server.change("setSecret", "secret { id }", name="RAW", value="raw-token-22")
    source = await known(server, "raw-data", "s3://bucket/key", secret="RAW")
    run = await server.play(TELLS, sources=[source])
    assert run["state"] == "SUCCEEDED", run
    assert [line["text"] for line in run["jobs"][0]["logs"]["nodes"]] == [
        '[{"name": "raw-data", "url": "s3://bucket/key"}]',
        "s3://bucket/key 22-nekot-war",
        "***",
    ]
    told = await server.ask(
        "query ($id: ID!) { run(id: $id) { sources { name url secret source { id } } } }", id=run["id"]
    )
    given = {"name": "raw-data", "url": "s3://bucket/key", "secret": "RAW", "source": {"id": source}}
    assert told["sources"] == [given]


async def test_mistakes_are_told_at_once(server: Server) -> None:
    wrong = await server.change(
        "createDataSource", "source { id }", name="a/b", url="ftp://x/", secret="NOT_SET"
    )
    assert [error["path"][1] for error in wrong["errors"]] == ["name", "url", "secret"]
    for url in ("https://user:pass@host/", "file:relative", "http://", "s3://", "http://[", "https://a b/"):
        refused = await server.change("createDataSource", "source { id }", name="x", url=url)
        assert [error["path"] for error in refused["errors"]] == [["input", "url"]], url
        assert "pass" not in refused["errors"][0]["message"]


async def test_a_source_is_changed_listed_and_deleted(server: Server, place: Place) -> None:
    source = await known(server, "old", place.put("/old", b"1"))
    taken = await server.change("createDataSource", "source { id }", name="old", url="s3://b/k")
    assert [error["code"] for error in taken["errors"]] == ["CONFLICT"]
    changed = await server.change(
        "updateDataSource", "source { url secret }", id=source, url=place.put("/new", b"22"), secret=""
    )
    assert changed["source"] == {"url": f"{place.url}/new", "secret": None}
    assert (await fetched(server, source))["doneBytes"] == 2
    found = await server.ask('{ dataSource(name: "old") { id fetches(first: 5) { nodes { state } } } }')
    assert found == {"id": source, "fetches": {"nodes": [{"state": "READY"}]}}
    deleted = await server.change("deleteDataSource", "source { deletedAt }", id=source)
    assert deleted["source"]["deletedAt"] is not None
    assert await server.ask('{ dataSource(name: "old") { id } }') is None
    gone = await server.change("fetchDataSource", "fetch { id }", id=source)
    assert [error["code"] for error in gone["errors"]] == ["NOT_FOUND"]


async def test_what_a_death_interrupts_is_fetched_by_the_next_server(
    serve: Serve, place: Place, tmp_path: Path, database_url: str
) -> None:
    async with serve() as server:
        source = await known(server, "web", place.put("/late", b"late"))
        assert "is not public" in (await fetched(server, source))["message"]
        viewer = await server.around.credentials.viewer(server.client.token or "")
        assert viewer is not None
    # As if asked for in the moment of the death: nobody has looked since.
    database = Database(database_url, bus=Bus("memory://"))
    try:
        async with database.begin() as session:
            fetch_id = await data_fetches.request(
                session, viewer, ids.decode("data_source", source), limit_bytes=9
            )
    finally:
        await database.close()
    async with serve(source_hosts=["127.0.0.1"]) as server:

        async def ended() -> Any:
            found = await server.ask(FETCH, id=ids.encode("data_fetch", fetch_id))
            return found if found["state"] != "FETCHING" else None

        assert (await eventually(ended))["state"] == "READY"
