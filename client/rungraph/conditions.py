"""The words in which the command asks for runs, as the API's filters and orders.

    --where 'loss.min<0.3'         a metric: .last (when nothing is said), .min, .max
    --where 'arg:train.lr>=0.01'   an argument, of one step or, without one, of any
    --where 'tag:team=vision'      a tag; tag:team alone is any value
    --where 'created>7d'           created, started, ended: a time, or so long ago (30m, 12h, 7d)
    --where 'state=FAILED,RUNNING' state, name, pipeline, module, user, parent, external, archived,
                                   schedule, dataset, version (of a dataset): by id
    --where 'not tag:old' --where 'loss<0.3 or tag:best'

Operators are = != < <= > >=. Several --where must all hold.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from rungraph import values
from rungraph.errors import BadUsage

Document = dict[str, Any]

_CONDITION = re.compile(r"\s*(?P<left>.+?)\s*(?P<operator><=|>=|!=|==|=|<|>)\s*(?P<right>.*?)\s*\Z")
_OPERATORS = {"=": "eq", "==": "eq", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_TIMES = ("created", "started", "ended")
_WORDS = {
    "name": "name",
    "pipeline": "pipeline",
    "module": "module",
    "project": "project",
    "user": "createdBy",
    "parent": "parent",
    "search": "search",
    "schedule": "schedule",
    "dataset": "dataset",
    "version": "datasetVersion",
}
_FLAGS = ("external", "archived")
_ORDERS = ("created", "started", "ended", "duration", "name", "priority", "state")
_STATES = ("QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED")
_HEADLINES = ("last", "min", "max")


def where(texts: list[str], now: datetime | None = None) -> list[Document]:
    """The filters that --where says, all of which hold; raises BadUsage."""
    return [_either(text, now or datetime.now(UTC)) for text in texts]


def sort(text: str) -> Document | None:
    """The order that --sort says, as `KEY[:asc|:desc]`; None for none. Raises BadUsage."""
    if not text:
        return None
    key, direction = text, "DESCENDING"
    for ending, way in ((":asc", "ASCENDING"), (":desc", "DESCENDING")):
        if text.endswith(ending):
            key, direction = text.removesuffix(ending), way
    if not key:
        raise BadUsage(f"--sort {text}: say what to sort by")
    if key in _ORDERS:
        return {"by": key.upper(), "direction": direction}
    if key.startswith("tag:"):
        return {"by": "TAG", "name": key.removeprefix("tag:"), "direction": direction}
    if key.startswith("arg:"):
        return {"by": "ARGUMENT", **_option(key), "direction": direction}
    name, of = metric(key)
    return {"by": "METRIC", "name": name, "of": of.upper(), "direction": direction}


def metric(text: str) -> tuple[str, str]:
    """A metric's name, and which of its values: `loss.min` is (loss, min), `loss` is (loss, last)."""
    name, dot, of = text.rpartition(".")
    return (name, of) if dot and name and of in _HEADLINES else (text, "last")


def column(run: Document, word: str) -> Any:
    """What a run has in a column: `loss.min`, `arg:train.lr`, `tag:team`; None where it has none."""
    if word.startswith("tag:"):
        tags = {tag["name"]: tag["value"] for tag in run["tags"]}
        return tags.get(word.removeprefix("tag:"))
    if word.startswith("arg:"):
        option = _option(word)
        found = (
            job["arguments"][option["name"]]
            for job in run["jobs"]
            if option.get("step") in (None, job["step"]) and option["name"] in job["arguments"]
        )
        return next(found, None)
    name, of = metric(word)
    return next((one[of] for one in run["metrics"] if one["name"] == name), None)


def _either(text: str, now: datetime) -> Document:
    parts = re.split(r"\s+or\s+", text.strip())
    read = [_one(part, now) for part in parts]
    return read[0] if len(read) == 1 else {"or": read}


def _one(text: str, now: datetime) -> Document:
    if text.startswith("not "):
        return {"not": _one(text[4:].strip(), now)}
    if text.startswith("tag:") and not re.search(r"[=<>]", text):
        return {"hasTags": [text.removeprefix("tag:")]}
    found = _CONDITION.match(text)
    if found is None or not found["right"]:
        raise BadUsage(f"--where {text}: write it as NAME=VALUE, NAME<NUMBER, tag:NAME or not …")
    left, operator, right = found["left"], found["operator"], found["right"]
    if operator == "!=":
        return {"not": _compared(left, "=", right, text, now)}
    return _compared(left, operator, right, text, now)


def _compared(left: str, operator: str, right: str, text: str, now: datetime) -> Document:
    if left in _TIMES:
        return _time(left, operator, right, text, now)
    if left.startswith("tag:"):
        _only_equal(operator, text)
        return {"tags": [{"name": left.removeprefix("tag:"), "value": right}]}
    if left.startswith("arg:"):
        given = values.value(right)
        if operator in ("=", "=="):
            return {"arguments": [{**_option(left), "eq": given}]}
        return {"arguments": [{**_option(left), _OPERATORS[operator]: _number(right, text)}]}
    if left == "state":
        _only_equal(operator, text)
        states = [word.strip().upper() for word in right.split(",")]
        if unknown := [state for state in states if state not in _STATES]:
            raise BadUsage(f"--where {text}: {unknown[0]} is no state; they are {', '.join(_STATES)}")
        return {"states": states}
    if left in _FLAGS:
        _only_equal(operator, text)
        if right not in ("true", "false"):
            raise BadUsage(f"--where {text}: {left} is true or false")
        return {left: right == "true"}
    if left in _WORDS:
        _only_equal(operator, text)
        return {_WORDS[left]: right}
    name, of = metric(left)
    return {"metrics": [{"name": name, "of": of.upper(), _OPERATORS[operator]: _number(right, text)}]}


def _time(left: str, operator: str, right: str, text: str, now: datetime) -> Document:
    if operator in ("=", "=="):
        raise BadUsage(f"--where {text}: a time is compared with < or >")
    try:
        moment = datetime.fromisoformat(right)
    except ValueError:
        try:
            moment = now - timedelta(seconds=values.seconds(right, "--where"))
        except (BadUsage, OverflowError):
            message = f"--where {text}: write a time as 2026-01-31, 2026-01-31T12:00:00Z or 7d"
            raise BadUsage(message) from None
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return {f"{left}At": {"since" if operator.startswith(">") else "before": moment.isoformat()}}


def _option(text: str) -> Document:
    step, dot, name = text.removeprefix("arg:").rpartition(".")
    return {"step": step, "name": name} if dot else {"name": name}


def _number(right: str, text: str) -> float:
    try:
        return float(right)
    except ValueError:
        raise BadUsage(f"--where {text}: {right} is no number") from None


def _only_equal(operator: str, text: str) -> None:
    if operator not in ("=", "=="):
        raise BadUsage(f"--where {text}: this is compared with = or !=")
