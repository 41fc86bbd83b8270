"""What jobs use, as series beside those that they report."""

import asyncio
from typing import Any

import pytest

from tests.graph.conftest import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

USED = """query ($run: ID!) {
  series(runs: [$run], names: ["system/cpu_cores", "system/memory_bytes", "loss"]) { name steps values rank }
  run(id: $run) { metrics { name } jobs { metrics { name } } } }"""
CODE = """import time
print('{"metric": {"loss": 1}}')
held = bytearray(b"x") * (64 << 20)
time.sleep(600)"""


async def test_what_a_job_uses_is_kept_as_series_without_headlines(serve: Serve) -> None:
    async with serve(usage_seconds=0.2) as server:
        run = await server.start(await server.pipeline({"f": CODE}))

        async def used() -> Any:
            told = await server.ask(USED, run=run["id"])
            series = {each["name"]: each for each in told["series"]}
            memory = series.get("system/memory_bytes", {"values": []})["values"]
            return (told, series) if len(memory) > 1 and memory[-1] > 64 << 20 else None

        async with asyncio.timeout(30):
            while (found := await used()) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        told, series = found
        await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)
        await server.finish(run["id"])
    assert series.keys() == {"system/cpu_cores", "system/memory_bytes", "loss"}
    assert series["system/memory_bytes"]["steps"][:2] == [0, 1]
    assert told["run"] == {"metrics": [{"name": "loss"}], "jobs": [{"metrics": [{"name": "loss"}]}]}
