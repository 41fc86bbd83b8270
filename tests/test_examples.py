"""The examples, run as anybody would run them: what they measure is the same wherever they run."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rungraph import modules, pipelines, runs, transfers
from rungraph.api import Client
from rungraph.module_sources import Wanted
from rungraph.output import Output
from tests.chaos.places import CONTAINERS, place
from tests.conftest import SQLITE_FIRST
from tests.processes import ROOT, serving
from tests.telling import watched

TOLD = """query Told($run: ID!) {
  run(id: $run) {
    state
    jobs { step state reason message attempts { workers { rank phase } } outputs { name tags url } }
  }
  series(names: ["loss", "accuracy"], runs: [$run]) { name rank steps values job { step } }
}"""


FETCHING = (
    *(
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ),
    *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CACHE_DIR"),
)
"""What a server needs of this machine to make environments."""
PATIENCE_SECONDS = 300.0
"""How long a run may take whose environment is made first."""
SHORT = {"steps": 8, "examples": 400}


@asynccontextmanager
async def running(folder: Path, database_url: str, *kinds: str) -> AsyncIterator[Client]:
    """A client of a server of this machine, or of these kinds of backends, each of its kind's name."""
    async with AsyncExitStack() as stack:
        told = {name: os.environ[name] for name in FETCHING if name in os.environ}
        if kinds:
            places = [place(kind, folder) for kind in kinds]
            for each in places:
                await each.open()
                stack.push_async_callback(each.close)
            told["RUNGRAPH_CONFIG"] = str(folder / "config.yaml")
            backends = [{"name": each.kind, "kind": each.kind, **each.options} for each in places]
            for each in places:
                told |= each.environment()
            (folder / "config.yaml").write_text(json.dumps({"backends": backends}))
        server = await stack.enter_async_context(serving(folder / "home", database_url, **told))
        yield await stack.enter_async_context(server.client())


async def told(client: Client, pipeline: str, **wanted: Any) -> dict[str, Any]:
    """What is known of a run of a pipeline, at its end."""
    run = (await runs.start(client, {"pipeline": pipeline, **wanted}, ""))["id"]
    async with watched(client, run, PATIENCE_SECONDS):
        pass
    return await client.execute(TOLD, {"run": run})


async def install(client: Client, example: str, name: str | None = None) -> None:
    """Install an example, ready for the first backend."""
    wanted = Wanted(str(ROOT / "examples" / example), name=name)
    version = await modules.install(client, Output(as_json=True), wanted)
    assert version["problems"] == []
    assert [each["state"] for each in version["preparations"]] == ["READY"], version["preparations"]


async def pipeline_of(client: Client, *steps: tuple[str, dict[str, Any]]) -> str:
    """A pipeline of these functions with their arguments; its id."""
    listed = [
        {"name": function.rpartition("/")[2], "function": function, "arguments": arguments}
        for function, arguments in steps
    ]
    created: str = (await pipelines.create(client, "example", listed))["id"]
    return created


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
        await install(client, "allreduce")
        found = await told(client, await pipeline_of(client, ("allreduce/train", SHORT)))
    (job,) = found["run"]["jobs"]
    assert (job["state"], job["message"]) == ("SUCCEEDED", None)
    losses = [series for series in found["series"] if series["name"] == "loss"]
    assert [series["rank"] for series in losses] == [0, 1, 2, 3]
    assert all(series["values"] == losses[0]["values"] for series in losses)
    options = {**SHORT, "rate": 0.5, "features": 16, "seed": 0}
    single = await alone(tmp_path / "alone", ROOT / "examples/allreduce/train.py", options)
    assert losses[0]["values"] == pytest.approx(single, rel=1e-12)
    assert single[-1] < single[0] * 2 / 3
    (output,) = job["outputs"]
    assert output["tags"]["workers"] == 4


@pytest.mark.parametrize("kind", CONTAINERS)
async def test_a_gang_measures_the_same_in_containers(kind: str, sqlite_url: str, tmp_path: Path) -> None:
    async with running(tmp_path, sqlite_url, kind, "local") as client:
        await install(client, "allreduce")
        pipeline = await pipeline_of(client, ("allreduce/train", SHORT))
        contained, here = [await told(client, pipeline, backend=each) for each in (kind, "local")]
    assert measured(contained) == measured(here)
    assert len(measured(here)) == 8


@pytest.mark.parametrize("kind", CONTAINERS)
async def test_digits_measures_the_same_in_containers(kind: str, sqlite_url: str, tmp_path: Path) -> None:
    async with running(tmp_path, sqlite_url, kind, "local") as client:
        await install(client, "digits")
        train = {"epochs": 5, "hidden": 32}
        pipeline = await pipeline_of(
            client, ("digits/split", {}), ("digits/train", train), ("digits/evaluate", {})
        )
        contained, here = [await told(client, pipeline, backend=each) for each in (kind, "local")]
    assert measured(contained) == measured(here)
    assert any(steps == [1, 2, 3, 4, 5] for steps, _ in measured(here).values())
    outputs = [
        {file["name"] for job in each["run"]["jobs"] for file in job["outputs"]} for each in (contained, here)
    ]
    assert outputs[0] == outputs[1] >= {"model.npz", "report.md"}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    ("version", "made"),
    [("current", "Hello World\nHello World\nhow are you"), ("older", "Hello World\n")],
)
async def test_a_module_of_mlsploit_runs_in_its_container(
    kind: str, sqlite_url: str, tmp_path: Path, version: str, made: str
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("how are you")
    async with running(tmp_path, sqlite_url, kind) as client:
        await install(client, f"mlsploit/{version}", "hello")
        options = {"whom": "World", "style": "plain"} | ({"times": 2} if version == "current" else {})
        pipeline = await pipeline_of(client, ("hello/greet", options))
        file = await transfers.upload(client, letter, tags={"ftype": "letter"})
        found = await told(client, pipeline, files=[file["id"]])
        (job,) = found["run"]["jobs"]
        assert (job["state"], job["message"]) == ("SUCCEEDED", None)
        (output,) = job["outputs"]
        assert (await client.http.get(output["url"])).text == made


def measured(found: dict[str, Any]) -> dict[tuple[str, str, int], tuple[list[int], list[float]]]:
    """Every series of a run that succeeded: its steps and values, to the last bit."""
    assert found["run"]["state"] == "SUCCEEDED", found["run"]
    return {
        (each["job"]["step"], each["name"], each["rank"]): (each["steps"], each["values"])
        for each in found["series"]
    }
