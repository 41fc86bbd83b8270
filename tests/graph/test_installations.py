"""Installing from a repository and from an archive, as a front end asks for it."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.backends.test_repositories import commit, git
from tests.graph.serving import Server, write_module

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERSION = """query ($id: ID!) { node(id: $id) { ... on ModuleVersion { number state message source ref folder
  commit digest sameAs { id number } module { name activeVersion { number } } functions { name }
  preparations { log(first: 50) { nodes { text } } } notes { message } } } }"""


def _manifest(name: str) -> str:
    return json.dumps({"name": name, "functions": {"f": {"command": ["true"]}}})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    write_module(folder / "modules" / "text", _manifest("fromgit"))
    commit(folder, README="old")
    git(folder, "tag", "v1")
    commit(folder, modules__text__more="new")
    return folder


async def _install(server: Server, **input: Any) -> Any:
    version = await server.install_source(**input)
    return await server.ask(VERSION, id=version["id"])


async def test_a_repository_is_installed_at_the_commit_that_was_meant(
    server: Server, repository: Path
) -> None:
    source = {"source": repository.as_uri(), "folder": "modules/text"}
    old = await _install(server, **source, ref="v1")
    new = await _install(server, **source)
    again = await _install(server, **source, ref=old["commit"])
    assert old["commit"] == git(repository, "rev-parse", "v1")
    assert (old["state"], old["ref"], old["folder"]) == ("READY", "v1", "modules/text")
    assert new["number"] == old["number"] + 1
    assert new["module"] == {"name": "fromgit", "activeVersion": {"number": new["number"]}}
    assert (again["number"], again["sameAs"]["number"]) == (None, old["number"])
    assert (again["digest"], again["commit"], again["functions"]) == (
        old["digest"],
        old["commit"],
        [{"name": "f"}],
    )
    assert again["module"]["activeVersion"]["number"] == old["number"]
    told = [line["text"] for line in old["preparations"][0]["log"]["nodes"]]
    assert told == [
        f"Fetching {source['source']}",
        f"{source['source']} at v1 is commit {old['commit']}",
    ]


async def test_what_cannot_be_fetched_fails_in_words_and_leaves_nothing(
    server: Server, repository: Path
) -> None:
    version = await _install(server, source=repository.as_uri(), ref="nowhere")
    assert version["state"] == "FAILED"
    assert "at nowhere cannot be fetched: couldn't find remote ref nowhere" in version["message"]
    assert list((server.home / "modules").glob(".fetch-*")) == []


async def test_an_uploaded_archive_is_installed(server: Server) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        content = _manifest("fromfile").encode()
        member = tarfile.TarInfo("text-1.0/rungraph.yaml")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    file = await server.upload("text.tgz", packed.getvalue())
    version = await _install(server, source=file, name="renamed")
    assert (version["state"], version["module"]["name"], version["commit"]) == ("READY", "renamed", None)


async def test_an_archive_that_is_none_fails_in_words(server: Server) -> None:
    version = await _install(server, source=await server.upload("text.zip", b"hello"))
    assert (version["state"], version["message"][:26]) == ("FAILED", "this is no archive that is")


async def test_what_git_must_not_be_told_is_refused_at_once(server: Server) -> None:
    payload = await server.change("installModule", "version { id }", source="ext::sh", ref="-x")
    assert payload["version"] is None
    assert [(e["code"], e["path"]) for e in payload["errors"]] == [
        ("INVALID", ["input", "source"]),
        ("INVALID", ["input", "ref"]),
    ]


async def test_an_archive_must_be_there_and_whole(server: Server) -> None:
    file = await server.announce("text.zip", 9)
    for source, code in ((file, "CONFLICT"), (file[:-1] + ("0" if file[-1] != "0" else "1"), "NOT_FOUND")):
        payload = await server.change("installModule", "version { id }", source=source)
        assert [(e["code"], e["path"]) for e in payload["errors"]] == [(code, ["input", "source"])]


async def test_an_older_version_is_chosen_again_until_a_newer_one_is_ready(server: Server) -> None:
    versions = [await server.install({"f": code}, name="chosen") for code in ("1", "2")]
    query = '{ module(name: "chosen") { activeVersion { number } } }'
    for _ in range(2):
        payload = await server.change("activateModuleVersion", "version { number }", id=versions[0]["id"])
        assert payload == {"version": {"number": 1}, "errors": []}
    assert await server.ask(query) == {"activeVersion": {"number": 1}}
    await server.install({"f": "3"}, name="chosen")
    assert await server.ask(query) == {"activeVersion": {"number": 3}}


@pytest.mark.parametrize(
    ("example", "format", "arguments"),
    [("current", "MLSPLOIT", {"whom": "you", "times": 2}), ("older", "MLSPLOIT_SCHEMAS", {"whom": "you"})],
)
async def test_a_module_of_mlsploits_is_installed_and_runs_nowhere_but_in_a_container(
    server: Server, example: str, format: str, arguments: dict[str, Any]
) -> None:
    folder = Path(__file__).parents[2] / "examples" / "mlsploit" / example
    version = await server.install_source(source=str(folder), name=f"mlsploit-{example}")
    assert [preparation["state"] for preparation in version["preparations"]] == ["READY"]
    query = """query ($id: ID!) { node(id: $id) { ... on ModuleVersion { format notes { message }
      module { name title iconUrl } functions { createsFiles modifiesFiles accepts { types tags } } } } }"""
    shown = await server.ask(query, id=version["id"])
    assert (shown["format"], shown["notes"]) == (format, [])
    assert shown["module"]["name"] == f"mlsploit-{example}"
    address = f"mlsploit-{example}/greet"
    steps = [{"name": "one", "function": address}, {"name": "two", "function": address}]
    pipeline = await server.draw(*({**step, "arguments": arguments} for step in steps))
    file = await server.upload("a.txt", tags={"ftype": "letter"})
    run = await server.finish((await server.start(pipeline, files=[file]))["id"])
    one, two = run["jobs"]
    assert (run["state"], one["state"], one["reason"]) == ("FAILED", "FAILED", "LAUNCH_REJECTED")
    assert one["message"].startswith("needs a container")
    assert two["state"] == "SKIPPED"
