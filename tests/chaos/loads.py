"""Many small runs on one backend, and what must be known of each when all is over, whatever happened meanwhile.

Each run is one job that prints numbered points and numbered lines for a few seconds; one whose fate is to be held
goes on only when it is tried again, so that what is to hit it cannot come too late. At the end every one of them
is there, once and in order, however often a server was killed; no job ran twice, and nothing of any is left.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Set
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rungraph import modules, pipelines, runs
from rungraph.api import Client
from rungraph.errors import ApiError, Unreachable
from rungraph.module_sources import Wanted
from rungraph.output import Output
from rungraph.pages import walk
from tests.chaos.places import LINES, Place
from tests.processes import Server, serving
from tests.telling import LOG
from tests.test_replicas import copy_keys

SECONDS = 300.0
"""How long everything may take from the last disturbance on."""
PATIENCE_SECONDS = 5.0
"""How long to wait for one server before another is asked."""
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}
WORK = """\
import json, os, pathlib, sys, time

given = json.loads(pathlib.Path(os.environ["RUNGRAPH_INPUT"], "input.json").read_text())
if effects := given["options"]["effects"]:
    with open(f"{effects}/{given['job_id']}.{given['attempt']}", "a") as file:
        file.write("started\\n")
if given["options"]["fate"] == "oom":
    taken = []
    while True:
        taken.append(b"x" * (1 << 22))
        time.sleep(0.01)
for number in range(%d):
    if given["options"]["fate"] == "held" and given["attempt"] == 1 and number == 10:
        time.sleep(3600)
    print(json.dumps({"metric": {"count": number}, "step": number}), flush=True)
    print("out", number, flush=True)
    time.sleep(given["options"]["pause"])
pathlib.Path(os.environ["RUNGRAPH_OUTPUT"], "made.txt").write_text(given["job_id"])
"""
STORY = """query Story($run: ID!) {
  run(id: $run) {
    state
    jobs { id state reason message attempts { number reason message } outputs { name } }
  }
  series(names: ["count"], runs: [$run]) { values attempt }
}"""


@dataclass
class Figures:
    """A row of the table."""

    HEAD: ClassVar[str] = (
        f"{'backend':<12}{'disturbed':<34}{'times':>6}{'jobs':>6}{'seconds':>9}{'retried':>9}"
        f"{'twice':>7}{'lost lines':>12}{'left':>6}"
    )
    kind: str
    disturbed: str
    times: int
    jobs: int
    seconds: float = 0.0
    retried: int = 0
    twice: int = 0
    lost: int = 0
    left: int = 0

    def row(self) -> str:
        """As it is printed."""
        return (
            f"{self.kind:<12}{self.disturbed:<34}{self.times:>6}{self.jobs:>6}{self.seconds:>9.1f}"
            f"{self.retried:>9}{self.twice:>7}{self.lost:>12}{self.left:>6}"
        )


def at_once(_run: str, reasons: list[str]) -> bool:
    """Whether nothing of what happened was felt."""
    return reasons == ["COMPLETED"]


def tried_again(reason: str) -> Callable[[str, list[str]], bool]:
    """Whether an attempt that ended so was followed by another, and the last one was COMPLETED."""
    return lambda _run, reasons: reasons[-1:] == ["COMPLETED"] and set(reasons[:-1]) <= {reason}


def hit(held: Set[str], others: Set[str], reason: str) -> Callable[[str, list[str]], bool]:
    """Whether what was held ended so and was tried again, of the others only what was hit, and that only perhaps."""

    def fits(run: str, reasons: list[str]) -> bool:
        if run in held:
            return reasons == [reason, "COMPLETED"]
        return at_once(run, reasons) or (run in others and tried_again(reason)(run, reasons))

    return fits


@dataclass
class Load:
    """Servers of one database, and the runs that were started on them."""

    place: Place
    servers: list[Server]
    clients: list[Client]
    pipeline: str = ""
    runs: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    async def start(self, count: int, memory_bytes: int | None = None, **arguments: Any) -> list[str]:
        """Start so many runs; their ids."""
        told = [{"step": "work", "arguments": {**self.place.arguments(), **arguments}}]
        wanted: dict[str, Any] = {"pipeline": self.pipeline, "arguments": told}
        if memory_bytes is not None:
            wanted["resources"] = [{"step": "work", "memoryBytes": memory_bytes}]
        started: list[str] = []
        for number in range(len(self.runs), len(self.runs) + count):
            asked = {**wanted, "name": f"run {number}", "idempotencyKey": f"key {number}"}
            answer = await self.ask(runs.START, {"input": asked})
            started.append(answer["startRun"]["run"]["id"])
        self.runs += started
        return started

    async def ask(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Any server's answer, asked one after the other until one gives it."""
        for client in itertools.cycle(self.clients):
            with contextlib.suppress(Unreachable, ApiError, TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    return await client.execute(document, variables, repeatable=True)
            await asyncio.sleep(0.1)
        raise AssertionError("there is no server")

    async def ended(self) -> dict[str, dict[str, Any]]:
        """What is known of every run, once all have ended."""
        found: dict[str, dict[str, Any]] = {}
        async with asyncio.timeout(SECONDS):
            while len(found) < len(self.runs):
                for run in self.runs:
                    if (
                        run not in found
                        and (story := await self.ask(STORY, {"run": run}))["run"]["state"] in TERMINAL
                    ):
                        found[run] = story
                await asyncio.sleep(0.1)
        return found

    async def judge(self, figures: Figures, fits: Callable[[str, list[str]], bool] = at_once) -> None:
        """Wait for the end of all, and see that nothing is lost, done twice, or left.

        The reasons of each run's attempts must be fit; each COMPLETED at once if nothing else is said.
        """
        stories = await self.ended()
        figures.seconds = time.monotonic() - self.began
        wrong: list[str] = []
        for run, story in stories.items():
            (job,) = story["run"]["jobs"]
            reasons = [attempt["reason"] for attempt in job["attempts"]]
            figures.retried += len(reasons) - 1
            if not fits(run, reasons):
                wrong.append(f"{run}: {job['state']}, {job['attempts']}")
            if reasons[-1:] == ["COMPLETED"]:
                figures.lost += await self._lost(story, job["id"], len(reasons), wrong)
        figures.twice = sum(count > 1 for count in self.place.launches().values())
        assert not wrong, "\n".join(wrong)
        await self._leaves_nothing(figures)
        assert (figures.twice, figures.lost, figures.left) == (0, 0, 0), figures.row()

    async def _lost(self, story: dict[str, Any], job: str, attempt: int, wrong: list[str]) -> int:
        """How many points and lines of the last attempt are missing or come twice."""
        points = [each["values"] for each in story["series"] if each["attempt"] == attempt]
        lines = [
            line["text"]
            async for line in walk(self.clients[0], LOG, {"job": job}, ("job", "logs"))
            if line["attempt"] == attempt and line["stream"] == "STDOUT"
        ]
        wanted = [[*range(LINES)]], [f"out {number}" for number in range(LINES)]
        if (points, lines) == wanted:
            return 0
        wrong.append(f"{job}: points {points}, lines {lines}")
        return abs(LINES - len(lines)) + abs(LINES - sum(map(len, points))) or 1

    async def _leaves_nothing(self, figures: Figures) -> None:
        """Wait until the backends have let go of every attempt, and end the servers."""
        async with asyncio.timeout(60):
            while await self.place.left() or any(  # noqa: ASYNC110
                list(each.jobs.glob("*")) for each in self.servers
            ):
                await asyncio.sleep(0.1)
        for server in self.servers:
            server.stop()
        left = [*(await self.place.left()), *(what for each in self.servers for what in each.left())]
        figures.left = len(left)
        assert not left


@asynccontextmanager
async def load(
    place: Place, database_url: str, servers: int = 1, retries: int = 0, dockerfile: str = ""
) -> AsyncIterator[Load]:
    """So many servers of one database whose jobs run in that place, with the module installed."""
    await place.open()
    config = place.folder / "config.yaml"
    backend = {"name": place.kind, "kind": place.kind, "slots": 30, **place.options}
    config.write_text(json.dumps({"backends": [backend]}))
    shared = {"RUNGRAPH_CONFIG": str(config), "RUNGRAPH_FILES_URL": str(place.folder / "contents")}
    if servers > 1:
        shared["RUNGRAPH_BROADCAST_URL"] = database_url
    async with AsyncExitStack() as stack:
        opened: list[Server] = []
        for number in range(servers):
            home = place.folder / f"home-{number}"
            if opened:
                copy_keys(opened[0].home, home)
            opened.append(
                await stack.enter_async_context(serving(home, database_url, **shared, **place.environment()))
            )
        clients = [await stack.enter_async_context(each.client()) for each in opened]
        stack.push_async_callback(place.close)
        for each in opened:
            stack.callback(each.thaw)
        made = Load(place, opened, clients)
        made.pipeline = await _install(made, place.folder / "chaos", retries, dockerfile)
        yield made


@asynccontextmanager
async def greedy(
    place: Place, database_url: str, jobs: int, told: Callable[[Figures], None]
) -> AsyncIterator[tuple[Load, Figures, Set[str]]]:
    """So many runs, of which a tenth take more memory than they have; their row, and which those are."""
    some = max(1, jobs // 10)
    figures = Figures(place.kind, "over their memory", some, jobs)
    told(figures)
    async with load(place, database_url) as made:
        taken = set(await made.start(some, memory_bytes=64 << 20, fate="oom"))
        await made.start(jobs - some)
        yield made, figures, taken


async def _install(made: Load, folder: Path, retries: int, dockerfile: str) -> str:
    """Install the module on the first server and make a pipeline of it; its id."""
    folder.mkdir()
    if dockerfile:
        (folder / "Dockerfile").write_text(dockerfile)
    (folder / "work.py").write_text(WORK % LINES)
    options = {"effects": "", "pause": 0.05, "fate": ""}
    function = {"command": made.place.command(), "options": options, "retries": retries}
    manifest: dict[str, Any] = {"name": "chaos", "functions": {"work": function}}
    if dockerfile:
        manifest["dockerfile"] = "Dockerfile"
    (folder / "rungraph.yaml").write_text(json.dumps(manifest))
    await modules.install(made.clients[0], Output(as_json=True), Wanted(str(folder)))
    created = await pipelines.create(made.clients[0], "chaos", [{"name": "work", "function": "chaos/work"}])
    pipeline: str = created["id"]
    return pipeline
