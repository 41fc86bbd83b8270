"""What the API says of where jobs run."""

from pathlib import Path

import pytest

from backends import cgroups
from tests.graph.conftest import Serve
from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

BACKENDS = """{ backends { name kind slots gpus devices { index name memoryBytes }
  capabilities { needsContainer maxWorkers suspends memory cpus } } }"""


async def test_a_backend_says_honestly_what_it_enforces_and_how(server: Server) -> None:
    (local,) = await server.ask(BACKENDS)
    can = local["capabilities"]
    assert (can["needsContainer"], can["suspends"]) == (False, True)
    grouped = cgroups.MEMORY in cgroups.places("rungraph-test")
    assert can["memory"].startswith("control groups" if grouped else "looked at")
    assert can["cpus"]
    assert len(local["devices"]) == local["gpus"]


async def test_gpus_may_be_configured_where_none_are_found(serve: Serve) -> None:
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    async with serve(gpus=2) as server:
        (local,) = await server.ask(BACKENDS)
        assert local["gpus"] == 2
        run = await server.play({"code": code, "workers": 2, "resources": {"gpus": 1}})
        told = [line["text"] for line in run["jobs"][0]["logs"]["nodes"]]
        assert (run["state"], told) == ("SUCCEEDED", ["0,1", "0,1"])
        query = "query ($id: ID!) { run(id: $id) { jobs { attempts { workers { rank devices } } } } }"
        ((attempt,),) = [job["attempts"] for job in (await server.ask(query, id=run["id"]))["jobs"]]
        assert attempt["workers"] == [{"rank": 0, "devices": [0]}, {"rank": 1, "devices": [1]}]


async def test_a_job_over_its_memory_says_so_and_the_server_goes_on(server: Server) -> None:
    hog = "held = []\nwhile True: held.append(bytes(b'x' * (1 << 20)))"
    run = await server.play({"code": hog, "resources": {"memory": "64MiB"}})
    (job,) = run["jobs"]
    assert (job["state"], job["reason"]) == ("FAILED", "OUT_OF_MEMORY")
    assert "the 64 MiB of memory it asked for" in job["message"]
    assert await server.is_well()


async def test_a_run_may_ask_for_other_resources_than_its_function(server: Server) -> None:
    code = "import os; print(os.environ['WORLD_SIZE'])"
    asked = [{"step": "step", "workers": 2, "memoryBytes": 1 << 28}]
    run = await server.play({"code": code, "resources": {"cpus": 0.5}}, resources=asked)
    assert [line["text"] for line in run["jobs"][0]["logs"]["nodes"]] == ["2", "2"]
    query = "query ($id: ID!) { job(id: $id) { workers resources { cpus memoryBytes gpus } } }"
    assert await server.ask(query, id=run["jobs"][0]["id"]) == {
        "workers": 2,
        "resources": {"cpus": 0.5, "memoryBytes": 1 << 28, "gpus": 0},
    }


TWO = "backends:\n- {name: here, kind: local}\n- {name: there, kind: local, slots: 3}\n"


async def test_a_run_goes_where_it_says_and_else_to_the_first_backend(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "backends.yaml").write_text(TWO)
    async with serve(config=tmp_path / "backends.yaml") as server:
        listed = await server.ask("{ backends { name slots capabilities { maxWorkers } } }")
        assert [(one["name"], one["slots"]) for one in listed] == [("here", 64), ("there", 3)]
        pipeline = await server.pipeline({"step": "import os; print(os.environ['RUNGRAPH_OUTPUT'])"})
        for wanted, folder in (({}, "here"), ({"backend": "there"}, "there")):
            run = await server.finish((await server.start(pipeline, **wanted))["id"])
            (line,) = run["jobs"][0]["logs"]["nodes"]
            assert Path(line["text"]).is_relative_to(server.home / "backends" / folder)
        again = await server.change("rerunRun", "run { id }", id=run["id"])
        (job,) = (await server.finish(again["run"]["id"]))["jobs"]
        assert "/backends/there/" in job["logs"]["nodes"][0]["text"]


async def test_a_backend_that_is_not_configured_is_refused(server: Server) -> None:
    pipeline = await server.pipeline({"step": "pass"})
    payload = await server.change("startRun", "run { id }", pipeline=pipeline, backend="nowhere")
    (error,) = payload["errors"]
    assert (error["code"], error["path"]) == ("INVALID", ["input", "backend"])
    assert error["message"] == "there is no backend named 'nowhere'; there are local"


async def test_a_configuration_that_cannot_be_meant_ends_the_start(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "backends.yaml").write_text("backends: [{name: here, kind: teapot}]")
    with pytest.raises(SystemExit, match=r"backends\.yaml:1:31: backends\[0\]\.kind: must be one of local"):
        async with serve(config=tmp_path / "backends.yaml"):
            pass


async def test_a_backend_that_is_configured_no_more_can_be_named_no_more(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "backends.yaml").write_text(TWO)
    async with serve(config=tmp_path / "backends.yaml") as server:
        pipeline = await server.pipeline({"step": "pass"})
        run = await server.finish((await server.start(pipeline, backend="there"))["id"])
    (tmp_path / "backends.yaml").write_text("backends: [{name: here, kind: local}]")
    async with serve(config=tmp_path / "backends.yaml") as server:
        assert await server.ask("{ backends { name } }") == [{"name": "here"}]
        payload = await server.change("startRun", "run { id }", pipeline=pipeline, backend="there")
        assert [error["path"] for error in payload["errors"]] == [["input", "backend"]]
        assert (await server.finish(run["id"]))["state"] == "SUCCEEDED"
