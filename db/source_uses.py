"""Data sources as inputs of runs: passed through, not copied.

A run's jobs are told where each source is, and get its credentials in their environment at launch; the run's
rows hold the URL as of the start and the secret's name, never a value.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ForeignKey, Integer, Text, bindparam, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from db import ids, secrets
from db.columns import Base, Id
from db.data_sources import DataSource
from db.database import Session, Transaction
from db.errors import Problem

MOST_SOURCES = 20


class RunSource(Base):
    """A source that a run was given, under the name its jobs know it by."""

    __tablename__ = "run_sources"

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    source_id: Mapped[bytes] = mapped_column(Id, ForeignKey("data_sources.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str | None] = mapped_column(Text)


@dataclass(slots=True)
class Chosen:
    """The sources that were asked for, and what is wrong."""

    sources: list[DataSource] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def variable(name: str) -> str:
    """The part of a variable's name that stands for a source: raw-data.2 is RAW_DATA_2."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


async def choose(session: Session, project_id: bytes, keys: Sequence[bytes]) -> Chosen:
    """The sources of these ids; every mistake is named."""
    chosen = Chosen()
    if not keys:
        return chosen
    if len(keys) > MOST_SOURCES:
        chosen.problems.append(Problem(("sources",), f"a run has at most {MOST_SOURCES} sources"))
        return chosen
    live = (DataSource.project_id == project_id) & DataSource.deleted_at.is_(None)
    rows = await session.all(DataSource, select(DataSource).where(DataSource.id.in_(keys), live))
    found = {row.id: row for row in rows}
    unset = await secrets.missing(session, project_id, {row.secret for row in rows if row.secret})
    taken: dict[str, str] = {}
    for index, key in enumerate(keys):
        at = ("sources", str(index))
        source = found.get(key)
        if source is None:
            message = f"there is no data source {ids.encode('data_source', key)} in this project"
            chosen.problems.append(Problem(at, message))
        elif (other := taken.setdefault(variable(source.name), source.name)) and key in keys[:index]:
            chosen.problems.append(Problem(at, f"{source.name} is given twice"))
        elif other != source.name:
            message = f"{source.name} and {other} would be one variable; rename one"
            chosen.problems.append(Problem(at, message))
        elif source.secret in unset:
            message = f"{source.name} needs the secret {source.secret}, which is not set"
            chosen.problems.append(Problem(at, message))
        else:
            chosen.sources.append(source)
    return chosen


async def record(session: Transaction, run_id: bytes, sources: Sequence[DataSource]) -> None:
    """Write down what a run was given."""
    rows = [
        {"run_id": run_id, "position": position, "source_id": source.id, "name": source.name}
        | {"url": source.url, "secret": source.secret}
        for position, source in enumerate(sources)
    ]
    if rows:
        await session.execute(insert(RunSource), rows)


_OF_RUNS = (
    select(RunSource)
    .where(RunSource.run_id.in_(bindparam("runs", expanding=True)))
    .order_by(RunSource.run_id, RunSource.position)
)


async def of_runs(session: Session, runs: Collection[bytes]) -> list[RunSource]:
    """What these runs were given, in order."""
    return await session.all(RunSource, _OF_RUNS, {"runs": list(runs)})


async def copy(session: Transaction, from_run: bytes, to_run: bytes) -> None:
    """Give a run that repeats another the sources the other had, where they were then."""
    rows = [
        {"run_id": to_run, "position": row.position, "source_id": row.source_id, "name": row.name}
        | {"url": row.url, "secret": row.secret}
        for row in await of_runs(session, [from_run])
    ]
    if rows:
        await session.execute(insert(RunSource), rows)
