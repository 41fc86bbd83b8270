"""Modules that cannot be installed: each fails with its reason, and what was active before stays so."""

from pathlib import Path

import pytest

from tests.graph.serving import Server, write_module

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIVE_MISTAKES = """\
name: Digits!
descripton: text
functions:
  train:
    command: [python, train.py]
    options:
      epochs: {type: integer, default: 3}
    timeout: soon
    retries: -1
"""


async def test_every_mistake_of_a_manifest_is_told_with_its_place(server: Server, tmp_path: Path) -> None:
    version = await server.install_folder(write_module(tmp_path / "module", FIVE_MISTAKES))
    assert (version["state"], version["number"], version["module"]) == ("FAILED", None, None)
    told = {(one["file"], one["line"], one["path"]) for one in version["problems"]}
    assert told == {
        ("rungraph.yaml", 1, "name"),
        ("rungraph.yaml", 2, "descripton"),
        ("rungraph.yaml", 7, "functions.train.options.epochs.type"),
        ("rungraph.yaml", 8, "functions.train.timeout"),
        ("rungraph.yaml", 9, "functions.train.retries"),
    }
    assert all(one["rule"] and one["message"] and one["column"] >= 1 for one in version["problems"])
    assert version["message"] == "rungraph.yaml has 5 mistakes"
    assert await server.is_well()


async def test_a_folder_without_a_manifest_says_what_is_missing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "rungraph.yml").touch()
    version = await server.install_folder(tmp_path)
    (problem,) = version["problems"]
    assert (version["state"], problem["rule"]) == ("FAILED", "missing-file")
    assert "rungraph.yml" in problem["message"]


@pytest.mark.parametrize("content", ["", "[]", "name: [", "\0", "&a [*a]", "{" * 5000, "name: x\nname: y"])
async def test_what_is_no_manifest_is_refused(server: Server, tmp_path: Path, content: str) -> None:
    version = await server.install_folder(write_module(tmp_path / "module", content))
    assert version["state"] == "FAILED"
    assert version["problems"]


@pytest.mark.parametrize(
    "source", ["nowhere/at/all", "/nowhere/at/all", "https://nowhere.invalid/x.git", "~nobody/x"]
)
async def test_a_source_that_is_not_there_says_so(server: Server, source: str) -> None:
    version = await server.install_folder(source)
    assert (version["state"], version["problems"]) == ("FAILED", [])
    assert version["message"]
    assert "Traceback" not in version["message"]
    assert await server.is_well()


async def test_a_file_is_no_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (await server.install_folder(tmp_path / "file"))["state"] == "FAILED"


async def test_a_requirement_that_cannot_be_had_leaves_the_version_before_active(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    good = await server.install({"f": "pass"}, name="kept")
    version = await server.install({"f": "pass"}, name="kept", requirements=["nothing-of-this-name==2.0"])
    assert version["preparations"][0]["state"] == "FAILED"
    assert version["number"] == good["number"] + 1
    active = await server.ask('{ module(name: "kept") { activeVersion { id } } }')
    assert active["activeVersion"]["id"] == good["id"]
    run = await server.start(await server.draw("kept/f"))
    assert (await server.finish(run["id"]))["state"] == "SUCCEEDED"


async def test_a_preparation_that_fails_says_why_and_keeps_its_log(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    version = await server.install({"f": "pass"}, requirements=["nothing-of-this-name==1.0"])
    (preparation,) = version["preparations"]
    assert (preparation["state"], bool(preparation["message"])) == ("FAILED", True)
    query = """query ($id: ID!) { node(id: $id) { ... on Preparation {
      backend { name } log(last: 50) { nodes { text rank attempt } } } } }"""
    found = await server.ask(query, id=preparation["id"])
    assert found["backend"]["name"] == "local"
    assert any("nothing" in line["text"] for line in found["log"]["nodes"])
    assert {line["attempt"] for line in found["log"]["nodes"]} == {0}
