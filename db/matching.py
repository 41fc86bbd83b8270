"""What conditions on runs mean in SQL, in two ways.

`holds` judges one run, by looking at its own rows alone: a plan that walks an order and judges each run it
meets costs the same for each. Every look is a scalar subquery, so that PostgreSQL cannot turn it into a
join of whole tables. `source` is where the runs that satisfy a condition stand together in an index, and
how few those are decides the plan (listing.py).
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    column,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    table,
    true,
)

from db import columns
from db.arguments import RunArgument
from db.dataset_uses import RunDataset
from db.datasets import DatasetVersion
from db.filters import (
    Argument,
    Belongs,
    Bounds,
    Condition,
    During,
    Every,
    Flag,
    InStates,
    Mentions,
    Metric,
    Named,
    Not,
    Some,
    Tagged,
)
from db.fires import Fire
from db.headlines import RunMetric
from db.jobs import Job
from db.modules import ModuleVersion
from db.runs import Run, RunTag

RUN: Any = Run.__table__.alias("r")
"""The run that is judged."""

SLACK = timedelta(minutes=1)
"""An id is made in the moment of `created_at`; clocks that are set meanwhile are allowed this much."""

TRIGRAM = 3
_COMPARE: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "eq": operator.eq,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
_OWNERS = {"pipeline": "pipeline_id", "createdBy": "created_by", "parent": "parent_id"}
_WORDS = table("run_words", column("rowid"))


@dataclass(frozen=True, slots=True)
class Source:
    """Where runs stand together: `id` of the rows for which `where` holds, project by project if it has one.

    In an `ordered` one they stand by id, each once.
    """

    id: Any
    where: tuple[ColumnElement[bool], ...]
    project: Any = None
    ordered: bool = False

    def rows(self, projects: Sequence[bytes]) -> Select[Any]:
        """The ids, of these projects."""
        statement = select(self.id.label("id")).where(*self.where)
        return statement if self.project is None else statement.where(among(self.project, projects))


def among(column: Any, values: Sequence[Any]) -> ColumnElement[bool]:
    """Equality where one value is enough: an index goes on behind it in order."""
    found: ColumnElement[bool] = column == values[0] if len(values) == 1 else column.in_(values)
    return found


def compared(column: Any, bounds: Bounds) -> list[ColumnElement[bool]]:
    """The comparisons of a column with numbers."""
    return [_COMPARE[name](column, number) for name, number in bounds]


def present(statement: Select[Any]) -> ColumnElement[bool]:
    """Whether a statement about the judged run gives any row."""
    return statement.limit(1).scalar_subquery().is_not(None)


def is_beside(condition: Condition) -> bool:
    """Whether a condition is judged by rows that a run has in other tables, without the run's own row."""
    match condition:
        case Every(parts) | Some(parts):
            return all(is_beside(part) for part in parts)
        case Not(part):
            return is_beside(part)
        case _:
            return isinstance(condition, Tagged | Argument | Metric)


def holds(condition: Condition, postgresql: bool, key: Any = RUN.c.id) -> ColumnElement[bool]:
    """Whether a condition holds of the judged run; true or false, never null.

    `key` is where its id stands; the run's own row is RUN, which a condition that `is_beside` does not touch.
    """
    match condition:
        case Every(parts):
            return and_(true(), *(holds(part, postgresql, key) for part in parts))
        case Some(parts):
            return or_(*(holds(part, postgresql, key) for part in parts)) if parts else ~true()
        case Not(part):
            return not_(holds(part, postgresql, key))
        case InStates(states):
            return _sure(among(RUN.c.state, states))
        case Belongs("module", module):
            return present(_module(module).where(Job.run_id == key))
        case Belongs("schedule", schedule):
            return present(select(literal(1)).where(Fire.run_id == key, Fire.schedule_id == schedule))
        case Belongs("dataset" | "datasetVersion" as to, given):
            used = select(literal(1)).where(RunDataset.run_id == key, _versions(to, given))
            return present(used)
        case Belongs("project", owner):
            return _sure(RUN.c.project_id == owner)
        case Belongs(to, owner):
            return _sure(RUN.c[_OWNERS[to]] == owner)
        case Named(name):
            return _sure(RUN.c.name == name)
        case Mentions(words):
            wanted = f"%{_escaped(words)}%"
            parts = (RUN.c.name, RUN.c.notes)
            return or_(*(_like(part, wanted, postgresql) for part in parts))
        case Tagged(name, value):
            tagged = select(literal(1)).where(RunTag.run_id == key, RunTag.name == name)
            return present(tagged if value is None else tagged.where(RunTag.value == value))
        case During(of, since, before):
            return _sure(and_(true(), *within(RUN.c[of], since, before)))
        case Argument():
            rows = select(literal(1)).where(RunArgument.run_id == key, *argument(condition))
            return present(rows)
        case Metric(name, of, bounds):
            rows = select(literal(1)).where(RunMetric.run_id == key, RunMetric.name == name)
            return present(rows.where(*compared(getattr(RunMetric, of), bounds)))
        case Flag(of, value):
            return and_(RUN.c[of] if value else ~RUN.c[of])


def source(condition: Condition, postgresql: bool) -> Source | None:
    """Where the runs of which a condition holds stand together, if an index has them so."""
    match condition:
        case InStates(states) if states:
            chosen = (among(_run.state, states),)
            return Source(_run.id, chosen, _run.project_id, ordered=len(states) == 1)
        case Belongs("module", key):
            versions = select(ModuleVersion.id).where(ModuleVersion.module_id == key)
            return Source(_job.run_id, (_job.version_id.in_(versions),))
        case Belongs("schedule", key):
            return Source(_fire.run_id, (_fire.schedule_id == key, _fire.run_id.is_not(None)))
        case Belongs("dataset" | "datasetVersion" as to, key):
            return Source(_used.run_id, (_versions(to, key),))
        case Belongs(to, key) if to in _OWNERS:
            return Source(_run.id, (getattr(_run, _OWNERS[to]) == key,), ordered=True)
        case Named(name):
            return Source(_run.id, (_run.name == name,), _run.project_id, ordered=True)
        case Mentions(words) if len(words) >= TRIGRAM:
            return Source(_run.id, _mentions(words, postgresql))
        case Tagged(name, None):
            return Source(_tag.run_id, (_tag.name == name,), _tag.project_id)
        case Tagged(name, value):
            return Source(
                _tag.run_id, (_tag.name == name, _tag.value == value), _tag.project_id, ordered=True
            )
        case During("created_at", since, before):
            return Source(_run.id, tuple(made(_run.id, since, before)), _run.project_id, ordered=True)
        case During(of, since, before):
            return Source(_run.id, tuple(within(getattr(_run, of), since, before)), _run.project_id)
        case Argument(step):
            exact = step is not None and all(name == "eq" for name, _ in condition.bounds)
            rows = tuple(argument(condition))
            return Source(_argument.run_id, rows, _argument.project_id, ordered=exact)
        case Metric(name, of, bounds):
            where = (_metric.name == name, *compared(getattr(_metric, of), bounds))
            return Source(_metric.run_id, where, _metric.project_id)
        case Flag(of, True):
            return Source(_run.id, (getattr(_run, of),), _run.project_id, ordered=True)
        case _:
            return None


_run: Any = Run
_fire: Any = Fire
_used: Any = RunDataset
_job: Any = Job
_tag: Any = RunTag
_metric: Any = RunMetric
_argument: Any = RunArgument


def argument(wanted: Argument) -> list[ColumnElement[bool]]:
    """The rows of arguments that are what is wanted."""
    where = [RunArgument.name == wanted.name]
    if wanted.step is not None:
        where.append(RunArgument.step == wanted.step)
    if wanted.text is not None:
        where.append(RunArgument.text == wanted.text)
    return [*where, *compared(RunArgument.number, wanted.bounds)]


def within(column: Any, since: Any, before: Any) -> list[ColumnElement[bool]]:
    """The comparisons of a range of time."""
    bounds = [] if since is None else [column >= since]
    bounds += [] if before is None else [column < before]
    return bounds or [column.is_not(None)]


def made(key: Any, since: Any, before: Any) -> list[ColumnElement[bool]]:
    """That ids were made in a range of time, give or take some: they begin with the milliseconds of their making."""
    bounds = [] if since is None else [key >= _first_id(since - SLACK)]
    return bounds + ([] if before is None else [key < _first_id(before + SLACK)])


def _first_id(moment: Any) -> bytes:
    milliseconds = min(max(columns.microseconds(moment) // 1000, 0), 2**48 - 1)
    return milliseconds.to_bytes(6) + bytes(10)


def _module(key: bytes) -> Select[Any]:
    return (
        select(literal(1))
        .select_from(Job)
        .join(ModuleVersion, ModuleVersion.id == Job.version_id)
        .where(ModuleVersion.module_id == key)
    )


def _versions(to: str, key: bytes) -> ColumnElement[bool]:
    """Uses of a version, or of any version of a dataset."""
    if to == "datasetVersion":
        return RunDataset.version_id == key
    versions = select(DatasetVersion.id).where(DatasetVersion.dataset_id == key)
    return RunDataset.version_id.in_(versions)


def _sure(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Not known is no."""
    return func.coalesce(condition, literal_column("false"))


def _escaped(words: str) -> str:
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _like(column: Any, wanted: str, postgresql: bool) -> ColumnElement[bool]:
    # Collation C and SQLite's LIKE alike: the 26 letters are the same in either case, others are not.
    kept = column.collate("C") if postgresql else column
    found: ColumnElement[bool] = (
        kept.ilike(wanted, escape="\\") if postgresql else kept.like(wanted, escape="\\")
    )
    return found


def _mentions(words: str, postgresql: bool) -> tuple[ColumnElement[bool], ...]:
    """Runs whose name or notes have all these trigrams; who asks judges them once more."""
    if postgresql:
        indexed: Any = literal_column("run_trigrams((runs.name || ' ') || runs.notes)")
        contains = indexed.op("@>", is_comparison=True)
        return (contains(func.run_trigrams(bindparam(None, words, unique=True))),)
    pieces = dict.fromkeys(words[at : at + TRIGRAM] for at in range(len(words) - TRIGRAM + 1))
    phrase = " AND ".join('"' + piece.replace('"', '""') + '"' for piece in list(pieces)[:16])
    # Joined, not IN: a word that is common is read no further than anybody asks.
    return literal_column("run_words").op("MATCH")(phrase), _WORDS.c.rowid == _run.feed_id
