"""What conditions say about an order: whether what they are true of stands in it, from where to where.

Pure but for the expressions it makes. How pages are found with it is in listing.py.
"""

from sqlalchemy import ColumnElement, Float, literal, tuple_

from db.columns import Id
from db.filters import Argument, Belongs, Condition, During, InStates, Mentions, Metric, Named, Some, Tagged
from db.matching import compared, within
from db.runs import Run
from db.sorting import Key, Segment, Sort


def eagerness(condition: Condition) -> int:
    """Which conditions are asked first how many runs they are true of: those that tend to say few."""
    order = (Tagged, Argument, Named, Belongs, Mentions, Metric, During, InStates, Some)
    if isinstance(condition, Tagged) and condition.value is None:
        return len(order)
    return next((at for at, kind in enumerate(order) if isinstance(condition, kind)), len(order))


def has(condition: Condition, sort: Sort) -> bool:
    """Whether all runs that a condition is true of have what is sorted by."""
    match condition:
        case Metric(name):
            return sort.by == "METRIC" and name == sort.name
        case Tagged(name):
            return sort.by == "TAG" and name == sort.name
        case Argument(step, name):
            return sort.by == "ARGUMENT" and name == sort.name and sort.step in (None, step)
        case During(of):
            return of == _TIMES.get(sort.by)
        case _:
            return False


def bounds(condition: Condition, segment: Segment, sort: Sort) -> list[ColumnElement[bool]] | None:
    """Where a segment begins and ends for a condition on what is sorted by."""
    match condition:
        case Metric(name, of, bounds) if sort.by == "METRIC" and (name, of) == (sort.name, sort.of):
            return compared(segment.value, bounds)
        case During(of, since, before) if of == _TIMES.get(sort.by):
            return within(getattr(Run, of), since, before)
        case Argument(str() as step, name, None, bounds) if sort.by == "ARGUMENT" and bounds:
            same = (step, name) == (sort.step, sort.name) and isinstance(segment.kind, Float)
            return compared(segment.value, bounds) if same else None
        case _:
            return None


_TIMES = {"STARTED": "started_at", "ENDED": "ended_at"}


def past(segment: Segment, start: Key, descending: bool) -> list[ColumnElement[bool]]:
    """That a row comes after a key. The first condition is a part of the second, for planners to see."""
    at = literal(start.id, Id)
    if segment.value is None:
        return [segment.id < at if descending else segment.id > at]
    value = literal(start.value, segment.kind)
    here, there = tuple_(segment.value, segment.id), tuple_(value, at)
    if descending:
        return [segment.value <= value, here < there]
    return [segment.value >= value, here > there]
