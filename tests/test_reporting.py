"""Training code that reports with `rungraph.log`, through what may happen to it and to its server.

Both are real processes that are killed; at the end the server has every point once, in order.
"""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rungraph import modules, pipelines, runs
from rungraph.api import Client
from rungraph.module_sources import Wanted
from rungraph.output import Output
from tests.conftest import SQLITE_FIRST
from tests.processes import Server, serving, until
from tests.telling import watched

ROOT = Path(__file__).parents[1]
TRAINING = """
import os, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
import rungraph
first, last, signs = int(sys.argv[2]), int(sys.argv[3]), pathlib.Path(sys.argv[4])
with rungraph.run("training", key="the key", heartbeat_seconds=1) as run:
    for step in range(first, last):
        rungraph.log({"loss": 1 / (step + 1), "accuracy": step}, step=step)
        rungraph.log(plain=step)
        time.sleep(0.0005)
    assert not (signs / "flush").exists() or run.flush(60)
    (signs / "logged").touch()
    while (signs / "hold").exists():
        time.sleep(0.01)
"""
STORY = """query { runs(first: 10) { nodes { id state jobs { reason attempts { number } } } } }"""
SERIES = """query($run: ID!) { series(runs: [$run], names: ["loss", "accuracy", "plain"]) { name steps values } }"""


class Training:
    """A process that logs, its signs and what it said."""

    def __init__(self, server: Server, signs: Path) -> None:
        self.server = server
        self.signs = signs
        signs.mkdir()
        self.process: subprocess.Popen[str] | None = None

    def start(self, first: int, last: int) -> None:
        """Log the steps from `first` to before `last`."""
        (self.signs / "logged").unlink(missing_ok=True)
        arguments = [str(ROOT / "client"), str(first), str(last), str(self.signs)]
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", TRAINING, *arguments],
            env={"RUNGRAPH_HOME": str(self.server.home), "RUNGRAPH_URL": self.server.url},
            stderr=subprocess.PIPE,
            text=True,
        )

    async def logged(self) -> None:
        """Wait until everything has been logged."""
        await until(lambda: (self.signs / "logged").exists(), "it has logged all")

    async def ended(self) -> str:
        """Wait for its end; what it said."""
        assert self.process is not None
        _, told = await asyncio.to_thread(self.process.communicate, timeout=60)
        assert self.process.returncode == 0, told
        return told

    def kill(self) -> None:
        assert self.process is not None and self.process.stderr is not None
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


async def the_run(client: Client) -> Any:
    (run,) = (await client.execute(STORY))["runs"]["nodes"]
    return run


async def series(client: Client) -> dict[str, tuple[list[int], list[float]]]:
    found = (await client.execute(SERIES, {"run": (await the_run(client))["id"]}))["series"]
    return {one["name"]: (one["steps"], one["values"]) for one in found}


def assert_whole(found: dict[str, tuple[list[int], list[float]]], count: int) -> None:
    """Every point is there, once, and in order."""
    steps = list(range(count))
    assert found["accuracy"] == (steps, [float(step) for step in steps])
    assert found["loss"] == (steps, [1 / (step + 1) for step in steps])
    assert found["plain"] == (steps, [float(step) for step in steps])


@SQLITE_FIRST
async def test_nothing_is_lost_nor_doubled_when_the_server_is_killed(
    database_url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path / "home", database_url) as server, server.client() as client:
        training = Training(server, tmp_path / "signs")
        (training.signs / "flush").touch()
        training.start(0, 4000)
        await until(lambda: list((server.home / "spool").glob("*/run.json")), "the run is made")
        for _ in range(2):
            await asyncio.sleep(0.4)
            server.kill()
            await asyncio.sleep(0.2)
            await server.again()
        await training.ended()
        assert_whole(await series(client), 4000)
        assert (await the_run(client))["state"] == "SUCCEEDED"


@pytest.mark.slow
async def test_what_a_killed_process_had_on_disk_is_sent_by_the_next(
    database_url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path / "home", database_url) as server, server.client() as client:
        training = Training(server, tmp_path / "signs")
        (training.signs / "hold").touch()
        (training.signs / "flush").touch()
        training.start(0, 500)
        await training.logged()
        server.kill()
        (training.signs / "flush").unlink()
        training.kill()
        training.start(500, 1500)  # nobody answers it; its process dies, too
        await training.logged()
        await asyncio.sleep(1.5)  # a batch lingers for a second at most before it lies on disk
        training.kill()
        assert list((server.home / "spool").glob("*/*.batches"))
        await server.again()
        (training.signs / "hold").unlink()
        training.start(1500, 2000)
        await training.ended()
        assert_whole(await series(client), 2000)
        run = await the_run(client)
        assert run["state"] == "SUCCEEDED" and len(run["jobs"][0]["attempts"]) == 1
        assert not list((server.home / "spool").iterdir())


@pytest.mark.slow
async def test_what_no_process_could_send_is_sent_by_the_command(database_url: str, tmp_path: Path) -> None:
    async with serving(tmp_path / "home", database_url) as server, server.client() as client:
        server.kill()
        training = Training(server, tmp_path / "signs")
        training.start(0, 700)
        assert "rungraph run sync" in await training.ended()
        command = [str(Path(sys.executable).with_name("rungraph")), "run", "sync"]
        environment = {"RUNGRAPH_HOME": str(server.home), "RUNGRAPH_URL": server.url}
        await server.again()
        said = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60
        )
        assert said.returncode == 0, said.stderr
        assert_whole(await series(client), 700)
        run = await the_run(client)
        assert run["state"] == "SUCCEEDED" and said.stdout.split("\t")[0] == run["id"]
        assert not list((server.home / "spool").iterdir())


MANIFEST = """\
name: reporting
functions:
  main:
    command: [python, report.py]
    options: {signs: str}
"""
REPORT = """\
import json, os, pathlib, time
import rungraph
given = json.loads(pathlib.Path(os.environ["RUNGRAPH_INPUT"], "input.json").read_text())
signs = pathlib.Path(given["options"]["signs"])
with rungraph.run("the job's own"):
    for step in range(2000):
        rungraph.log({"loss": 1 / (step + 1), "accuracy": step}, step=step)
        rungraph.log(plain=step)
        time.sleep(0.0005)
        if step == 1000:
            (signs / os.environ["RANK"]).touch()
rungraph.log(after=1)
"""
OF_WORKERS = """query($run: ID!) {
  run(id: $run) { state jobs { message outputs { name } } }
  series(runs: [$run], names: ["loss", "accuracy", "plain", "after"]) { rank name steps values } }"""


async def reporting(client: Client, folder: Path, script: str) -> str:
    """A pipeline of one step that runs this script, which leaves its signs in a folder beside it; its id."""
    signs, module = folder / "signs", folder / "reporting"
    signs.mkdir()
    module.mkdir()
    (module / "rungraph.yaml").write_text(MANIFEST)
    (module / "report.py").write_text(script)
    await modules.install(client, Output(as_json=True), Wanted(str(module)))
    step = {"name": "only", "function": "reporting/main", "arguments": {"signs": str(signs)}}
    pipeline: str = (await pipelines.create(client, "reporting", [step]))["id"]
    return pipeline


@pytest.mark.slow
async def test_the_workers_of_a_job_report_each_through_a_death_of_the_server(
    database_url: str, tmp_path: Path
) -> None:
    signs = tmp_path / "signs"
    async with serving(tmp_path / "home", database_url) as server, server.client() as client:
        pipeline = await reporting(client, tmp_path, REPORT)
        wanted = {"pipeline": pipeline, "resources": [{"step": "only", "workers": 2}]}
        run = (await runs.start(client, wanted, ""))["id"]
        async with watched(client, run):
            await until(lambda: len(list(signs.iterdir())) == 2, "both have logged half")
            server.kill()
            await server.again()
        story = await client.execute(OF_WORKERS, {"run": run})
        assert story["run"] == {"state": "SUCCEEDED", "jobs": [{"message": None, "outputs": []}]}
        for rank in (0, 1):
            found = {
                one["name"]: (one["steps"], one["values"]) for one in story["series"] if one["rank"] == rank
            }
            assert found.pop("after") == ([0], [1.0])
            assert_whole(found, 2000)


KILLED = """\
import json, os, pathlib, signal, time
import rungraph
given = json.loads(pathlib.Path(os.environ["RUNGRAPH_INPUT"], "input.json").read_text())
signs = pathlib.Path(given["options"]["signs"])
for step in range(2000):
    rungraph.log({"loss": 1 / (step + 1), "accuracy": step}, step=step)
    rungraph.log(plain=step)
    if step == 1000:
        (signs / "half").touch()
        while not (signs / "on").exists():
            time.sleep(0.01)
spools = pathlib.Path(os.environ["RUNGRAPH_SPOOL"])
sizes = None
while sizes != (sizes := [path.stat().st_size for path in spools.glob("*/*.batches")]):
    time.sleep(1.5)  # what was logged last is on disk then
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
async def test_what_a_job_could_not_send_before_it_ended_is_sent_for_it(
    database_url: str, tmp_path: Path
) -> None:
    signs = tmp_path / "signs"
    async with serving(tmp_path / "home", database_url) as server, server.client() as client:
        pipeline = await reporting(client, tmp_path, KILLED)
        run = (await runs.start(client, {"pipeline": pipeline}, ""))["id"]
        await until(lambda: (signs / "half").exists(), "it has logged half")
        server.kill()
        (signs / "on").touch()
        exits = server.home / "local" / "jobs"
        await until(lambda: list(exits.glob("*/exit.json")), "it is gone")
        await server.again()
        async with watched(client, run):
            pass
        assert (await the_run(client))["state"] == "FAILED"
        assert_whole(await series(client), 2000)


NOWHERE = """\
import os, pathlib, signal, time
import rungraph
for step in range(3):
    rungraph.log(loss=float(step), step=step)
spools = pathlib.Path(os.environ["RUNGRAPH_SPOOL"])
while not any(path.stat().st_size for path in spools.glob("*/*.batches")):
    time.sleep(0.05)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_what_jobs_report_to_an_address_that_leads_nowhere_is_sent_by_the_server_that_runs_them(
    database_url: str, tmp_path: Path
) -> None:
    module = tmp_path / "reporting"
    module.mkdir()
    (module / "rungraph.yaml").write_text(MANIFEST)
    (module / "report.py").write_text(NOWHERE)
    nowhere = {"RUNGRAPH_PUBLIC_URL": "http://127.0.0.1:9"}
    async with serving(tmp_path / "home", database_url, **nowhere) as server, server.client() as client:
        await modules.install(client, Output(as_json=True), Wanted(str(module)))
        step = {"name": "only", "function": "reporting/main", "arguments": {"signs": "none"}}
        pipeline = (await pipelines.create(client, "reporting", [step]))["id"]
        run = (await runs.start(client, {"pipeline": pipeline}, ""))["id"]
        async with watched(client, run):
            pass
        assert await series(client) == {"loss": ([0, 1, 2], [0.0, 1.0, 2.0])}


async def test_a_run_that_is_cancelled_hears_of_it(sqlite_url: str, tmp_path: Path) -> None:
    code = """
import sys, time
sys.path.insert(0, sys.argv[1])
import rungraph
with rungraph.run("training", heartbeat_seconds=1) as run:
    while not run.cancel_requested:
        run.log(loss=1)
        time.sleep(0.01)
"""
    async with serving(tmp_path / "home", sqlite_url) as server, server.client() as client:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-E", "-c", code, str(ROOT / "client"),
            env={"RUNGRAPH_HOME": str(server.home)},
        )  # fmt: skip
        spools = server.home / "spool"
        await until(lambda: list(spools.glob("*/run.json")), "the run is made")
        cancel = "mutation($run: ID!) { cancelRun(input: {id: $run}) { errors { message } } }"
        assert (await client.execute(cancel, {"run": (await the_run(client))["id"]}))["cancelRun"][
            "errors"
        ] == []
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert (await the_run(client))["state"] == "CANCELLED"
