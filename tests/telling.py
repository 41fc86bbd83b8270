"""A module whose jobs leave a trace of everything they do, a pipeline of it, and what must be known at the end.

Every step appends to a file of its own in the folder of effects, so that running twice shows; prints numbered
points and numbered lines on both streams; and writes files that say what it was given. A step whose `.hold`
lies in the folder of effects waits for that to go when it has printed half.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rungraph import modules, pipelines, runs
from rungraph.api import Client
from rungraph.errors import ApiError, Unreachable
from rungraph.module_sources import Wanted
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.watching import WATCH
from tests.processes import SECONDS, Server, serving, until

STEPS = ("first", "second", "third")
LINES = 40
BULK = b"0123456789abcdef" * (1 << 16)

MANIFEST = """\
name: telling
functions:
  tell:
    command: [python, tell.py]
    options: &options {effects: str, step: str, lines: 40, pause: 0.002, exit_code: 0}
  tell_again:
    command: [python, tell.py]
    options: *options
    retries: 1
  tell_once:
    command: [python, tell.py]
    options: *options
    retry: {LOST: 0}
"""

JOB = """\
import json, os, pathlib, sys, time

source, target = (pathlib.Path(os.environ[f"RUNGRAPH_{name}"]) for name in ("INPUT", "OUTPUT"))
given = json.loads((source / "input.json").read_text())
options = given["options"]
effects, step = pathlib.Path(options["effects"]), options["step"]
with open(effects / step, "a") as file:
    file.write(f"{os.getpid()} {given['attempt']}\\n")
for number in range(options["lines"]):
    while number == options["lines"] // 2 and (effects / f"{step}.hold").exists():
        time.sleep(0.005)
    sys.stdout.write(json.dumps({"metric": {"count": number}, "step": number}) + "\\n")
    sys.stdout.write(f"out {number}\\n")
    sys.stderr.write(f"err {number}\\n")
    time.sleep(options["pause"])
seen = "".join((source / name).read_text() for name in given["files"] if name.endswith(".txt"))
(target / f"{step}.txt").write_text(f"{seen}{step} {options['lines']}\\n")
(target / f"{step}.bin").write_bytes(step.encode() + b"0123456789abcdef" * (1 << 16))
sys.exit(options["exit_code"])
"""

STORY = """query Story($run: ID!) {
  run(id: $run) {
    id state seq
    tags { name value }
    jobs {
      id step state reason message
      attempts { number reason workers { phase } }
      outputs { id name sha256 sizeBytes url }
    }
  }
  series(names: ["count"], runs: [$run]) { job { step } attempt steps values }
}"""

LOG = """query Log($job: ID!, $first: Int, $after: String) {
  job(id: $job) {
    logs(first: $first, after: $after) {
      nodes { stream text attempt }
      pageInfo { hasNextPage endCursor }
    }
  }
}"""


@asynccontextmanager
async def telling(folder: Path, database_url: str, **environment: str) -> AsyncIterator["Telling"]:
    """A server with the module installed, and a client of it."""
    async with serving(folder / "home", database_url, **environment) as server, server.client() as client:
        told = Telling(server, client, folder / "effects")
        version = await told.install()
        assert [each["state"] for each in version["preparations"]] == ["READY"]
        yield told


@dataclass(frozen=True)
class Telling:
    """The module on a server, and the folder of effects."""

    server: Server
    client: Client
    effects: Path

    async def install(self) -> dict[str, Any]:
        """Install the module; its version once it is prepared."""
        folder = self.effects.with_name("telling")
        for path in (folder, self.effects):
            path.mkdir()
        (folder / "rungraph.yaml").write_text(MANIFEST)
        (folder / "tell.py").write_text(JOB)
        return await modules.install(self.client, Output(as_json=True), Wanted(str(folder)))

    async def pipeline(self, steps: Iterable[str] = STEPS, function: str = "tell") -> str:
        """Create a pipeline of these steps, each needing the one above; its id."""
        told = [
            {
                "name": step,
                "function": f"telling/{function}",
                "arguments": {"effects": str(self.effects), "step": step},
            }
            for step in steps
        ]
        created: str = (await pipelines.create(self.client, "telling", told))["id"]
        return created

    async def start(self, pipeline: str | None = None, key: str = "", **wanted: Any) -> str:
        """Start a run, of a pipeline of the three steps unless another is given; its id."""
        chosen = pipeline or await self.pipeline()
        started: str = (await runs.start(self.client, {"pipeline": chosen, **wanted}, key))["id"]
        return started

    async def story(self, run: str) -> dict[str, Any]:
        """The run with its jobs and attempts."""
        found: dict[str, Any] = (await self.client.execute(STORY, {"run": run}))["run"]
        return found

    async def cancel(self, run: str, grace_seconds: float = 10) -> None:
        """Ask for a run's end."""
        wanted = {"id": run, "graceSeconds": grace_seconds}
        await self.client.execute(runs.CANCEL, {"input": wanted}, repeatable=True)

    async def leaves_nothing(self) -> None:
        """Wait until the attempts are removed, end the server, and see that nothing is left."""
        await until(lambda: not list(self.server.jobs.iterdir()), "attempts are removed")
        self.server.stop()
        assert self.server.left() == []

    def hold(self, step: str) -> None:
        """Have a step wait when it has printed half."""
        (self.effects / f"{step}.hold").touch()

    def release(self, step: str) -> None:
        """Let a step go on."""
        (self.effects / f"{step}.hold").unlink(missing_ok=True)

    def processes(self, step: str) -> list[tuple[int, str]]:
        """The pid of every process that ran this step, and its attempt's number."""
        path = self.effects / step
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(pid), number) for pid, number in map(str.split, lines)]

    def launches(self, step: str) -> list[str]:
        """The attempt's number of every process that ran this step."""
        return [number for _, number in self.processes(step)]

    def attempts(self) -> list[Path]:
        """The folders of the attempts that are there just now."""
        return sorted(self.server.jobs.iterdir())


@asynccontextmanager
async def watched(client: Client, run: str, seconds: float = SECONDS) -> AsyncIterator["Watcher"]:
    """A watcher of a run from its first number on; at the end the run's feed has ended, and it saw it all."""
    watcher = Watcher(client, run)
    task = asyncio.create_task(watcher.watch())
    try:
        yield watcher
        await asyncio.wait_for(task, seconds)
        watcher.assert_whole()
    finally:
        task.cancel()
        await asyncio.wait({task})


@dataclass
class Watcher:
    """One that watches a run through every loss, resuming after the last number it has seen."""

    client: Client
    run: str
    events: list[dict[str, Any]] = field(default_factory=list)
    ended: int | None = None
    """The last number, once the feed has ended."""

    async def watch(self) -> None:
        """Watch to the end of the feed. Nothing is mended here: what comes twice is kept twice."""
        while self.ended is None:
            after = self.events[-1]["seq"] if self.events else 0
            try:
                async for answer in self.client.subscribe(WATCH, {"run": self.run, "after": after}):
                    self._take(answer["run"])
            except Unreachable:
                await asyncio.sleep(0.01)
            except ApiError as error:
                if not error.retryable:
                    raise

    def _take(self, event: dict[str, Any]) -> None:
        if event["__typename"] == "FeedEnded":
            self.ended = event["seq"]
        elif event["__typename"] != "Cursor":
            self.events.append(event)

    def states(self, step: str) -> list[str]:
        """Every state of a step's job, in the order told."""
        changed = (event for event in self.events if event["__typename"] == "JobChanged")
        return [event["jobState"] for event in changed if event["step"] == step]

    def told(self, step: str) -> int:
        """How many messages of points and lines a step has had."""
        kinds = ("PointsAdded", "LinesAdded")
        return sum(event["__typename"] in kinds and event["step"] == step for event in self.events)

    async def hears(self) -> None:
        """Wait until more is told, or the feed has ended."""
        heard = len(self.events)
        await until(lambda: self.ended or len(self.events) > heard, "it goes on")

    def assert_whole(self) -> None:
        """Every number came, once and in order."""
        assert [event["seq"] for event in self.events] == list(range(1, (self.ended or 0) + 1))


async def assert_complete(told: Telling, run: str) -> None:
    """All that a run's three steps did is known, once and in order, and none of them ran twice."""
    story = await told.client.execute(STORY, {"run": run})
    points = {series["job"]["step"]: series for series in story["series"]}
    assert story["run"]["state"] == "SUCCEEDED"
    assert [job["step"] for job in story["run"]["jobs"]] == list(STEPS)
    for number, job in enumerate(story["run"]["jobs"]):
        step = job["step"]
        assert told.launches(step) == ["1"]
        assert [(attempt["number"], attempt["reason"]) for attempt in job["attempts"]] == [(1, "COMPLETED")]
        assert points[step]["steps"] == points[step]["values"] == list(range(LINES))
        await _assert_log(told.client, job["id"])
        seen = "".join(f"{name} {LINES}\n" for name in STEPS[: number + 1])
        contents = {f"{step}.txt": seen.encode(), f"{step}.bin": step.encode() + BULK}
        for file in job["outputs"]:
            await _assert_content(told.client, file, contents.pop(file["name"]))
        assert not contents


async def _assert_log(client: Client, job: str) -> None:
    log = [line async for line in walk(client, LOG, {"job": job}, ("job", "logs"))]
    for stream in ("STDOUT", "STDERR"):
        told = [line["text"] for line in log if line["stream"] == stream]
        assert told == [f"{stream[3:].lower()} {number}" for number in range(LINES)]


async def _assert_content(client: Client, file: Mapping[str, Any], content: bytes) -> None:
    assert (file["sha256"], file["sizeBytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    response = await client.http.get(file["url"])
    assert response.content == content
