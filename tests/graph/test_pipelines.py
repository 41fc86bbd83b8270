"""Pipelines, their revisions and steps."""

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOWN = """id name description project { name } revision { number steps {
  name address arguments needs function { address } } }"""


async def test_a_pipeline_is_made_changed_and_its_runs_keep_their_revision(server: Server) -> None:
    module = (await server.install({"f": {"code": "pass", "options": {"n": 1}}}))["module"]["name"]
    steps = [
        {"name": "a", "function": f"{module}/f"},
        {"name": "b", "function": f"{module}/f", "arguments": {"n": 2}},
    ]
    payload = await server.change(
        "createPipeline", f"pipeline {{ {SHOWN} }}", name="made", description="x", steps=steps
    )
    made = payload["pipeline"]
    assert (made["name"], made["description"], made["revision"]["number"]) == ("made", "x", 1)
    assert [(s["name"], s["needs"], s["arguments"]) for s in made["revision"]["steps"]] == [
        ("a", [], {}),
        ("b", ["a"], {"n": 2}),
    ]
    assert {s["function"]["address"] for s in made["revision"]["steps"]} == {f"{module}/f"}
    run = await server.start(made["id"])
    payload = await server.change(
        "updatePipeline", f"pipeline {{ {SHOWN} }}", id=made["id"], name="renamed", steps=steps[:1]
    )
    assert (payload["pipeline"]["name"], payload["pipeline"]["revision"]["number"]) == ("renamed", 2)
    assert payload["pipeline"]["description"] == "x"
    kept = await server.ask(
        "query ($id: ID!) { run(id: $id) { revision { number steps { name } pipeline { name } } } }",
        id=run["id"],
    )
    assert kept["revision"] == {
        "number": 1,
        "steps": [{"name": "a"}, {"name": "b"}],
        "pipeline": {"name": "renamed"},
    }
    await server.finish(run["id"])


async def test_pipelines_revisions_and_runs_are_paged_both_ways(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    started = [(await server.start(pipeline))["id"] for _ in range(5)]
    query = """query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) { pipeline(id: $id) {
      runs(first: $first, after: $after, last: $last, before: $before) {
        nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } }
      revisions(first: 1) { nodes { number } } } }"""
    forward: list[str] = []
    backward: list[str] = []
    at = None
    while True:
        page = (await server.ask(query, id=pipeline, first=2, after=at))["runs"]
        forward += [node["id"] for node in page["nodes"]]
        at = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    at = None
    while True:
        page = (await server.ask(query, id=pipeline, last=2, before=at))["runs"]
        backward = [node["id"] for node in page["nodes"]] + backward
        at = page["pageInfo"]["startCursor"]
        if not page["pageInfo"]["hasPreviousPage"]:
            break
    assert forward == backward == started[::-1]
    for run in started:
        await server.finish(run)


async def test_a_pipeline_is_found_by_its_name_and_in_the_list(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    newest = await server.ask("{ pipelines(first: 1) { nodes { id name } } }")
    assert newest["nodes"][0]["id"] == pipeline
    name = newest["nodes"][0]["name"]
    assert await server.ask("query ($name: String) { pipeline(name: $name) { id } }", name=name) == {
        "id": pipeline
    }
