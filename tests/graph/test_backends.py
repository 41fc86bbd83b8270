"""What the API says of where jobs run."""

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
