"""A crowd of runs that differ in everything lists ask for, and a model that finds and sorts them one by one."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, update

from db import filters, ids, jobs, sorting
from db.database import Database
from db.filters import (
    Argument,
    Belongs,
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
from db.headlines import RunMetric
from db.manifests import Function, Option, OptionType
from db.runs import Run
from db.sorting import Sort
from db.states import RunState
from tests.db.world import World

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = ("Alpha", "beta", "alphabet", "Zeta_1", "100%", "x")
COMPARE: dict[str, Any] = {
    "eq": lambda a, b: a == b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
}


@dataclass
class One:
    """A run as the model knows it."""

    id: bytes
    project: bytes
    pipeline: bytes
    created_at: datetime
    state: RunState
    name: str
    notes: str
    priority: int
    archived: bool
    external: bool
    started_at: datetime | None
    ended_at: datetime | None
    tags: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, tuple[float | None, float | None, float | None]] = field(default_factory=dict)


@dataclass
class Crowd:
    """The world and its runs."""

    world: World
    runs: list[One]
    pipelines: list[bytes]

    @classmethod
    async def make(cls, database: Database, count: int = 18) -> "Crowd":
        """Runs of two pipelines in two projects, with few different values, so that many are equal."""
        options = (Option("rate", OptionType.FLOAT, default=0.5), Option("rule", OptionType.STR, default="a"))
        world = await World.make(database, Function("step", options=options))
        other = await world.add_project("other")
        pipelines = [await world.draw({"a": ()}), await world.draw({"a": ()})]
        pipelines.append(await world.draw({"a": ()}, project_id=other))
        dice = random.Random(7)
        crowd = cls(world, [], pipelines)
        for _ in range(count):
            await crowd._add(dice)
        return crowd

    async def _add(self, dice: random.Random) -> None:
        where = dice.choice((0, 0, 1, 2))
        tags = {name: dice.choice(("1", "10", "2", "b")) for name in ("kind", "try") if dice.random() < 0.6}
        given = {"rate": dice.choice((0.1, 1, 5.5)), "rule": dice.choice(("a", "b"))} if where < 2 else {}
        run_id = await self.world.start(
            self.pipelines[where], tags=list(tags.items()), arguments=[("a", given)] if given else []
        )
        row = await self.world.run(run_id)
        started = EPOCH + timedelta(hours=dice.randrange(4)) if dice.random() < 0.7 else None
        values: dict[str, Any] = {
            "state": dice.choice(list(RunState)),
            "name": dice.choice(WORDS),
            "notes": dice.choice(("", "", "of the ALPHA kind", "a_b")),
            "priority": dice.randrange(3),
            "archived": dice.random() < 0.2,
            "external": dice.random() < 0.3,
            "started_at": started,
            "ended_at": started and dice.choice((None, started + timedelta(hours=dice.randrange(3)))),
        }
        metrics = {}
        for name in ("loss", "accuracy"):
            if dice.random() < 0.7:
                last = dice.choice((0.5, 0.25, -1.0, None))
                metrics[name] = (last, last and last - 1, last and last + dice.choice((0, 1)))
        (job,) = (await self.world.jobs(run_id)).values()
        async with self.world.database.begin() as session:
            await session.execute(update(Run).where(Run.id == run_id).values(**values))
            for name, (last, low, high) in metrics.items():
                await session.execute(insert(RunMetric).values(_headline(row, job, name, last, low, high)))
        self.runs.append(
            One(row.id, row.project_id, self.pipelines[where], row.created_at, tags=tags, arguments=given,
                metrics=metrics, **values)
        )  # fmt: skip

    def expected(self, where: tuple[Condition, ...], sort: Sort) -> list[bytes]:
        """The ids of the runs of which all conditions hold, in order."""
        found = [one for one in self.runs if all(holds(part, one) for part in where)]
        known = [one for one in found if value(sort, one) is not None]
        rest = [one for one in found if value(sort, one) is None]
        down = sort.descending
        if sort.by == "ARGUMENT":
            kinds = [
                [one for one in known if isinstance(value(sort, one), str) is kind] for kind in (False, True)
            ]
        else:
            kinds = [known]
        ordered = [
            one for kind in kinds for one in sorted(kind, key=lambda o: (value(sort, o), o.id), reverse=down)
        ]
        return [one.id for one in (*ordered, *sorted(rest, key=lambda one: one.id, reverse=down))]


def _headline(row: Any, job: jobs.Job, name: str, last: Any, low: Any, high: Any) -> dict[str, Any]:
    return {
        "run_id": row.id, "name": name, "project_id": row.project_id, "job_id": job.id, "attempt": 1, "last": last,
        "last_step": 1, "minimum": low, "minimum_step": 1, "maximum": high, "maximum_step": 1,
    }  # fmt: skip


def value(sort: Sort, one: One) -> Any:
    """What a run is sorted by."""
    match sort.by:
        case "CREATED":
            return 0
        case "STARTED":
            return one.started_at
        case "ENDED":
            return one.ended_at
        case "DURATION":
            return one.ended_at - one.started_at if one.ended_at and one.started_at else None
        case "NAME":
            return one.name.encode()
        case "PRIORITY":
            return one.priority
        case "STATE":
            return list(RunState).index(one.state)
        case "METRIC":
            at = ("last", "minimum", "maximum").index(sort.of)
            return one.metrics[sort.name or ""][at] if sort.name in one.metrics else None
        case "ARGUMENT":
            return one.arguments.get(sort.name or "")
        case _:
            return one.tags.get(sort.name or "")


def holds(condition: Condition, one: One) -> bool:
    """Whether a condition holds of a run."""
    match condition:
        case Every(parts):
            return all(holds(part, one) for part in parts)
        case Some(parts):
            return any(holds(part, one) for part in parts)
        case Not(part):
            return not holds(part, one)
        case InStates(states):
            return one.state in states
        case Belongs(to, key):
            return {"pipeline": one.pipeline, "project": one.project}[to] == key
        case Named(name):
            return one.name == name
        case Mentions(words):
            return words.lower() in one.name.lower() or words.lower() in one.notes.lower()
        case Tagged(name, wanted):
            return name in one.tags and wanted in (None, one.tags[name])
        case During(of, since, before):
            at = getattr(one, of)
            return at is not None and (since is None or at >= since) and (before is None or at < before)
        case Argument(step, name, text, bounds):
            found = one.arguments.get(name) if step in (None, "a") else None
            if text is not None or not isinstance(found, int | float):
                return found is not None and found == text
            return all(COMPARE[operator](found, number) for operator, number in bounds)
        case Metric(name, of, bounds):
            last = value(Sort("METRIC", name=name, of=of), one)
            return last is not None and all(COMPARE[operator](last, number) for operator, number in bounds)
        case Flag(of, wanted):
            return bool(getattr(one, of)) is wanted
    raise AssertionError(condition)


def documents(crowd: Crowd) -> list[dict[str, Any]]:
    """Filters of every kind, as the API gives them."""
    pipeline = ids.encode("pipeline", crowd.pipelines[0])
    hour = [(EPOCH + timedelta(hours=h)).isoformat() for h in range(4)]
    middle = sorted(one.created_at for one in crowd.runs)[len(crowd.runs) // 2].isoformat()
    return [
        {},
        {"archived": None},
        {"archived": True},
        {"external": True},
        {"external": False, "states": ["RUNNING", "FAILED"]},
        {"states": ["SUCCEEDED"]},
        {"pipeline": pipeline},
        {"project": ids.encode("project", crowd.world.project_id)},
        {"name": "Alpha"},
        {"search": "alpha"},
        {"search": "0%"},
        {"search": "_"},
        {"search": "a_b"},
        {"tags": [{"name": "kind", "value": "1"}]},
        {"tags": [{"name": "kind", "value": "1"}, {"name": "try", "value": "b"}], "archived": None},
        {"hasTags": ["try"]},
        {"startedAt": {"since": hour[1], "before": hour[3]}},
        {"endedAt": {"since": hour[1]}},
        {"createdAt": {"since": middle}},
        {"createdAt": {"before": middle}, "states": ["FAILED", "QUEUED", "CANCELLED"]},
        {"metrics": [{"name": "loss", "lt": 0.5}]},
        {"metrics": [{"name": "loss", "of": "MAX", "gte": 0.5}, {"name": "accuracy", "gt": -1}]},
        {"arguments": [{"name": "rate", "gt": 0.5}]},
        {"arguments": [{"step": "a", "name": "rate", "lte": 1, "gte": 0.1}]},
        {"arguments": [{"step": "a", "name": "rule", "eq": "a"}]},
        {"arguments": [{"step": "a", "name": "rate", "eq": 1}]},
        {"arguments": [{"step": "b", "name": "rule", "eq": "a"}]},
        {"or": [{"name": "beta"}, {"metrics": [{"name": "loss", "lt": 0}]}]},
        {"or": [{"archived": True}, {"states": ["FAILED"]}]},
        {"or": []},
        {"not": {"hasTags": ["kind"]}},
        {
            "and": [
                {"not": {"metrics": [{"name": "loss", "lt": 0.5}]}},
                {"or": [{"external": True}, {"search": "bet"}]},
            ]
        },
    ]


SORTS = tuple(
    sorting.parse({"by": by, "direction": direction, **more})
    for direction in ("ASCENDING", "DESCENDING")
    for by, more in (
        *((by, {}) for by in ("CREATED", "STARTED", "ENDED", "DURATION", "NAME", "PRIORITY", "STATE")),
        ("METRIC", {"name": "loss"}),
        ("METRIC", {"name": "loss", "of": "MAX"}),
        ("METRIC", {"name": "none"}),
        ("ARGUMENT", {"name": "rate"}),
        ("ARGUMENT", {"name": "rule", "step": "a"}),
        ("TAG", {"name": "kind"}),
    )
)


def parsed(document: dict[str, Any]) -> tuple[Condition, ...]:
    """The conditions of a filter."""
    return filters.parse(document)
