"""Secrets through the API: set and rotated, given to the jobs that name them, never told to anybody."""

from typing import Any

import pytest

from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

TELLS = (
    "import os; print('value', os.environ['KEY_A'][::-1]); print('plain', os.environ['KEY_A'], flush=True)"
)
LISTED = "{ secrets(first: 100) { nodes { id name updatedAt usedBy updatedBy { name } } } }"


async def put(server: Server, name: str, value: str) -> Any:
    payload = await server.change(
        "setSecret", "secret { id name createdAt updatedAt }", name=name, value=value
    )
    assert payload["errors"] == [], payload
    return payload["secret"]


async def logged(server: Server, pipeline: str) -> list[str]:
    run = await server.finish((await server.start(pipeline))["id"])
    assert run["state"] == "SUCCEEDED", run
    return [line["text"] for line in run["jobs"][0]["logs"]["nodes"]]


async def test_a_job_gets_the_secret_it_names_and_its_log_does_not(server: Server) -> None:
    await put(server, "KEY_A", "first-value-1")
    await put(server, "KEY_B", "other-value-2")
    version = await server.install({"f": {"code": TELLS, "secrets": ["KEY_A"]}})
    pipeline = await server.draw(f"{version['module']['name']}/f")
    assert await logged(server, pipeline) == ["value 1-eulav-tsrif", "plain ***"]
    await put(server, "KEY_A", "second-value-3")
    assert await logged(server, pipeline) == ["value 3-eulav-dnoces", "plain ***"]
    listed = {one["name"]: one for one in (await server.ask(LISTED))["nodes"]}
    assert listed["KEY_A"]["usedBy"] == [f"{version['module']['name']}/f"]
    assert (listed["KEY_B"]["usedBy"], listed["KEY_B"]["updatedBy"]) == ([], {"name": "administrator"})


async def test_a_job_gets_no_secret_that_it_does_not_name(server: Server) -> None:
    await put(server, "KEY_C", "third-value-4")
    pipeline = await server.pipeline({"f": "import os; print('KEY_C' in os.environ)"})
    assert await logged(server, pipeline) == ["False"]


async def test_a_value_lies_nowhere_in_the_clear(server: Server) -> None:
    secret = await put(server, "KEY_D", "a value to look for")
    assert secret["name"] == "KEY_D"
    for path in server.home.rglob("*"):
        if path.is_file() and not path.is_socket():
            assert b"a value to look for" not in path.read_bytes(), path
    key = server.home / "secrets.key"
    assert (key.stat().st_mode & 0o777) == 0o600


async def test_a_run_without_its_secret_is_refused_and_a_launch_without_it_rejected(server: Server) -> None:
    version = await server.install({"f": {"code": "pass", "secrets": ["KEY_E"]}})
    pipeline = await server.draw(f"{version['module']['name']}/f")
    refused = await server.change("startRun", "run { id }", pipeline=pipeline)
    assert [error["message"] for error in refused["errors"]] == [
        "f: needs the secret KEY_E, which is not set"
    ]
    await put(server, "KEY_E", "value of E")
    blocked = await server.draw(
        {"name": "first", "function": f"{version['module']['name']}/f"},
    )
    run = await server.start(blocked)
    assert (await server.finish(run["id"]))["state"] == "SUCCEEDED"
    deleted = await server.change("deleteSecret", "name", name="KEY_E")
    assert deleted == {"name": "KEY_E", "errors": []}
    again = await server.change("deleteSecret", "name", name="KEY_E")
    assert [(error["code"], error["path"]) for error in again["errors"]] == [("NOT_FOUND", ["input", "name"])]


async def test_a_manifest_with_a_name_that_no_secret_has_is_refused(server: Server) -> None:
    folder = server.home.parent / "modules" / "wrong-secrets"
    folder.mkdir(parents=True)
    (folder / "rungraph.yaml").write_text(
        "name: wrong\nfunctions:\n  f:\n    command: [x]\n    secrets: [GOOD, PATH, 'a b']\n"
    )
    version = await server.install_folder(folder)
    assert [(one["line"], one["rule"]) for one in version["problems"]] == [(5, "secret"), (5, "secret")]


async def test_a_key_that_was_lost_is_told_by_the_launch(serve: Serve) -> None:
    async with serve() as server:
        await put(server, "KEY_A", "first-value-1")
        version = await server.install({"f": {"code": TELLS, "secrets": ["KEY_A"]}})
        pipeline = await server.draw(f"{version['module']['name']}/f")
        (server.home / "secrets.key").unlink()
    async with serve() as server:
        run = await server.finish((await server.start(pipeline))["id"])
        assert run["jobs"][0]["reason"] == "LAUNCH_REJECTED"
        assert "the secret KEY_A does not open, set it again" in run["jobs"][0]["message"]
