"""Watching a run: what it was when we came, then everything that happens to it, to its end.

`watch` reads the run once and follows its feed from the number that reading holds, so nothing is missed and
nothing replayed. `RunView` is what is known of the run after each event; screens.py shows it.
"""

import math
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from rungraph.api import Client
from rungraph.errors import ApiError
from rungraph.feeds import Event
from rungraph.wording import moment

RUN = """query WatchedRun($run: ID!) {
  run(id: $run) {
    id name state suspended createdAt startedAt endedAt durationSeconds seq
    pipeline { id name }
    tags { name value }
    fire { dueAt schedule { id name } }
    waitingFor { code message }
    jobs {
      id step state reason message exitCode workers startedAt endedAt durationSeconds
      reusedFrom { id run { id } }
      outputs { id name sizeBytes }
    }
    metrics { name last lastStep }
  }
}"""

WATCH = """subscription Watch($run: ID!, $after: Int64) {
  run(id: $run, after: $after) {
    __typename
    ... on FeedEvent { seq }
    ... on RunChanged { at runState run { suspended } }
    ... on JobChanged { at step jobState reason message job { reusedFrom { id run { id } } } }
    ... on WorkerChanged { at step rank phase exitCode }
    ... on PointsAdded { step series { name rank attempt steps times values nonFinite { index kind } } }
    ... on LinesAdded { step lines { time stream text number rank attempt } }
    ... on LinesDropped { step gap { fromLine toLine sizeBytes attempt rank } }
    ... on FeedTruncated { resumeFrom }
  }
}"""

ALIASES = {"runState": "state", "jobState": "state", "__typename": "type"}
RUN_ENDS = {"SUCCEEDED", "FAILED", "CANCELLED"}
JOB_ENDS = RUN_ENDS | {"SKIPPED"}
USAGE = "system/"
"""How series begin that tell what workers use, which are no values of what they train."""
NON_FINITE = {"NAN": math.nan, "POSITIVE_INFINITY": math.inf, "NEGATIVE_INFINITY": -math.inf}


@dataclass(slots=True)
class StepView:
    """What is known of one step."""

    name: str
    several: bool = False
    """Whether it has several workers, of whom each line then tells which."""
    state: str = "WAITING"
    reason: str | None = None
    message: str | None = None
    reused_from: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    metrics_step: int | None = None

    def seconds(self, now: datetime) -> float | None:
        """How long it has been going, or went."""
        return ((self.ended_at or now) - self.started_at).total_seconds() if self.started_at else None


@dataclass(slots=True)
class RunView:
    """What is known of a run; `load` takes a reading, `apply` an event."""

    run: dict[str, Any]
    steps: dict[str, StepView] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.run["id"])

    @property
    def state(self) -> str:
        return str(self.run["state"])

    @property
    def standing(self) -> str:
        """Its state, and whether it stands still in it."""
        return f"{self.state} suspended" if self.run.get("suspended") else self.state

    def load(self, run: dict[str, Any]) -> None:
        """Takes over a reading of the run; metrics seen before stay."""
        self.run = run
        for job in run["jobs"]:
            step = self._step(job["step"])
            step.several = job["workers"] > 1
            step.state, step.reason, step.message = job["state"], job["reason"], job["message"]
            step.started_at, step.ended_at = moment(job["startedAt"]), moment(job["endedAt"])
            step.reused_from = _source(job)

    def apply(self, event: Event) -> None:
        """Takes over an event of the run's feed."""
        match event["type"]:
            case "RunChanged":
                self.run["state"] = event["state"]
                self.run["suspended"] = (event.get("run") or {}).get("suspended", False)
            case "JobChanged":
                self._change(event)
            case "PointsAdded":
                self._measure(event)

    def _step(self, name: str) -> StepView:
        return self.steps.setdefault(name, StepView(name))

    def _change(self, event: Event) -> None:
        step, at = self._step(event["step"]), moment(event["at"])
        step.state, step.reason, step.message = event["state"], event["reason"], event["message"]
        step.reused_from = _source(event.get("job") or {})
        if step.state == "RUNNING":
            step.started_at = step.started_at or at
        step.ended_at = at if step.state in JOB_ENDS else None

    def _measure(self, event: Event) -> None:
        """Keeps the last value of each of rank 0's series, whatever it is, but for what the worker uses."""
        step = self._step(event["step"])
        for series in event["series"]:
            if series["rank"] == 0 and series["values"] and not series["name"].startswith(USAGE):
                step.metrics[series["name"]] = last_value(series)
                step.metrics_step = series["steps"][-1]


class Screen(Protocol):
    """Shows a watched run to somebody."""

    def open(self, view: RunView) -> None:
        """The run as it was found."""

    def show(self, view: RunView, event: Event) -> None:
        """An event that the view has taken over."""

    def close(self, view: RunView) -> None:
        """The run after its feed's end, or as far as it was seen."""


async def read_run(client: Client, run_id: str) -> dict[str, Any]:
    """The run with its steps, outputs and latest metrics; raises ApiError NOT_FOUND."""
    run: dict[str, Any] | None = (await client.execute(RUN, {"run": run_id}))["run"]
    if run is None:
        raise ApiError("NOT_FOUND", f"there is no run “{run_id}”: see `rungraph run list`")
    return run


async def watch(client: Client, run_id: str, screen: Screen) -> dict[str, Any]:
    """Shows a run until it has ended; the run as it then is."""
    view = RunView({})
    view.load(await read_run(client, run_id))
    screen.open(view)
    try:
        async with aclosing(client.follow(WATCH, {"run": run_id, "after": view.run["seq"]})) as events:
            async for answer in events:
                event = named(answer)
                if event["type"] == "FeedTruncated":
                    view.load(await read_run(client, run_id))
                view.apply(event)
                screen.show(view, event)
        view.load(await read_run(client, run_id))
    finally:
        screen.close(view)
    return view.run


def _source(job: Mapping[str, Any]) -> str | None:
    """The run that a job took its outputs from; the job, where its run is not to be seen."""
    source = job.get("reusedFrom")
    if source is None:
        return None
    return str((source.get("run") or source)["id"])


def named(answer: Mapping[str, Any]) -> Event:
    """An event under the schema's own names, its type as `type`."""
    return {ALIASES.get(key, key): part for key, part in answer.items()}


def last_value(series: Mapping[str, Any]) -> float:
    """The last value of a batch of points; where it is null, what `nonFinite` says it was."""
    last = len(series["values"]) - 1
    if (finite := series["values"][last]) is not None:
        return float(finite)
    kinds = {entry["index"]: entry["kind"] for entry in series["nonFinite"]}
    return NON_FINITE[kinds[last]]
