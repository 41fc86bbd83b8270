"""Lineage through the API: from a version of a dataset to what its runs measured and made."""

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINEAGE = """query ($id: ID!, $direction: LineageDirection, $depth: Int! = 5) {
  lineage(id: $id, direction: $direction, depth: $depth) { truncated edges { from to relation }
  nodes { id __typename ... on Run { metrics { name last } } ... on File { name } } } }"""
FILE = """query ($id: ID!) { file(id: $id) { usedBy(first: 5) { nodes { step run { id } } }
  derived(first: 5) { nodes { name derivedFrom { id } } } } }"""
CHANGES = """import json, os
out = os.environ['RUNGRAPH_OUTPUT']
open(out + '/a.csv', 'w').write('changed')
open(out + '/output.json', 'w').write(json.dumps({'files': ['a.csv'], 'files_modified': ['a.csv']}))
print(json.dumps({'metric': {'loss': 0.5}}), flush=True)
"""


async def test_from_a_version_to_metrics_and_files(server: Server) -> None:
    file = await server.upload("a.csv", b"x\n1\n")
    made = await server.change(
        "createDataset", "dataset { version { id } }", name="cats", parts=[{"name": "train", "files": [file]}]
    )
    version = made["dataset"]["version"]["id"]
    run = await server.play(CHANGES, datasets=[{"version": version}])
    assert run["state"] == "SUCCEEDED", run
    job, output = run["jobs"][0]["id"], run["jobs"][0]["outputs"][0]["id"]
    down = await server.ask(LINEAGE, id=version, direction="DOWNSTREAM")
    assert {"id": run["id"], "__typename": "Run", "metrics": [{"name": "loss", "last": 0.5}]} in down["nodes"]
    assert [node["__typename"] for node in down["nodes"]] == ["DatasetVersion", "Run", "Job", "File"]
    assert [(edge["from"], edge["relation"], edge["to"]) for edge in down["edges"]] == [
        (version, "GIVEN", run["id"]),
        (run["id"], "STEP", job),
        (job, "MADE", output),
    ]
    up = await server.ask(LINEAGE, id=output, direction="UPSTREAM", depth=1)
    assert {(edge["from"], edge["relation"]) for edge in up["edges"]} == {(file, "DERIVED"), (job, "MADE")}
    both = await server.ask(LINEAGE, id=run["id"])
    assert {file, version, run["id"], job, output} == {node["id"] for node in both["nodes"]}
    found = await server.ask(FILE, id=file)
    assert found["usedBy"]["nodes"] == [{"step": "step", "run": {"id": run["id"]}}]
    assert found["derived"]["nodes"] == [{"name": "a.csv", "derivedFrom": {"id": file}}]


async def test_what_has_no_lineage_says_so(server: Server) -> None:
    assert await server.ask(LINEAGE, id="file_" + "0" * 26) is None
    assert await server.ask(LINEAGE, id="nonsense") is None
    for id, depth, path in (("module_" + "0" * 26, 5, "id"), ("file_" + "0" * 26, 99, "depth")):
        answer = (await server.post(LINEAGE, {"id": id, "depth": depth})).json()
        assert answer["errors"][0]["extensions"]["code"] == "INVALID", path
