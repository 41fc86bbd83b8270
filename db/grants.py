"""Grants: what a launch is entrusted with beyond its inputs, still sealed.

Read anew for every launch, so that a rotated secret reaches the next attempt and nothing of it is ever in a
run's rows. backends/vault.py opens what is here, in the moment of launching.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import select, tuple_

from db import secrets, source_uses
from db.database import Session
from db.secrets import Secret
from db.source_uses import RunSource


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret by name; `value` is None where it is not set (any more)."""

    name: str
    context: bytes
    value: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SourceGrant:
    """A place outside that a job may read for itself, and the secret that opens it."""

    name: str
    url: str
    secret: Sealed | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What one launch gets."""

    secrets: tuple[Sealed, ...] = ()
    sources: tuple[SourceGrant, ...] = ()


NOTHING = Grant()


@dataclass(frozen=True, slots=True)
class Entitled:
    """What decides a launch's grant: its run, its project, and the names its function states."""

    run_id: bytes
    project_id: bytes
    secrets: tuple[str, ...]


async def find(session: Session, launches: Mapping[bytes, Entitled]) -> dict[bytes, Grant]:
    """The grants of launches that get anything."""
    given: dict[bytes, list[RunSource]] = {}
    for row in await source_uses.of_runs(session, {one.run_id for one in launches.values()}):
        given.setdefault(row.run_id, []).append(row)
    wanted = {(one.project_id, name) for one in launches.values() for name in one.secrets}
    wanted |= {
        (one.project_id, row.secret)
        for one in launches.values()
        for row in given.get(one.run_id, ())
        if row.secret is not None
    }
    values = await sealed(session, wanted)
    return {
        key: Grant(
            tuple(values[one.project_id, name] for name in one.secrets),
            tuple(
                SourceGrant(row.name, row.url, values[one.project_id, row.secret] if row.secret else None)
                for row in given.get(one.run_id, ())
            ),
        )
        for key, one in launches.items()
        if one.secrets or one.run_id in given
    }


async def sealed(session: Session, wanted: Collection[tuple[bytes, str]]) -> dict[tuple[bytes, str], Sealed]:
    """The secrets of these projects and names, set or not."""
    if not wanted:
        return {}
    statement = select(Secret.project_id, Secret.name, Secret.sealed).where(
        tuple_(Secret.project_id, Secret.name).in_(list(wanted))
    )
    kept = {(row.project_id, row.name): row.sealed for row in (await session.execute(statement)).all()}
    return {
        (project_id, name): Sealed(name, secrets.context(project_id, name), kept.get((project_id, name)))
        for project_id, name in wanted
    }
