"""Starting, following, cancelling and listing runs."""

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_run_goes_through_its_steps_to_its_end(server: Server) -> None:
    pipeline = await server.pipeline({"one": "print('first')", "two": "print('second')"})
    run = await server.start(pipeline)
    assert run["state"] == "QUEUED"
    ended = await server.finish(run["id"])
    assert ended["state"] == "SUCCEEDED"
    assert [(job["step"], job["state"], job["exitCode"]) for job in ended["jobs"]] == [
        ("one", "SUCCEEDED", 0),
        ("two", "SUCCEEDED", 0),
    ]
    assert [job["logs"]["nodes"][0]["text"] for job in ended["jobs"]] == ["first", "second"]
