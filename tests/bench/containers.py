"""What a backend of containers adds to a bare container: from the call to user code, from its end to SUCCEEDED.

`docker run` and a Pod, made and watched by nobody else, are the limits. Needs DOCKER_HOST, RUNGRAPH_TEST_KUBECONFIG,
and is left out where one is not named.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from tests.bench.rows import Row, median
from tests.bench.server import Server, serving
from tests.chaos.places import Place, place

RUNS = 8
IMAGE = "python:3.11-slim"
COMMAND = ["python", "-S", "-E", "-c", "import time; print(time.time_ns(), flush=True)"]
LOG = "query($r: ID!) { run(id: $r) { jobs { logs(first: 1) { nodes { text } } } } }"
Times = tuple[float, float]
"""Seconds until user code runs, and from there until the end is known."""


async def rows() -> list[Row]:
    """Each kind there is."""
    found: list[Row] = []
    for kind, variable in (("docker", "DOCKER_HOST"), ("kubernetes", "RUNGRAPH_TEST_KUBECONFIG")):
        if os.environ.get(variable):
            found += await _rows(kind)
    return found


async def _rows(kind: str) -> list[Row]:
    async with AsyncExitStack() as stack:
        where = place(kind, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        await where.open()
        stack.push_async_callback(where.close)
        config = json.dumps({"backends": [{"name": kind, "kind": kind, **where.options}]})
        server = await stack.enter_async_context(serving(config=config, environment=where.environment()))
        bare: dict[str, Callable[[Place, int], Awaitable[Times]]] = {"docker": _docker, "kubernetes": _pod}
        times = [await _run(server) for _ in range(RUNS)]  # first: it waits for what a new namespace lacks
        limits = [await bare[kind](where, number) for number in range(RUNS)]
    what = "docker run" if kind == "docker" else "a bare Pod"
    return [
        Row(
            f"{kind}: from {words}, p50",
            median([each[at] for each in times[1:]]) * 1e3,
            "ms",
            None,
            median([each[at] for each in limits[1:]]) * 1e3,
            what,
        )
        for at, words in enumerate(("startRun to user code", "user code to SUCCEEDED"))
    ]


async def _run(server: Server) -> Times:
    began = time.time_ns()
    run = await server.start_run("stamp")
    await server.ended(run)
    ended = time.time_ns()
    nodes = (await server.ask(LOG, r=run))["run"]["jobs"][0]["logs"]["nodes"]
    return _times(began, int(nodes[0]["text"]), ended)


async def _docker(_where: Place, _number: int) -> Times:
    began = time.time_ns()
    command = ["docker", "run", "--rm", "--network", "none", IMAGE, *COMMAND]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    return _times(began, int(printed), time.time_ns())


async def _pod(where: Place, number: int) -> Times:
    from tests.chaos.kubernetes_place import Kubernetes

    assert isinstance(where, Kubernetes)
    main = {"name": "main", "image": IMAGE, "command": COMMAND, "imagePullPolicy": "IfNotPresent"}
    spec = {"containers": [main], "restartPolicy": "Never", "automountServiceAccountToken": False}
    path = where.cluster.path("pods", f"bare-{number}")
    began = time.time_ns()
    await where.cluster.json(
        "POST", where.cluster.path("pods"), body={"metadata": {"name": f"bare-{number}"}, "spec": spec}
    )
    while (await where.cluster.json("GET", path))["status"].get("phase") != "Succeeded":
        await asyncio.sleep(0.01)
    ended = time.time_ns()
    async with where.cluster.stream("GET", f"{path}/log") as response:
        printed = await response.text()
    return _times(began, int(printed), ended)


def _times(began: int, code: int, ended: int) -> Times:
    return (code - began) / 1e9, (ended - code) / 1e9
