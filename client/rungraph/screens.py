"""Three ways to show a watched run: a live table on a terminal, lines in a pipe, JSON lines for programs.

Each is a `watching.Screen`. Log lines scroll above the live table; in a pipe metrics are told at most once a
second a step, since a training loop can report a thousand times as often as anyone reads.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rungraph.feeds import Event
from rungraph.output import Output
from rungraph.watching import JOB_ENDS, RUN_ENDS, RunView, Screen, StepView
from rungraph.wording import duration, number, printable, size

STYLES = {
    "RUNNING": "cyan",
    "STARTING": "cyan",
    "CANCELLING": "yellow",
    "SUCCEEDED": "green",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "SKIPPED": "dim",
    "WAITING": "dim",
}
METRICS_EVERY_SECONDS = 1.0


def screen_for(output: Output) -> Screen:
    """The screen that suits where the output goes."""
    if output.as_json:
        return JsonScreen(output)
    return LiveScreen(output) if output.answers.is_terminal else LineScreen(output)


class JsonScreen:
    """A JSON line for the run as found, for each event, and for the run as it ended."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def open(self, view: RunView) -> None:
        self.output.event({"type": "Run", **view.run})

    def show(self, view: RunView, event: Event) -> None:
        self.output.event(event)

    def close(self, view: RunView) -> None:
        if view.state in RUN_ENDS:
            self.output.event({"type": "Run", **view.run})


class LineScreen:
    """A line for each change and each log line."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._told: dict[str, tuple[float, str]] = {}

    def open(self, view: RunView) -> None:
        self.output.write(f"{view.id} {printable(view.run['name'])}: {view.standing}")
        for step in view.steps.values():
            self.output.write(_step_line(step))

    def show(self, view: RunView, event: Event) -> None:
        match event["type"]:
            case "RunChanged" if view.state not in RUN_ENDS:  # the end is told by `close`
                self.output.write(f"{view.id}: {view.standing}")
            case "JobChanged":
                self._show_step(view.steps[event["step"]])
            case "LinesAdded":
                show_lines(self.output, event, _several(view, event))
            case "LinesDropped":
                self.output.say(gap_text(event, _several(view, event)))
            case "PointsAdded":
                self._show_metrics(view.steps[event["step"]])
            case "FeedTruncated":
                self.output.say("earlier events are no longer kept")

    def close(self, view: RunView) -> None:
        if view.state in RUN_ENDS:
            show_end(self.output, view)

    def _show_step(self, step: StepView) -> None:
        if step.state in JOB_ENDS and step.metrics:
            self._show_metrics(step, every_seconds=0)
        self.output.write(_step_line(step))

    def _show_metrics(self, step: StepView, every_seconds: float = METRICS_EVERY_SECONDS) -> None:
        """What is new, at most so often."""
        now, text = time.monotonic(), metrics_text(step)
        at, told = self._told.get(step.name, (-math.inf, ""))
        if text != told and now - at >= every_seconds:
            self._told[step.name] = (now, text)
            self.output.write(f"{step.name}: {text}")


class LiveScreen:
    """A table of the steps that stays at the bottom, log lines scrolling above it."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._live = Live(console=output.answers)

    def open(self, view: RunView) -> None:
        self._live = Live(
            console=self.output.answers, get_renderable=lambda: _steps_table(view), refresh_per_second=8
        )
        self._live.start(refresh=True)

    def show(self, view: RunView, event: Event) -> None:
        if event["type"] == "LinesAdded":
            self.output.write(log_text(event, _several(view, event)))
        elif event["type"] == "LinesDropped":
            self.output.say(gap_text(event, _several(view, event)))
        elif event["type"] == "FeedTruncated":
            self.output.say("earlier events are no longer kept")

    def close(self, view: RunView) -> None:
        self._live.stop()
        if view.state in RUN_ENDS:
            show_end(self.output, view)


def show_end(output: Output, view: RunView) -> None:
    """The files a run made, by id, then how it ended and with which exit codes."""
    made = [
        (file["id"], file["name"], size(file["sizeBytes"]), job["step"])
        for job in view.run["jobs"]
        for file in job["outputs"]
    ]
    if made:
        output.table(("OUTPUT", "NAME", "SIZE", "STEP"), made)
    output.write(_end_line(view))


def summarize(output: Output, run: dict[str, Any]) -> None:
    """What a run came to: its steps with their times, its last metrics, its outputs."""
    steps = [(job["step"], job["state"], duration(job["durationSeconds"])) for job in run["jobs"]]
    metrics = [(metric["name"], number(metric["last"]), str(metric["lastStep"])) for metric in run["metrics"]]
    outputs = [
        (file["id"], file["name"], size(file["sizeBytes"]), job["step"])
        for job in run["jobs"]
        for file in job["outputs"]
    ]
    _paragraph(output, ("STEP", "STATE", "TIME"), steps)
    _paragraph(output, ("METRIC", "LAST", "AT STEP"), metrics)
    _paragraph(output, ("OUTPUT", "NAME", "SIZE", "STEP"), outputs)


def show_lines(output: Output, event: Event, several: bool = False) -> None:
    """The log lines of an event; without a thought of colours where there are none, in a pipe."""
    if output.as_json or output.answers.is_terminal:
        output.write(log_text(event, several))
        return
    output.lines([who + printable(line["text"]) for who, line in _spoken(event, several)])


def log_text(event: Event, several: bool = False) -> Text:
    """The log lines of an event, each with its step; of several workers with the rank too, `train[1] │ …`."""
    text = Text()
    for who, line in _spoken(event, several):
        text.append("\n" if text else "")
        text.append(who, "dim")
        text.append(printable(line["text"]), "yellow" if line["stream"] == "STDERR" else "")
    return text


def gap_text(event: Event, several: bool = False) -> str:
    """What is missing of a log: `train: lines 1,201 to 88,000 are no longer kept`."""
    rank = f"[{event['gap']['rank']}]" if several else ""
    step = f"{printable(event['step'])}{rank}: " if event.get("step") else ""
    return f"{step}lines {event['gap']['fromLine']:,} to {event['gap']['toLine']:,} are no longer kept"


def _spoken(event: Event, several: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each line of an event, and what stands before it."""
    step = printable(event["step"]) if event.get("step") else ""
    prefix = f"{step} │ " if step else ""
    for line in event["lines"]:
        yield f"{step}[{line['rank']}] │ " if several else prefix, line


def _several(view: RunView, event: Event) -> bool:
    step = view.steps.get(event["step"])
    return step is not None and step.several


def metrics_text(step: StepView) -> str:
    """The last values of a step: `loss 0.31  accuracy 0.9  (step 120)`."""
    values = "  ".join(f"{printable(name)} {number(last)}" for name, last in step.metrics.items())
    return f"{values}  (step {step.metrics_step})" if values else ""


def _steps_table(view: RunView) -> Group:
    """Called from the refreshing thread, so it reads the steps at one moment."""
    steps, now = list(view.steps.values()), datetime.now(UTC)
    table = Table("step", "state", "time", "last measured", box=None, pad_edge=False, header_style="bold")
    for step in steps:
        told = step.message if step.state in JOB_ENDS and step.message else metrics_text(step)
        told = f"reused from {step.reused_from}" if step.reused_from else told
        state = Text(step.state, STYLES.get(step.state, ""))
        table.add_row(printable(step.name), state, duration(step.seconds(now)), Text(printable(told)))
    name = Text.assemble("\n", (printable(view.run["name"]), "bold"), " ")
    return Group(name.append(view.standing, STYLES.get(view.state, "")), table)


def _paragraph(output: Output, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        output.write("")
        output.table(columns, rows)


def _step_line(step: StepView) -> str:
    took = f" in {duration(step.seconds(datetime.now(UTC)))}" if step.started_at and step.ended_at else ""
    why = f": {step.reason}" if step.reason and step.reason != "COMPLETED" else ""
    message = f" ({printable(step.message)})" if step.message else ""
    source = f", reused from {step.reused_from}" if step.reused_from else ""
    return f"{printable(step.name)}: {step.state}{source}{took}{why}{message}"


def _end_line(view: RunView) -> str:
    codes = [
        f"{printable(job['step'])} exited with {job['exitCode']}"
        for job in view.run["jobs"]
        if job["exitCode"]
    ]
    why = f": {', '.join(codes)}" if codes else ""
    return f"{view.id} {view.state} in {duration(view.run['durationSeconds']) or 'no time'}{why}"
