"""Checking a module without installing it, the schema for editors, and the module that `init` writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends import manifest_schema
from rungraph import module_checks
from rungraph.module_checks import CHECK
from tests.backends.test_repositories import commit, git
from tests.graph.serving import Server, write_module

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = Path(__file__).parents[2] / "examples" / "mlsploit"


async def _check(server: Server, **input: Any) -> Any:
    payload = await server.ask(CHECK, input=input)
    assert payload["errors"] == []
    return payload["check"]


async def test_a_good_module_is_explained_and_nothing_is_installed(server: Server, tmp_path: Path) -> None:
    functions = {"f": {"command": ["a"], "options": {"n": 3}, "resources": {"gpus": 1}}}
    folder = write_module(tmp_path / "m", {"name": "checked", "title": "T", "functions": functions})
    found = await _check(server, source=str(folder))
    assert (found["installable"], found["name"], found["title"]) == (True, "checked", "T")
    assert (found["format"], found["needsContainer"]) == ("RUNGRAPH", False)
    (function,) = found["functions"]
    assert (function["command"], function["resources"]["gpus"]) == (["a"], 1)
    assert function["options"][0]["default"] == 3
    assert await server.ask('{ module(name: "checked") { id } }') is None


@pytest.mark.parametrize("example", ["current", "older"])
async def test_mlsploits_formats_are_explained(server: Server, example: str) -> None:
    found = await _check(server, source=str(EXAMPLES / example))
    assert (found["installable"], found["needsContainer"], found["notes"]) == (True, True, [])
    assert found["functions"][0]["outputTags"]


async def test_everything_wrong_is_told_with_its_place(server: Server, tmp_path: Path) -> None:
    folder = write_module(tmp_path / "m", "name: A\nfunctions:\n  f: {comand: [a]}\n")
    found = await _check(server, source=str(folder))
    assert (found["installable"], found["functions"], found["message"]) == (
        False,
        [],
        "rungraph.yaml has 3 mistakes",
    )
    assert [(p["line"], p["rule"]) for p in found["problems"]] == [
        (1, "name"),
        (3, "no-command"),
        (3, "unknown-key"),
    ]


async def test_a_source_that_cannot_be_had_is_told_in_words(server: Server, tmp_path: Path) -> None:
    found = await _check(server, source=str(tmp_path / "nothing"))
    assert (found["installable"], "is not there" in found["message"]) == (False, True)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "out").symlink_to("/etc/passwd")
    found = await _check(server, source=str(tmp_path / "m"))
    assert "leaves the folder" in found["message"]


async def test_a_repository_and_an_archive_are_checked_too(server: Server, tmp_path: Path) -> None:
    folder = write_module(tmp_path / "m", {"name": "x", "functions": {"f": {"command": ["a"]}}})
    git(folder, "init", "--quiet")
    found = await _check(server, source=folder.as_uri(), ref=commit(folder, a="1"))
    assert (found["installable"], found["commit"]) == (True, git(folder, "rev-parse", "HEAD"))
    found = await _check(server, source=await server.upload("m.zip", b"no archive"))
    assert "no archive" in found["message"]


async def test_what_git_must_not_be_told_is_refused(server: Server) -> None:
    payload = await server.ask(CHECK, input={"source": "ext::sh"})
    assert (payload["check"], payload["errors"][0]["code"]) == (None, "INVALID")


async def test_the_schema_is_served_to_anybody(server: Server) -> None:
    answer = await server.http.get(manifest_schema.ADDRESS)
    assert (answer.status_code, answer.json()) == (200, manifest_schema.document())
    assert answer.headers["content-type"] == "application/schema+json"


async def test_the_module_that_init_writes_installs_and_runs(server: Server, tmp_path: Path) -> None:
    module_checks.write(tmp_path / "My first-1", None, server.url)
    version = await server.install_source(source=str(tmp_path / "My first-1"))
    assert (version["state"], version["module"]["name"]) == ("READY", "my-first-1")
    run = await server.finish((await server.start(await server.draw("my-first-1/main")))["id"])
    (job,) = run["jobs"]
    assert (run["state"], [file["name"] for file in job["outputs"]]) == ("SUCCEEDED", ["report.txt"])
    metrics = await server.ask("query ($id: ID!) { run(id: $id) { metrics { name last } } }", id=run["id"])
    assert {"name": "loss", "last": 0.03125} in metrics["metrics"]
    manifest = (tmp_path / "My first-1" / "rungraph.yaml").read_text()
    assert manifest.startswith(f"# yaml-language-server: $schema={server.url}{manifest_schema.ADDRESS}\n")
    assert json.loads((await server.http.get(manifest_schema.ADDRESS)).text)["title"] == "rungraph.yaml"
