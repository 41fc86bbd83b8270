"""Runs side by side: what they were given, what code they ran, what they measured, how they are tagged.

Columns run in parallel with the runs. At most MOST runs and CELLS values are compared at once, so that
neither a reader nor the server drowns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from db import errors, headlines, ids, jobs, runs
from db.database import Session
from db.modules import Function, Module, ModuleVersion
from db.viewers import Viewer

MOST = 100
CELLS = 100_000


@dataclass(frozen=True, slots=True)
class Line:
    """One thing of all runs: `values` are None where a run has none of it; `step` is empty for tags."""

    step: str
    name: str
    values: list[Any]

    @property
    def differs(self) -> bool:
        """Whether not all runs have the same."""
        return any(
            type(value) is not type(self.values[0]) or value != self.values[0] for value in self.values
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """A headline value of all runs, and how far each is from the baseline's, by number and in parts of it."""

    values: list[float | None]
    deltas: list[float | None]
    relative: list[float | None]


@dataclass(frozen=True, slots=True)
class MetricLine:
    """A metric of all runs."""

    name: str
    last: Measured
    minimum: Measured
    maximum: Measured


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared."""

    runs: list[runs.Run]
    baseline: int | None
    arguments: list[Line]
    functions: list[Line]
    tags: list[Line]
    metrics: list[MetricLine]


async def compare(
    session: Session, viewer: Viewer, keys: Sequence[bytes], baseline: bytes | None = None
) -> Comparison:
    """Compare runs in the order given; deltas are from `baseline`, which is one of them.

    Raises NotFound, Invalid, or LimitExceeded.
    """
    if not 1 <= len(keys) <= MOST or len(set(keys)) < len(keys):
        raise errors.Invalid(f"1 to {MOST} runs are compared, each named once", path=("ids",))
    if baseline is not None and baseline not in keys:
        raise errors.Invalid("the baseline is one of the runs that are compared", path=("baseline",))
    found = {run.id: run for run in await runs.find_runs(session, viewer, keys)}
    for index, key in enumerate(keys):
        if key not in found:
            raise errors.NotFound(f"there is no run {ids.encode('run', key)}", path=("ids", str(index)))
    at = None if baseline is None else list(keys).index(baseline)
    members = await jobs.of_runs(session, keys)
    tags = await runs.tags_of(session, keys)
    arguments = _lines(
        keys,
        ((job.run_id, job.step, name, value) for job in members for name, value in job.arguments.items()),
    )
    return Comparison(
        runs=[found[key] for key in keys],
        baseline=at,
        arguments=arguments,
        functions=await _functions(session, keys, members),
        tags=_lines(keys, ((tag.run_id, "", tag.name, tag.value) for tag in tags)),
        metrics=await _metrics(session, keys, at),
    )


def _lines(keys: Sequence[bytes], cells: Any) -> list[Line]:
    """Cells (run, step, name, value) as lines, in the order in which they first come."""
    place = {key: index for index, key in enumerate(keys)}
    lines: dict[tuple[str, str], Line] = {}
    for run_id, step, name, value in cells:
        line = lines.get((step, name))
        if line is None:
            line = lines[step, name] = Line(step, name, [None] * len(keys))
            if len(lines) * len(keys) > CELLS:
                rule = f"more than {CELLS:,} values would be compared: compare fewer runs"
                raise errors.LimitExceeded(rule, path=("ids",))
        line.values[place[run_id]] = value
    return list(lines.values())


async def _functions(session: Session, keys: Sequence[bytes], members: Sequence[jobs.Job]) -> list[Line]:
    wanted = {job.function_id for job in members if job.function_id is not None}
    statement = (
        select(Function.id, Function.name, Module.name.label("module"), ModuleVersion.number)
        .join(Module, Module.id == Function.module_id)
        .join(ModuleVersion, ModuleVersion.id == Function.version_id)
    )
    named: dict[bytes | None, str] = {}
    chosen = sorted(wanted)
    for start in range(0, len(chosen), 500):
        some = statement.where(Function.id.in_(chosen[start : start + 500]))
        for row in (await session.execute(some)).all():
            named[row.id] = f"{row.module}/{row.name}@{row.number}"
    return _lines(keys, ((job.run_id, job.step, "", named.get(job.function_id)) for job in members))


async def _metrics(session: Session, keys: Sequence[bytes], baseline: int | None) -> list[MetricLine]:
    rows = await headlines.of_runs(session, keys)
    lines = _lines(keys, ((row.run_id, "", row.name, (row.last, row.minimum, row.maximum)) for row in rows))
    return [
        MetricLine(
            line.name,
            *(_measured([value and value[at] for value in line.values], baseline) for at in range(3)),
        )
        for line in sorted(lines, key=lambda line: line.name)
    ]


def _measured(values: list[float | None], baseline: int | None) -> Measured:
    base = None if baseline is None else values[baseline]
    deltas = [None if base is None or value is None else _finite(value - base) for value in values]
    relative = [None if not base or delta is None else _finite(delta / abs(base)) for delta in deltas]
    return Measured(values, deltas, relative)


def _finite(value: float) -> float | None:
    """JSON has no infinity: a difference beyond a double's range is no number."""
    return value if abs(value) <= 1.7e308 else None
