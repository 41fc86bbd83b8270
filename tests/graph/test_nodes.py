"""Everything with an id is found again by that id alone."""

from typing import Any

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL = """query ($id: ID!) { run(id: $id) { id project { id } pipeline { id } revision { id }
  files { id } jobs { id attempts { id workers { id } } function { id module { id } version { id preparations { id backend { id } } } } } }
  viewer { user { id } } }"""  # noqa: E501


def every_id(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["id"]] if "id" in value else []
        return own + [found for part in value.values() for found in every_id(part)]
    return [found for part in value for found in every_id(part)] if isinstance(value, list) else []


async def test_every_kind_is_found_by_its_id(server: Server) -> None:
    pipeline = await server.pipeline({"f": "pass"})
    run = await server.start(pipeline, files=[await server.upload("a.txt")])
    await server.finish(run["id"])
    known = every_id(await server.ask(ALL, id=run["id"]))
    found = await server.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", ids=known)
    assert [node and node["id"] for node in found] == known
    assert {node["__typename"] for node in found} == {
        *(
            "Run",
            "Project",
            "Pipeline",
            "PipelineRevision",
            "File",
            "Job",
            "Attempt",
            "Worker",
            "Function",
            "Module",
        ),
        *("ModuleVersion", "Preparation", "Backend", "User"),
    }
    for id in known:
        assert (await server.ask("query ($id: ID!) { node(id: $id) { id } }", id=id)) == {"id": id}


async def test_what_there_is_not_is_null_in_its_place(server: Server) -> None:
    known = (await server.ask("{ backends { id } }"))[0]["id"]
    ids = ["nothing", known, f"run_{'0' * 26}", known]
    found = await server.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert found == [None, {"id": known}, None, {"id": known}]


@pytest.mark.parametrize("kind", ["module", "pipeline", "dataset", "dataSource", "schedule"])
@pytest.mark.parametrize("given", ['(id: "x", name: "x")', "", "(id: null, name: null)"])
async def test_a_lookup_takes_either_the_id_or_the_name(server: Server, kind: str, given: str) -> None:
    answer = await server.post(f"{{ {kind}{given} {{ id }} }}")
    assert [error["message"] for error in answer.json()["errors"]] == ["give either id or name"]


@pytest.mark.parametrize("kind", ["module", "pipeline", "dataset", "dataSource", "schedule"])
@pytest.mark.parametrize("given", ['id: "x"', 'name: "x"', 'name: ""', 'name: "\\u0000"'])
async def test_a_lookup_of_nothing_is_null(server: Server, kind: str, given: str) -> None:
    assert await server.ask(f"{{ {kind}({given}) {{ id }} }}") is None
