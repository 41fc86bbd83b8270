"""Datasets through the API: made, described, given to runs, found again from what runs measured."""

import asyncio
from typing import Any

import pytest

from tests.backends.grounds import eventually
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERSION = """id number digest state message fileCount sizeBytes rows
  columns { name type nulls min max } parts { name fileCount sizeBytes rows }
  files(first: 9) { nodes { part rows message file { name } columns { name } } }"""
DATASET = f"""query ($name: String) {{ dataset(name: $name) {{ id name description tags deletedAt project {{ name }}
  version {{ {VERSION} }} versions(first: 5) {{ nodes {{ number }} }} }} }}"""
TELLS = """import json, os
given = json.load(open(os.environ['RUNGRAPH_INPUT'] + '/input.json'))
print(json.dumps({'metric': {'files': len(given['files'])}}))
print(json.dumps(given['datasets']), flush=True)
"""


async def make(server: Server, name: str) -> dict[str, Any]:
    """A dataset of two parts, described."""
    train = [await server.upload("a.csv", b"x,y\n1,2\n3,\n"), await server.upload("a.png", b"png")]
    test = [await server.upload("t.csv", b"x,y\n0.5,7\n")]
    payload = await server.change(
        "createDataset",
        "dataset { id version { id state } }",
        name=name,
        tags={"kind": "toy"},
        parts=[{"name": "test", "files": test}, {"name": "train", "files": train}],
    )
    assert payload["errors"] == [], payload

    async def described() -> Any:
        found = await server.ask(DATASET, name=name)
        return found if found["version"]["state"] != "PROFILING" else None

    found: dict[str, Any] = await eventually(described)
    return found


async def test_a_dataset_is_made_described_and_found(server: Server) -> None:
    found = await make(server, "toys")
    version = found.pop("version")
    assert (found["tags"], found["project"], found["deletedAt"]) == (
        {"kind": "toy"},
        {"name": "default"},
        None,
    )
    assert (version["state"], version["rows"], version["fileCount"]) == ("READY", 3, 3)
    assert version["columns"] == [
        {"name": "x", "type": "float", "nulls": 0, "min": 0.5, "max": 3.0},
        {"name": "y", "type": "int", "nulls": 1, "min": 2.0, "max": 7.0},
    ]
    assert [(part["name"], part["fileCount"], part["rows"]) for part in version["parts"]] == [
        ("train", 2, 2),
        ("test", 1, 1),
    ]
    assert [(one["part"], one["file"]["name"], one["rows"]) for one in version["files"]["nodes"]] == [
        ("train", "a.csv", 2),
        ("train", "a.png", None),
        ("test", "t.csv", 1),
    ]
    by_id = await server.ask(
        "query ($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { name } } } }", id=version["id"]
    )
    assert by_id == {"dataset": {"name": "toys"}}
    listed = await server.ask("{ datasets(first: 100) { nodes { name } } }")
    assert {"name": "toys"} in listed["nodes"]


async def test_runs_and_their_metrics_are_found_from_the_version_they_used(server: Server) -> None:
    dataset = await make(server, "used")
    run = await server.play(TELLS, datasets=[{"dataset": dataset["id"], "parts": ["train"]}])
    assert run["state"] == "SUCCEEDED", run
    told = [line["text"] for line in run["jobs"][0]["logs"]["nodes"]]
    assert told == ['[{"name": "used", "version": 1, "parts": {"train": ["a.csv", "a.png"]}}]']
    found = await server.ask(
        """query ($id: ID!) { node(id: $id) { ... on DatasetVersion { runs(first: 5) {
        nodes { id metrics { name last } datasets { parts version { number dataset { name } } } } } } } }""",
        id=dataset["version"]["id"],
    )
    assert found["runs"]["nodes"] == [
        {
            "id": run["id"],
            "metrics": [{"name": "files", "last": 2.0}],
            "datasets": [{"parts": ["train"], "version": {"number": 1, "dataset": {"name": "used"}}}],
        }
    ]


async def test_a_list_of_runs_is_narrowed_to_a_dataset_or_a_version(server: Server) -> None:
    first = await make(server, "narrow")
    files = [await server.upload("more.csv", b"x,y\n1,1\n")]
    parts = [{"name": "train", "files": files}]
    added = await server.change("addDatasetVersion", "version { id }", dataset=first["id"], parts=parts)
    assert added["errors"] == []
    second, pipeline = added["version"]["id"], await server.pipeline({"step": "pass"})
    runs = []
    for uses in ([{"version": first["version"]["id"]}], [{"version": second}], []):
        run = await server.start(pipeline, datasets=uses)
        runs.append((await server.finish(run["id"]))["id"])
    query = "query ($filter: RunFilter) { runs(filter: $filter) { nodes { id } } }"
    for asked, expected in (
        ({"dataset": first["id"]}, [runs[1], runs[0]]),
        ({"datasetVersion": second}, [runs[1]]),
        ({"pipeline": pipeline, "not": {"dataset": first["id"]}}, [runs[2]]),
        ({"dataset": first["id"], "states": ["FAILED"]}, []),
    ):
        found = await server.ask(query, filter=asked)
        assert [node["id"] for node in found["nodes"]] == expected, asked


async def test_a_dataset_in_use_is_not_deleted_and_an_unused_one_leaves_its_versions(server: Server) -> None:
    dataset = await make(server, "gone")
    slow = await server.pipeline({"step": "import time; time.sleep(60)"})
    run = await server.start(slow, datasets=[{"version": dataset["version"]["id"]}])
    refused = await server.change("deleteDataset", "dataset { id }", id=dataset["id"])
    assert [error["code"] for error in refused["errors"]] == ["CONFLICT"]
    await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)
    await server.finish(run["id"])
    deleted = await server.change("deleteDataset", "dataset { deletedAt }", id=dataset["id"])
    assert deleted["errors"] == [] and deleted["dataset"]["deletedAt"]
    assert await server.ask("query ($name: String) { dataset(name: $name) { id } }", name="gone") is None
    kept = await server.ask(
        "query ($id: ID!) { run(id: $id) { datasets { version { number dataset { name deletedAt } } } } }",
        id=run["id"],
    )
    assert kept["datasets"][0]["version"]["dataset"]["name"] == "gone"


async def test_versions_are_added_and_equal_ones_are_one(server: Server) -> None:
    dataset = await make(server, "grows")
    more = await server.upload("b.csv", b"x,y\n1,1\n")
    parts = [{"name": "train", "files": [more]}]
    added = await asyncio.gather(
        *(
            server.change("addDatasetVersion", "version { id number }", dataset=dataset["id"], parts=parts)
            for _ in range(3)
        )
    )
    assert {payload["version"]["number"] for payload in added} == {2}
    changed = await server.change(
        "updateDataset", "dataset { description tags }", id=dataset["id"], description="words"
    )
    assert changed["dataset"] == {"description": "words", "tags": {"kind": "toy"}}


async def test_mistakes_lead_to_where_they_are(server: Server) -> None:
    dataset = await make(server, "strict")
    twice = await server.change(
        "addDatasetVersion", "version { id }", dataset=dataset["id"], parts=[{"name": "A", "files": []}]
    )
    assert [error["path"] for error in twice["errors"]] == [["input", "parts"]]
    taken = await server.change("createDataset", "dataset { id }", name="strict")
    assert [(error["code"], error["path"]) for error in taken["errors"]] == [("CONFLICT", ["input", "name"])]
    pipeline = await server.pipeline({"step": "pass"})
    wrong = await server.change(
        "startRun",
        "run { id }",
        pipeline=pipeline,
        datasets=[{"dataset": dataset["id"], "parts": ["trian"]}, {}],
    )
    assert [error["path"] for error in wrong["errors"]] == [
        ["input", "datasets", "0", "parts", "0"],
        ["input", "datasets", "1"],
    ]
