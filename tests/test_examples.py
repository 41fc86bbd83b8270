"""The examples, run as anybody would run them: what they measure is the same wherever they run."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rungraph import modules, pipelines, runs
from rungraph.api import Client
from rungraph.module_sources import Wanted
from rungraph.output import Output
from tests.conftest import SQLITE_FIRST
from tests.processes import ROOT, serving
from tests.telling import watched

TOLD = """query Told($run: ID!) {
  run(id: $run) {
    state
    jobs { step state reason message attempts { workers { rank phase } } outputs { name tags } }
  }
  series(names: ["loss", "accuracy"], runs: [$run]) { name rank steps values }
}"""


@asynccontextmanager
async def running(folder: Path, database_url: str) -> AsyncIterator[Client]:
    """A client of a server of this machine."""
    async with serving(folder / "home", database_url) as server, server.client() as client:
        yield client


async def told(client: Client, example: str, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What is known of a run of one function of an example, at its end."""
    version = await modules.install(client, Output(as_json=True), Wanted(str(ROOT / "examples" / example)))
    assert version["problems"] == []
    step = {"name": "only", "function": f"{example}/{function}", "arguments": arguments}
    pipeline = (await pipelines.create(client, example, [step]))["id"]
    run = (await runs.start(client, {"pipeline": pipeline}, ""))["id"]
    async with watched(client, run):
        pass
    return await client.execute(TOLD, {"run": run})


async def alone(folder: Path, script: Path, options: dict[str, Any]) -> list[float]:
    """The losses of a script that is run by itself, as one worker."""
    folder.mkdir()
    (folder / "input.json").write_text(json.dumps({"name": "train", "options": options}))
    places = {"RUNGRAPH_INPUT": str(folder), "RUNGRAPH_OUTPUT": str(folder)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, env=places, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith(b"{")]
    return [line["metric"]["loss"] for line in lines]


@SQLITE_FIRST
async def test_four_workers_learn_together_what_one_learns_alone(database_url: str, tmp_path: Path) -> None:
    async with running(tmp_path, database_url) as client:
        found = await told(client, "allreduce", "train", {"steps": 8, "examples": 400})
    (job,) = found["run"]["jobs"]
    assert (job["state"], job["message"]) == ("SUCCEEDED", None)
    losses = [series for series in found["series"] if series["name"] == "loss"]
    assert [series["rank"] for series in losses] == [0, 1, 2, 3]
    assert all(series["values"] == losses[0]["values"] for series in losses)
    options = {"steps": 8, "examples": 400, "rate": 0.5, "features": 16, "seed": 0}
    single = await alone(tmp_path / "alone", ROOT / "examples/allreduce/train.py", options)
    assert losses[0]["values"] == pytest.approx(single, rel=1e-12)
    assert single[-1] < single[0] * 2 / 3
    (output,) = job["outputs"]
    assert output["tags"]["workers"] == 4
