"""What a run's steps have printed: all of it or its end, once or until the run has ended.

Of a log that is too long the server keeps the beginning and the end; where lines are missing, so it is said.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from rungraph.api import Client
from rungraph.errors import ApiError
from rungraph.output import Output
from rungraph.pages import MOST_LINES, tail, walk
from rungraph.screens import gap_text, show_lines
from rungraph.watching import named, read_run

Filter = dict[str, Any]
"""A LogFilter of the API, of the conditions that are given."""
_LINE = "time stream text number rank attempt seq"

JOB_LOG = f"""query JobLog($job: ID!, $filter: LogFilter, $first: Int, $after: String) {{
  job(id: $job) {{
    logs(filter: $filter, first: $first, after: $after) {{
      nodes {{ {_LINE} }}
      pageInfo {{ hasNextPage endCursor }}
    }}
  }}
}}"""

JOB_TAIL = f"""query JobTail($job: ID!, $filter: LogFilter, $last: Int, $before: String) {{
  job(id: $job) {{
    logs(filter: $filter, last: $last, before: $before) {{
      nodes {{ {_LINE} }}
      pageInfo {{ hasPreviousPage startCursor }}
    }}
  }}
}}"""

FOLLOW_LINES = """subscription Lines($run: ID!, $after: Int64) {
  run(id: $run, after: $after, include: [LINES]) {
    __typename
    ... on FeedEvent { seq }
    ... on LinesAdded { step lines { time stream text number rank attempt } }
    ... on LinesDropped { step gap { fromLine toLine sizeBytes attempt rank } }
    ... on FeedTruncated { resumeFrom }
  }
}"""


async def show(
    client: Client, output: Output, run_id: str, step: str, last: int | None, only: Filter | None = None
) -> None:
    """The lines that are there, of each step in its order; of each the last ones only, if so many are given.

    Of those that a filter leaves out none is missing.
    """
    lines: list[dict[str, Any]] = []
    for job in await _jobs(client, run_id, step):
        printed = _Printed(output, job["step"], job["workers"] > 1, filtered=bool(only))
        variables = {"job": job["id"], "filter": only}
        if last is not None:
            found = await tail(client, JOB_TAIL, variables, ("job", "logs"), last)
            printed.begin(found)
            lines += [printed.show(line) for line in found]
            printed.flush()
            continue
        pages = walk(client, JOB_LOG, variables, ("job", "logs"), most=MOST_LINES)
        async for line in pages:
            lines.append(printed.show(line))
            if not output.as_json:
                lines.clear()
        printed.flush()
    if output.as_json:
        output.document(lines)


async def follow(client: Client, output: Output, run_id: str, step: str, last: int | None) -> None:
    """The run's lines from its first one on, or from each step's last ones; in the order they were written."""
    seq = int((await read_run(client, run_id))["seq"])
    told: dict[str, int] = {}
    several: set[str] = set()
    for job in await _jobs(client, run_id, step):
        several |= {job["step"]} if job["workers"] > 1 else set()
        if last is not None:
            found = await tail(client, JOB_TAIL, {"job": job["id"]}, ("job", "logs"), last)
            told[job["step"]] = found[-1]["seq"] if found else 0
            _show_lines(output, {"step": job["step"], "lines": found}, job["workers"] > 1)
    variables = {"run": run_id, "after": 0 if last is None else seq}
    async with aclosing(client.follow(FOLLOW_LINES, variables)) as events:
        async for answer in events:
            event = named(answer)
            if event["type"] == "FeedTruncated":
                output.say("earlier lines are no longer kept")
            elif (not step or event["step"] == step) and event["seq"] > told.get(event["step"], 0):
                if event["type"] == "LinesDropped":
                    output.say(gap_text(event, event["step"] in several))
                else:
                    _show_lines(output, event, event["step"] in several)


@dataclass
class _Printed:
    """Shows the lines of a step, and says where some are missing."""

    output: Output
    step: str
    several: bool
    """Whether it has several workers."""
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    filtered: bool = False
    waiting: list[dict[str, Any]] = field(default_factory=list)
    """Lines are written many at a time: each write costs what a hundred lines do."""

    def begin(self, lines: Sequence[dict[str, Any]]) -> None:
        """Nothing is missing before these lines."""
        for line in reversed(lines):
            self.numbers[line["attempt"], line["rank"]] = line["number"] - 1

    def show(self, line: dict[str, Any]) -> dict[str, Any]:
        worker = line["attempt"], line["rank"]
        before = self.numbers.get(worker, 0)
        self.numbers[worker] = line["number"]
        if line["number"] > before + 1 and not self.filtered:
            gap = {"fromLine": before + 1, "toLine": line["number"] - 1, "rank": line["rank"]}
            self.flush()
            self.output.say(gap_text({"step": self.step, "gap": gap}, self.several))
        if not self.output.as_json:
            self.waiting.append(line)
            if len(self.waiting) >= MOST_LINES:
                self.flush()
        return {"step": self.step, **line}

    def flush(self) -> None:
        """Write what waits."""
        if self.waiting:
            show_lines(self.output, {"step": self.step, "lines": self.waiting}, self.several)
            self.waiting = []


def _show_lines(output: Output, event: dict[str, Any], several: bool) -> None:
    if not output.as_json:
        if event["lines"]:
            show_lines(output, event, several)
    elif event["lines"]:
        output.events({"step": event["step"], **line} for line in event["lines"])


async def _jobs(client: Client, run_id: str, step: str) -> list[dict[str, Any]]:
    """The run's jobs, or the one of a step; raises ApiError NOT_FOUND."""
    jobs: list[dict[str, Any]] = (await read_run(client, run_id))["jobs"]
    chosen = [job for job in jobs if not step or job["step"] == step]
    if step and not chosen:
        names = ", ".join(job["step"] for job in jobs)
        raise ApiError("NOT_FOUND", f"{run_id} has no step “{step}”; it has: {names}")
    return chosen
