"""A small model of what becomes of runs, to hold the product against; it shares no line with it.

Steps are the documents that their authors write. A moment is a pair: the number of what the driver did, and how
many decisions followed from one another in that same transaction. From who was launched and ended when, and
from when a cancel came, `predict` finds how every job stands as a fixpoint: how a job ends hangs on nothing but
what ended before, so judging all jobs again and again from what was found so far comes to rest, at the truth.
"""

import fnmatch
import itertools
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

Document = Mapping[str, Any]
Moment = tuple[int, int]
Key = tuple[int, str]

RETRIES = {"ml/step": 0, "ml/stubborn": 2, "ml/reader": 0, "ml/ruled": 1}
RULES: Mapping[str, Mapping[str, int]] = {"ml/ruled": {"EXIT_CODE": 2, "LOST": 0, "TIMED_OUT": 1}}
USUALLY = {"PREEMPTED": 5, "LOST": 2, "IMAGE_UNAVAILABLE": 2}
TAKES_FILES = {"ml/reader"}
OPTIONS = {"a": 0, "b": 0}
MAY_END_OTHERWISE = {"EXIT_CODE", "OUT_OF_MEMORY", "PREEMPTED", "LOST"}
NEVER: Moment = (1 << 60, 0)
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "LT": operator.lt,
    "LTE": operator.le,
    "GT": operator.gt,
    "GTE": operator.ge,
}
COMPARE |= {"EQ": operator.eq, "NE": operator.ne}
OF: dict[str, Callable[[list[float]], float]] = {"LAST": lambda values: values[-1], "MIN": min, "MAX": max}

ONWARD = {
    "WAITING": {"QUEUED", "SUCCEEDED", "FAILED", "SKIPPED", "CANCELLED"},
    "QUEUED": {"STARTING", "SKIPPED", "CANCELLED"},
    "STARTING": {"RUNNING", "QUEUED", "CANCELLING", "SUCCEEDED", "FAILED"},
    "RUNNING": {"QUEUED", "CANCELLING", "SUCCEEDED", "FAILED"},
    "CANCELLING": {"CANCELLED"},
    "SUCCEEDED": set(), "FAILED": set(), "CANCELLED": set(), "SKIPPED": set(),
}  # fmt: skip
ENDS = {state for state, onward in ONWARD.items() if not onward}


@dataclass(frozen=True)
class File:
    """A file by who made it (None: a user) and its number there."""

    maker: Key | None
    number: int
    name: str
    content: str
    tags: tuple[tuple[str, Any], ...] = ()


@dataclass
class Try:
    """An attempt: when it was launched and ended, and the script it follows."""

    launched: int
    reason: str
    metrics: Mapping[str, Sequence[float]]
    files: Sequence[File]
    begun: bool = False
    ended: int | None = None


@dataclass(frozen=True)
class Job:
    """A step, or one combination of its matrix; what it hangs on are labels of others."""

    place: int
    label: str
    step: Document
    combination: Mapping[str, Any]
    needs: frozenset[str] = frozenset()
    awaits: frozenset[str] = frozenset()


@dataclass
class Run:
    """What was asked for, and the moments of all that was done to it; `whole` is a retry from the start."""

    steps: Sequence[Document]
    began: int
    fail_fast: bool = False
    cache: bool = True
    files: Sequence[File] = ()
    retry_of: int | None = None
    whole: bool = False
    tries: dict[str, list[Try]] = field(default_factory=dict)
    cancelled: int | None = None

    def __post_init__(self) -> None:
        self.jobs = expand(self.steps)
        self.cache = self.cache and not self.whole


@dataclass(frozen=True)
class Stand:
    """How a job stands; what has ended has the moment, and what it hands on and reported."""

    state: str
    ended: Moment | None = None
    files: Sequence[File] = ()
    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    origin: Key | None = None
    does: Any = None


Stands = Mapping[Key, Stand]


def leaves(when: Document | None) -> list[Document]:
    """The comparisons of a condition."""
    if when is None:
        return []
    parts = when.get("all") or when.get("any") or ([when["not"]] if "not" in when else None)
    return [when] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def meant(jobs: Mapping[str, Job], source: Document) -> list[str]:
    """The labels of the jobs that a selection or comparison names, in order."""
    wanted = (source.get("matrix") or {}).items()
    return [
        label
        for label, job in jobs.items()
        if job.step["name"] == source["step"] and wanted <= job.combination.items()
    ]


def expand(steps: Sequence[Document]) -> dict[str, Job]:
    """The jobs of steps, by label, in order. Asking for its state is what frees a job from having to succeed."""
    jobs: dict[str, Job] = {}
    for step in steps:
        named = [{"step": name} for name in step["needs"]]
        named += [source for source in step.get("inputs") or () if "step" in source]
        asked = leaves(step.get("when"))
        awaits = {label for leaf in asked if "state" in leaf for label in meant(jobs, leaf)}
        needs = {label for source in (*named, *asked) for label in meant(jobs, source)} - awaits
        matrix = step.get("matrix") or {}
        new: list[Job] = []
        for values in itertools.product(*matrix.values()):
            said = ",".join(f"{name}={value}" for name, value in zip(matrix, values, strict=True))
            label = f"{step['name']}[{said}]" if said else step["name"]
            combination = dict(zip(matrix, values, strict=True))
            new.append(
                Job(len(jobs) + len(new), label, step, combination, frozenset(needs), frozenset(awaits))
            )
        jobs |= {job.label: job for job in new}
    return jobs


def predict(runs: Sequence[Run], before: Stands) -> Stands:
    """How every job stands, `before` being any guess: how they stood before the last thing was done, say."""
    while True:
        found = {
            (number, job.label): _Look(runs, number, job, before).stand()
            for number, run in enumerate(runs)
            for job in run.jobs.values()
        }
        if found == before:
            return found
        before = found


def run_state(run: Run, states: Sequence[str]) -> str:
    """The state of a run whose jobs stand so."""
    if set(states) <= ENDS:
        return next((end for end in ("CANCELLED", "FAILED") if end in states), "SUCCEEDED")
    if run.cancelled is not None:
        return "CANCELLING"
    return "RUNNING" if any(run.tries.values()) else "QUEUED"


def kept(run: Run, number: int, label: str, stands: Stands) -> bool:
    """Whether a retry from the failure lets a job stand: it succeeded, and nothing behind it is done again."""
    return stands[number, label].state == "SUCCEEDED" and _lasts(run, number, label, stands)


def _lasts(run: Run, number: int, label: str, stands: Stands) -> bool:
    """Whether a job would come out the same: so does what a condition skipped, of a run that nothing stopped."""
    job, state = run.jobs[label], stands[number, label].state
    stopped = run.fail_fast and any(stands[number, other].state == "FAILED" for other in run.jobs)
    fine = state == "SUCCEEDED" or (state == "SKIPPED" and not stopped)
    return fine and all(_lasts(run, number, other, stands) for other in job.needs | job.awaits)


@dataclass(frozen=True)
class _Look:
    """A look at one job, given how all stand."""

    runs: Sequence[Run]
    number: int
    job: Job
    stands: Stands

    def of(self, label: str) -> Stand:
        return self.stands.get((self.number, label), Stand("WAITING"))

    def stand(self) -> Stand:
        run = self.runs[self.number]
        if run.retry_of is not None and not run.whole:
            key = (run.retry_of, self.job.label)
            if kept(self.runs[run.retry_of], *key, self.stands):
                old = self.stands[key]
                return Stand("SUCCEEDED", (run.began, 0), old.files, old.metrics, old.origin or key, old.does)
        others = [self.of(label) for label in sorted(run.jobs) if label != self.job.label]
        failed = [one.ended for one in others if one.state == "FAILED" and one.ended]
        failure = min(failed, default=NEVER) if run.fail_fast else NEVER
        cancel = NEVER if run.cancelled is None else (run.cancelled, 0)
        stop, stopped = min((failure, "SKIPPED"), (cancel, "CANCELLED"))
        turn = self.turn(run)
        if turn is None or stop <= turn:
            return Stand("WAITING") if stop == NEVER else Stand(stopped, stop)
        decided = self.decide(run, turn)
        if decided.state != "QUEUED":
            return decided
        return self.launched(run, decided.does, failure, cancel)

    def turn(self, run: Run) -> Moment | None:
        """When it was decided on: with the first failure of what it needs, else with the last end."""
        behind = {label: self.of(label) for label in self.job.needs | self.job.awaits}
        failed = [
            one.ended for label, one in behind.items()
            if label in self.job.needs and one.ended and one.state != "SUCCEEDED"
        ]  # fmt: skip
        if failed:
            return min(failed)
        ends = [one.ended for one in behind.values()]
        return None if None in ends else max([(run.began, 0), *(end for end in ends if end)])

    def decide(self, run: Run, at: Moment) -> Stand:
        """What its turn brings: it is skipped, refused, given what another made, or queued."""
        behind = [self.of(label) for label in self.job.needs]
        if any(one.ended and one.state != "SUCCEEDED" for one in behind):
            return Stand("SKIPPED", at)
        then = (at[0], at[1] + 1)
        step = self.job.step
        if step.get("when") and self.truth(run, step["when"]) != 1:
            return Stand("SKIPPED", then)
        files, missing = self.inputs(run)
        names = [name for name, _ in files]
        if len(set(names)) < len(names) or (missing and step["function"] in TAKES_FILES):
            return Stand("FAILED", then)
        given = tuple(sorted({**OPTIONS, **(step.get("arguments") or {}), **self.job.combination}.items()))
        does = (
            step["function"],
            given,
            tuple((name, file.content, _as_json(file.tags)) for name, file in files),
        )
        alike = [
            (number, self.runs[number].jobs[label].place, label)
            for (number, label), one in self.stands.items()
            if one.state == "SUCCEEDED" and one.does == does and one.ended and one.ended <= at
        ]  # fmt: skip
        if not alike or not step.get("cache") or not run.cache:
            return Stand("QUEUED", does=does)
        number, _, label = max(alike)
        source = self.stands[number, label]
        return Stand("SUCCEEDED", then, source.files, source.metrics, source.origin or (number, label), does)

    def truth(self, run: Run, when: Document) -> float:
        """1 is true, 0 false, a half what cannot be known."""
        if "all" in when:
            return min(self.truth(run, part) for part in when["all"])
        if "any" in when:
            return max(self.truth(run, part) for part in when["any"])
        if "not" in when:
            return 1 - self.truth(run, when["not"])
        each = [self.compared(self.of(label), when) for label in meant(run.jobs, when)]
        return max(each) if when.get("jobs") == "ANY" else min(each)

    def compared(self, seen: Stand, leaf: Document) -> float:
        holds = COMPARE[leaf.get("op", "EQ")]
        if "state" in leaf:
            return float(holds(seen.state, leaf["state"]))
        if "metric" in leaf:
            values = [value for value in seen.metrics.get(leaf["metric"], ()) if isfinite(value)]
            return float(holds(OF[leaf.get("of", "LAST")](values), leaf["value"])) if values else 0.5
        tags = [value for file in seen.files for name, value in file.tags if name == leaf["tag"]]
        tags = [value for value in tags if type(value) is type(leaf["value"])]
        return float(any(holds(value, leaf["value"]) for value in tags)) if tags else 0.5

    def inputs(self, run: Run) -> tuple[list[tuple[str, File]], bool]:
        """The files it reads by the names it sees, and whether something it asks for is not there."""
        asked = self.job.step.get("inputs")
        needs = [{"step": name} for name in self.job.step["needs"]]
        found: dict[tuple[str, File], None] = {}
        missing = False
        for one in needs or [{}] if asked is None else asked:
            labels = meant(run.jobs, one) if "step" in one else None
            offered = [(None, file) for file in run.files] if labels is None else [
                (label, file) for label in labels for file in self.of(label).files
            ]  # fmt: skip
            fits = [
                (by, file) for by, file in offered if fnmatch.fnmatchcase(file.name, one.get("files", "*"))
            ]
            silent = labels is not None and all(self.of(label).state != "SUCCEEDED" for label in labels)
            missing = missing or (asked is not None and not fits and not silent)
            found |= {
                (f"{by}-{file.name}" if one.get("prefix") else file.name, file): None for by, file in fits
            }
        return list(found), missing

    def launched(self, run: Run, does: Any, failure: Moment, cancel: Moment) -> Stand:
        """How its attempts end it, and what a stop makes of it where it is in the queue for one."""
        ends: list[str] = []
        metrics: Mapping[str, Sequence[float]] = {}
        for one in run.tries.get(self.job.label, ()):
            metrics = one.metrics
            if one.ended is None:
                state = "CANCELLING" if cancel != NEVER else "RUNNING" if one.begun else "STARTING"
                return Stand(state, metrics=metrics)
            at = (one.ended, 0)
            if cancel < at:
                return Stand("CANCELLED", at, metrics=metrics)
            if one.reason == "COMPLETED":
                return Stand("SUCCEEDED", at, one.files, metrics, does=does)
            ends.append(one.reason)
            if not _again(self.job.step["function"], ends):
                return Stand("FAILED", at, metrics=metrics)
            if failure < at:
                return Stand("SKIPPED", at, metrics=metrics)
        stop, stopped = min((failure, "SKIPPED"), (cancel, "CANCELLED"))
        return Stand("QUEUED", does=does) if stop == NEVER else Stand(stopped, stop, metrics=metrics)


def _again(function: str, ends: Sequence[str]) -> bool:
    """Whether another attempt follows those that ended so, in order."""
    last = ends[-1]
    ruled = RULES.get(function, {})
    if last not in ruled and last in MAY_END_OTHERWISE and len(ends) <= RETRIES[function]:
        return True
    return ends.count(last) <= {**USUALLY, **ruled}.get(last, 0)


def _as_json(tags: tuple[tuple[str, Any], ...]) -> str:
    """Tags as they are told: Python takes true for 1, JSON does not."""
    return json.dumps(dict(tags), sort_keys=True)
