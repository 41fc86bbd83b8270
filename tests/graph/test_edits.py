"""Editing runs: what the API takes, what it tells, and what lists leave out."""

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

EDITED = "run { id name notes archived edition seq state tags { name value } timeline { state message } }"
LIST = "query ($filter: RunFilter) { runs(first: 10, filter: $filter) { nodes { id } } }"


async def test_an_edit_is_kept_told_and_refused_from_an_older_edition(server: Server) -> None:
    run = await server.start(await server.pipeline({"one": "pass"}), tags=[{"name": "a", "value": "1"}])
    await server.finish(run["id"])
    tags = {"set": [{"name": "best"}], "remove": ["a"]}
    told = await server.change(
        "updateRun", EDITED, id=run["id"], name="new", notes="why", tags=tags, edition=0
    )
    edited = told["run"]
    assert (edited["name"], edited["notes"], edited["edition"], edited["state"]) == (
        "new",
        "why",
        1,
        "SUCCEEDED",
    )
    assert edited["tags"] == [{"name": "best", "value": ""}]
    assert edited["timeline"][-1] == {"state": "SUCCEEDED", "message": "edited: name, notes, tags"}
    late = await server.change("updateRun", EDITED, id=run["id"], notes="no", edition=0)
    assert [(e["code"], e["path"]) for e in late["errors"]] == [("CONFLICT", ["input", "edition"])]


async def test_who_follows_a_run_sees_it_edited(server: Server) -> None:
    run = await server.start(await server.pipeline({"one": "import time; time.sleep(600)"}))
    await server.change("updateRun", EDITED, id=run["id"], name="renamed")
    query = """subscription ($id: ID!) { run(id: $id, after: 0) {
      __typename ... on FeedEvent { seq } ... on RunChanged { runState edited run { name } } } }"""
    async for event in server.client.follow(query, {"id": run["id"]}):
        if event.get("edited"):
            assert event["edited"] == ["name"]
            assert event["run"] == {"name": "renamed"}
            break
    await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)
    await server.finish(run["id"])


async def test_archived_runs_are_listed_only_if_asked_for(server: Server) -> None:
    pipeline = await server.pipeline({"one": "pass"})
    kept, put_away = [(await server.start(pipeline))["id"] for _ in range(2)]
    await server.change("updateRun", EDITED, id=put_away, archived=True)

    async def listed(**filter: object) -> list[str]:
        return [
            node["id"] for node in (await server.ask(LIST, filter={"pipeline": pipeline, **filter}))["nodes"]
        ]

    assert await listed() == [kept]
    assert await listed(archived=True) == [put_away]
    assert await listed(archived=None) == [put_away, kept]
    for run in (kept, put_away):
        await server.finish(run)
