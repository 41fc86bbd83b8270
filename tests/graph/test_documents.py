"""Whole pipelines over the API: exported, imported, cloned, deleted."""

from typing import Any

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOWN = "pipeline { id name description deletedAt revision { number yaml steps { name } } }"
STEPS = """
- {name: a, function: %s, matrix: {n: [1, 2]}, cache: true}
- name: b
  function: %s
  inputs: [{step: a, files: "*.pt", prefix: true}]
  when: {step: a, metric: loss, op: LT, value: 0.5, jobs: ANY}
"""


async def _address(server: Server) -> str:
    version = await server.install({"f": {"code": "pass", "options": {"n": 1}}})
    return f"{version['module']['name']}/f"


async def _import(server: Server, name: str, steps: str, **input: Any) -> Any:
    yaml = f"name: {name}\ndescription: drawn\nsteps:{steps}"
    return await server.change("importPipeline", SHOWN, yaml=yaml, **input)


async def test_what_is_exported_is_imported_as_another_and_in_its_place(server: Server) -> None:
    steps = STEPS.replace("%s", await _address(server))
    first = (await _import(server, "exported", steps))["pipeline"]
    assert (first["name"], first["description"], first["revision"]["number"]) == ("exported", "drawn", 1)
    text = first["revision"]["yaml"]
    other = (await server.change("importPipeline", SHOWN, yaml=text, name="other"))["pipeline"]
    assert other["revision"]["yaml"].replace("name: other", "name: exported", 1) == text
    taken = await server.change("importPipeline", SHOWN, yaml=text)
    assert [(e["code"], e["path"]) for e in taken["errors"]] == [("CONFLICT", ["input", "name"])]
    replaced = (await server.change("importPipeline", SHOWN, yaml=text, replace=True))["pipeline"]
    assert (replaced["id"], replaced["revision"]["number"]) == (first["id"], 2)
    assert replaced["revision"]["yaml"] == text


async def test_mistakes_of_an_import_have_their_lines_and_paths(server: Server) -> None:
    address = await _address(server)
    steps = f"\n- {{name: a, function: {address}, need: []}}\n- {{name: b, function: nobody/f}}\n"
    refused = await _import(server, "wrong", steps)
    assert refused["pipeline"] is None
    told = [(error["path"][:4], error["message"].split(":")[0]) for error in refused["errors"]]
    assert told == [
        (["input", "yaml", "steps", "0"], "line 4"),
        (["input", "yaml", "steps", "1"], "line 5"),
    ]
    refused = await server.change("importPipeline", SHOWN, yaml="name: [")
    assert [(e["code"], e["path"]) for e in refused["errors"]] == [("INVALID", ["input", "yaml"])]


async def test_a_clone_has_the_steps_of_any_revision_also_of_a_deleted_pipeline(server: Server) -> None:
    address = await _address(server)
    steps = STEPS.replace("%s", address)
    made = (await _import(server, "cloned", steps))["pipeline"]
    single = f"\n- {{name: only, function: {address}}}\n"
    await _import(server, "cloned", single, replace=True)
    query = "query ($id: ID!) { pipeline(id: $id) { revisions(first: 9) { nodes { id number } } } }"
    revisions = (await server.ask(query, id=made["id"]))["revisions"]["nodes"]
    earliest = next(one["id"] for one in revisions if one["number"] == 1)
    copy = (await server.change("clonePipeline", SHOWN, id=made["id"], name="copy"))["pipeline"]
    assert [step["name"] for step in copy["revision"]["steps"]] == ["only"]
    deleted = (await server.change("deletePipeline", SHOWN, id=made["id"]))["pipeline"]
    assert deleted["deletedAt"] is not None
    again = await server.change("clonePipeline", SHOWN, id=made["id"], name="cloned", revision=earliest)
    assert [step["name"] for step in again["pipeline"]["revision"]["steps"]] == ["a", "b"]
    taken = await server.change("clonePipeline", SHOWN, id=made["id"], name="copy")
    assert [(e["code"], e["path"]) for e in taken["errors"]] == [("CONFLICT", ["input", "name"])]
    unknown = await server.change("clonePipeline", SHOWN, id="pipeline_" + "0" * 26, name="x")
    assert [(e["code"], e["path"]) for e in unknown["errors"]] == [("NOT_FOUND", ["input", "id"])]


async def test_a_pipeline_in_use_is_not_deleted_and_a_deleted_one_starts_nothing(server: Server) -> None:
    first, then = [await server.pipeline({"f": "import time; time.sleep(600)"}) for _ in range(2)]
    run = (await server.start(first))["id"]
    refused = await server.change("deletePipeline", SHOWN, id=first)
    assert [(e["code"], e["path"]) for e in refused["errors"]] == [("CONFLICT", ["input", "id"])]
    assert "has not ended" in refused["errors"][0]["message"]
    await server.change("cancelRun", "run { id }", id=run, graceSeconds=0)
    await server.finish(run)
    made = await server.change(
        "createSchedule", "schedule { id }", pipeline=then, name="nightly", after={"pipeline": first}
    )
    assert made["errors"] == []
    for used in (first, then):  # one waits to be over, the other is started
        refused = await server.change("deletePipeline", SHOWN, id=used)
        assert refused["pipeline"] is None
        assert refused["errors"][0]["message"] == "the schedule 'nightly' uses it: delete that first"
    await server.change("deleteSchedule", "id", id=made["schedule"]["id"])
    for free in (first, then):
        deleted = await server.change("deletePipeline", SHOWN, id=free)
        assert deleted["errors"] == [] and deleted["pipeline"]["deletedAt"]
        started = await server.change("startRun", "run { id }", pipeline=free)
        assert [(e["code"], e["path"]) for e in started["errors"]] == [("NOT_FOUND", ["input", "pipeline"])]
    again = await server.change("deletePipeline", SHOWN, id=first)
    assert [error["code"] for error in again["errors"]] == ["NOT_FOUND"]
    kept = await server.ask("query ($id: ID!) { run(id: $id) { state pipeline { deletedAt } } }", id=run)
    assert kept["state"] == "CANCELLED" and kept["pipeline"]["deletedAt"]
