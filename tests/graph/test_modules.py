"""Modules, versions and functions as a front end shows them."""

from pathlib import Path

import pytest

from tests.graph.serving import FOLLOW_VERSION, Server, write_module

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRAIN = {
    "code": "pass",
    "description": "learn",
    "options": {
        "epochs": {"default": 3, "min": 1, "max": 9, "doc": "passes"},
        "kind": ["a", "b"],
        "data": "file",
    },
    "accepts": [{"types": ["csv"], "tags": ["split"]}],
    "output_tags": {"accuracy": "float"},
    "resources": {"cpus": 0.5, "memory": "1MiB"},
    "workers": 2,
    "timeout": "1m",
    "retries": 1,
    "env": {"A": "b"},
}
FUNCTION = """name description command address workers timeoutSeconds retries environment module { id }
  version { number }
  options { name type required default minimum maximum values doc } accepts { types requiredTags }
  outputTags { name type } resources { cpus memoryBytes gpus }"""


async def test_a_module_shows_what_it_brings(server: Server) -> None:
    version = await server.install({"train": TRAIN}, name="shown", description="text", tags=["x"])
    query = f"""{{ module(name: "shown") {{ id name description tags createdAt project {{ name }}
      activeVersion {{ id number state source digest functions {{ {FUNCTION} }}
      preparations {{ state message backend {{ name }} }} }} }} }}"""
    module = await server.ask(query)
    (function,) = module["activeVersion"].pop("functions")
    assert (module["name"], module["description"], module["tags"]) == ("shown", "text", ["x"])
    assert (module["activeVersion"]["id"], module["project"]) == (version["id"], {"name": "default"})
    assert module["activeVersion"]["preparations"][0]["state"] == "READY"
    assert (function["address"], function["workers"], function["timeoutSeconds"]) == ("shown/train", 2, 60.0)
    epochs, kind, data = function["options"]
    assert (epochs["default"], epochs["minimum"], epochs["maximum"], epochs["doc"]) == (3, 1, 9, "passes")
    assert (kind["type"], kind["values"], data["required"], data["default"]) == (
        "ENUM",
        ["a", "b"],
        True,
        None,
    )
    assert function["accepts"] == [{"types": ["csv"], "requiredTags": ["split"]}]
    assert function["resources"] == {"cpus": 0.5, "memoryBytes": 1 << 20, "gpus": 0}


async def test_an_installation_is_followed_to_its_end(server: Server, tmp_path: Path) -> None:
    folder = write_module(
        tmp_path / "module", {"name": "followed", "functions": {"f": {"command": ["true"]}}}
    )
    payload = await server.change("installModule", "version { id state number }", source=str(folder))
    version = payload["version"]
    assert (version["state"], version["number"]) == ("FETCHING", None)
    query = FOLLOW_VERSION.replace(
        "seq }", "seq } ... on ModuleVersionChanged { state preparation version { id } }"
    )
    events = [
        e["moduleVersion"] async for e in server.client.subscribe(query, {"id": version["id"], "after": 0})
    ]
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 5]
    assert [event.get("state") or event.get("preparation") for event in events] == [
        *("FETCHING", "READY", "PENDING", "BUILDING", "READY", None)
    ]
    assert (events[-1]["__typename"], events[0]["version"]["id"]) == ("FeedEnded", version["id"])


async def test_a_module_installed_again_has_another_version(server: Server) -> None:
    for code in ("1", "2", "3"):
        await server.install({"f": code}, name="again")
    query = """{ module(name: "again") { activeVersion { number }
      first: versions(first: 2) { nodes { number } pageInfo { hasNextPage hasPreviousPage endCursor } }
      last: versions(last: 2) { nodes { number } pageInfo { hasNextPage hasPreviousPage startCursor } } } }"""
    module = await server.ask(query)
    assert module["activeVersion"] == {"number": 3}
    assert [node["number"] for node in module["first"]["nodes"]] == [3, 2]
    assert [node["number"] for node in module["last"]["nodes"]] == [2, 1]
    rest = """query ($at: String) { module(name: "again") { versions(first: 2, after: $at) {
      nodes { number } pageInfo { hasNextPage hasPreviousPage } } } }"""
    page = (await server.ask(rest, at=module["first"]["pageInfo"]["endCursor"]))["versions"]
    assert page == {"nodes": [{"number": 1}], "pageInfo": {"hasNextPage": False, "hasPreviousPage": True}}


async def test_modules_and_functions_are_listed_newest_first(server: Server) -> None:
    one, two = await server.install({"a": "pass", "b": "pass"}), await server.install({"c": "pass"})
    modules = await server.ask("{ modules(first: 2) { edges { cursor node { id } } nodes { id } } }")
    assert [node["id"] for node in modules["nodes"]] == [two["module"]["id"], one["module"]["id"]]
    assert [edge["node"] for edge in modules["edges"]] == modules["nodes"]
    query = "query ($filter: FunctionFilter) { functions(first: 9, filter: $filter) { nodes { name } } }"
    found = await server.ask(query, filter={"module": one["module"]["id"]})
    assert {node["name"] for node in found["nodes"]} == {"a", "b"}
    assert (await server.ask("{ functions(first: 1) { nodes { name } } }")) == {"nodes": [{"name": "c"}]}


async def test_the_server_and_its_backends_are_known(server: Server) -> None:
    data = await server.ask(
        "{ server { version now } backends { name kind scope slots cpus memoryBytes gpus } }"
    )
    (backend,) = data["backends"]
    assert (backend["name"], backend["kind"], backend["scope"], backend["slots"]) == (
        "local",
        "local",
        "HOST",
        64,
    )
