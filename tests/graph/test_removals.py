"""Removing a module from a running server: refused, done, and its disk freed."""

import pytest
from sqlalchemy import update

from db import columns
from db.modules import Module
from tests.backends.grounds import eventually
from tests.graph.conftest import Serve
from tests.graph.serving import FOLLOW_VERSION, Server, write_module

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_removed_module_frees_its_disk_and_keeps_its_history(server: Server) -> None:
    version = await server.install({"f": "print(1)"}, name="leaving")
    content = server.home / "modules" / version["digest"]
    pipeline = await server.draw("leaving/f", name="leaving")
    run = await server.finish((await server.start(pipeline))["id"])
    module = version["module"]["id"]
    refused = await server.change("removeModule", "module { id }", id=module)
    assert [(e["code"], e["path"]) for e in refused["errors"]] == [("CONFLICT", ["input", "id"])]
    assert "pipelines use leaving: leaving" in refused["errors"][0]["message"]
    assert content.is_dir()
    removed = await server.change(
        "removeModule", "module { id name removedAt } pipelines", id=module, insist=True
    )
    assert (removed["errors"], removed["pipelines"]) == ([], ["leaving"])
    assert removed["module"]["removedAt"] is not None

    async def freed() -> bool:
        return not content.exists()

    await eventually(freed)
    assert await server.ask('{ module(name: "leaving") { id } }') is None
    query = """query ($id: ID!) { run(id: $id) { state jobs { function { name address version { number } } } } }"""
    kept = await server.ask(query, id=run["id"])
    assert kept == {
        "state": "SUCCEEDED",
        "jobs": [{"function": {"name": "f", "address": "leaving/f", "version": {"number": 1}}}],
    }
    payload = await server.change("startRun", "run { id }", pipeline=pipeline)
    assert "no installed and prepared module" in payload["errors"][0]["message"]
    again = await server.install({"f": "print(2)"}, name="leaving")
    assert again["number"] == 1
    assert (await server.finish((await server.start(pipeline))["id"]))["state"] == "SUCCEEDED"


async def test_versions_tell_what_they_differ_in(server: Server) -> None:
    one = await server.install({"f": {"code": "1", "options": {"n": 3}}, "g": "1"}, name="differing")
    two = await server.install({"f": {"code": "1", "options": {"n": 4, "m": "x"}}}, name="differing")
    query = """query ($to: ID!, $from: ID!) { node(id: $to) { ... on ModuleVersion { changesFrom(version: $from) {
      changes { field } functionsAdded functionsRemoved functionsChanged { name changes { field before after }
      optionsAdded optionsRemoved optionsChanged { name changes { field before after } } } } } } }"""
    changes = (await server.ask(query, **{"to": two["id"], "from": one["id"]}))["changesFrom"]
    assert changes == {
        "changes": [],
        "functionsAdded": [],
        "functionsRemoved": ["g"],
        "functionsChanged": [
            {
                "name": "f",
                "changes": [],
                "optionsAdded": ["m"],
                "optionsRemoved": [],
                "optionsChanged": [{"name": "n", "changes": [{"field": "default", "before": 3, "after": 4}]}],
            }
        ],
    }
    unknown = await server.ask(query, **{"to": two["id"], "from": "version_x"})
    assert unknown == {"changesFrom": None}


async def test_the_next_server_finishes_what_was_asked_of_the_last(serve: Serve) -> None:
    async with serve() as server:
        version = await server.install({"f": "print(1)"}, name="leaving")
        content = server.home / "modules" / version["digest"]
        folder = write_module(
            server.home.parent / "coming", {"name": "coming", "functions": {"f": {"command": ["true"]}}}
        )
        async with server.around.database.begin() as session:
            gone = update(Module).where(Module.name == "leaving").values(removed_at=columns.now())
            await session.execute(gone)
        payload = await server.change("installModule", "version { id }", source=str(folder))
    async with serve() as server:
        async for _ in server.client.follow(FOLLOW_VERSION, {"id": payload["version"]["id"]}):
            pass
        assert (await server.ask('{ module(name: "coming") { activeVersion { number } } }')) == {
            "activeVersion": {"number": 1}
        }

        async def freed() -> bool:
            return not content.exists()

        await eventually(freed)
