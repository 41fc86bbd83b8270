"""What a job of the fake backend does: a script, and what comes of it by when.

A script is a few steps, each a line of words, done one after the other; the table at the end of this file has
them all. Nothing runs: a script becomes a `Play`, which says what is printed, written and how it ends, each with
its moment, so that whoever looks, whenever and wherever, finds the same. Standard library alone and nothing of
ours, for the tests have real processes play the same scripts, wherever those run.
"""

import json
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

STDOUT, STDERR = 1, 2
COMPLETED, EXIT_CODE = "COMPLETED", "EXIT_CODE"
SIGTERM, SIGKILL = 15, 9
FATES = {
    "oom": ("OUT_OF_MEMORY", -SIGKILL),
    "preempt": ("PREEMPTED", None),
    "lost": ("LOST", None),
}
"""Ends that no process chooses, and the exit codes that are seen of them."""


class BadScript(ValueError):
    """A script has a step that means nothing; the message says which and why."""


@dataclass(frozen=True)
class Given:
    """What a job of this rank is given."""

    rank: int
    environment: Mapping[str, str]
    document: str


@dataclass(frozen=True)
class Said:
    """Bytes on a stream, so many seconds after the start."""

    at: float
    stream: int
    data: bytes


@dataclass(frozen=True)
class Wrote:
    """An output file: its content, or the name of the input file that it is a copy of."""

    at: float
    name: str
    content: bytes = b""
    copied: str | None = None


@dataclass
class Play:
    """All that one worker does. Seconds count from its start, `math.inf` never comes."""

    given: Given
    said: list[Said] = field(default_factory=list)
    wrote: list[Wrote] = field(default_factory=list)
    at: float = 0.0
    """Where the script has come to; when it ends, once it is read."""
    reason: str | None = None
    code: int | None = 0
    polite: int | None = -SIGTERM
    """The exit code when it is asked to end; None: it does not listen."""


@dataclass(frozen=True)
class Before:
    """What a script says of the time before its workers start."""

    late_seconds: float = 0.0
    words: str | None = None
    """Why it is late."""
    refused: str | None = None
    """Why it is refused at once."""
    image: str | None = None
    """The image that cannot be had."""


def before(steps: Sequence[str]) -> Before:
    """What comes before the start; those steps stand at the head of a script."""
    late, words, refused, image = 0.0, None, None, None
    for step in steps:
        verb, _, rest = step.strip().partition(" ")
        match verb:
            case "late":
                late, words = late + _seconds(rest, step), "it starts late, as its script says"
            case "unschedulable":
                late, words = math.inf, rest or "no node fits it, as its script says"
            case "refuse":
                refused = rest or "refused by its script"
            case "image":
                image = rest or "nowhere"
            case _:
                break
    return Before(late, words, refused, image)


def play(steps: Sequence[str], given: Given) -> Play:
    """What a worker does that is given this; raises BadScript."""
    made = Play(given)
    for step in steps:
        _do(made, step.strip())
        if made.reason is not None:
            break
    if made.reason is None:
        made.reason = COMPLETED
    return made


def check(made: Play, inputs: Container[str]) -> None:
    """Raise BadScript where its files cannot be: an output is a plain name, a copy one of an input."""
    for each in made.wrote:
        if not each.name or "/" in each.name or each.name in (".", ".."):
            raise BadScript(f"{each.name!r} cannot name an output file")
        if each.copied is not None and each.copied not in inputs:
            raise BadScript(f"{each.copied!r} is no input file")


def split(text: str) -> list[str]:
    """The steps of a script in one text: a line each, or parted by semicolons."""
    return [step.strip() for step in text.replace(";", "\n").splitlines() if step.strip()]


def _do(made: Play, step: str) -> None:
    verb, _, rest = step.partition(" ")
    if verb in FATES:
        made.reason, made.code = FATES[verb]
        return
    known = STEPS.get(verb)
    if known is None:
        raise BadScript(f"{step!r}: there is no step {verb!r}; there are {', '.join(sorted(WORDS))}")
    known(made, rest, step)


def _print(made: Play, rest: str, _step: str) -> None:
    made.said.append(Said(made.at, STDOUT, f"{rest}\n".encode()))


def _error(made: Play, rest: str, _step: str) -> None:
    made.said.append(Said(made.at, STDERR, f"{rest}\n".encode()))


def _bytes(made: Play, rest: str, step: str) -> None:
    times, _, text = rest.partition(" ")
    try:
        data = bytes.fromhex(text) * _whole(times, step)
    except ValueError as error:
        raise BadScript(f"{step!r}: wants bytes TIMES HEX") from error
    made.said.append(Said(made.at, STDOUT, data))


def _show(made: Play, rest: str, step: str) -> None:
    if not rest:
        _print(made, " ".join(sorted(made.given.environment)), step)
        return
    _print(made, " ".join(made.given.environment.get(name, "-") for name in rest.split()), step)


def _document(made: Play, _rest: str, step: str) -> None:
    _print(made, made.given.document, step)


def _wait(made: Play, rest: str, step: str) -> None:
    made.at += _seconds(rest, step)


def _hang(made: Play, _rest: str, _step: str) -> None:
    made.at = math.inf
    made.reason = COMPLETED


def _exit(made: Play, rest: str, step: str) -> None:
    made.code = _whole(rest or "0", step)
    made.reason = COMPLETED if made.code == 0 else EXIT_CODE


def _term(made: Play, rest: str, step: str) -> None:
    made.polite = None if rest == "ignore" else _whole(rest, step)


def _file(made: Play, rest: str, _step: str) -> None:
    name, _, text = rest.partition(" ")
    made.wrote.append(Wrote(made.at, name, text.encode()))


def _copy(made: Play, rest: str, step: str) -> None:
    source, _, target = rest.partition(" ")
    if not source or not target:
        raise BadScript(f"{step!r}: wants copy INPUT OUTPUT")
    made.wrote.append(Wrote(made.at, target, copied=source))


def _every(made: Play, rest: str, step: str) -> None:
    try:
        seconds, times, inner = rest.split(" ", 2)
    except ValueError as error:
        raise BadScript(f"{step!r}: wants every SECONDS TIMES STEP") from error
    pause = _seconds(seconds, step)
    for number in range(_whole(times, step)):
        _do(made, inner.replace("{n}", str(number)))
        if made.reason is not None:
            return
        made.at += pause


def _points(made: Play, rest: str, step: str) -> None:
    name, _, times = rest.partition(" ")
    for number in range(_whole(times, step)):
        _print(made, json.dumps({"metric": {name: number}, "step": number}), step)


def _rank(made: Play, rest: str, step: str) -> None:
    rank, _, inner = rest.partition(" ")
    if _whole(rank, step) == made.given.rank:
        _do(made, inner)


def _nothing(_made: Play, _rest: str, _step: str) -> None:
    """Told by `before` already."""


def _seconds(text: str, step: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise BadScript(f"{step!r}: {text!r} is no number of seconds") from error
    if not 0 <= seconds < math.inf:
        raise BadScript(f"{step!r}: seconds are 0 or more")
    return seconds


def _whole(text: str, step: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise BadScript(f"{step!r}: {text!r} is no whole number") from error


STEPS: dict[str, Callable[[Play, str, str], None]] = {
    # At the head, before anything starts.
    "late": _nothing,  # late SECONDS: it starts so much later
    "unschedulable": _nothing,  # unschedulable WHY: it never starts
    "refuse": _nothing,  # refuse WHY: it is never launched
    "image": _nothing,  # image NAME: its image cannot be had
    # What it prints and writes.
    "print": _print,  # print TEXT
    "error": _error,  # error TEXT: on standard error
    "points": _points,  # points NAME TIMES: lines of a metric
    "bytes": _bytes,  # bytes TIMES HEX: as they are
    "show": _show,  # show NAME…: of its environment; without a name, which names there are
    "document": _document,  # its input.json
    "file": _file,  # file NAME TEXT: an output
    "copy": _copy,  # copy INPUT OUTPUT
    # How it goes on and ends, beside `oom`, `preempt` and `lost`; without any, by 0 after the last step.
    "wait": _wait,  # wait SECONDS
    "hang": _hang,  # until somebody ends it
    "exit": _exit,  # exit CODE
    "term": _term,  # term CODE | ignore: what it does from the start when it is asked to end
    # Of other steps.
    "every": _every,  # every SECONDS TIMES STEP: again and again, {n} being the number
    "rank": _rank,  # rank R STEP: only this worker does
}
WORDS = {*STEPS, *FATES}
