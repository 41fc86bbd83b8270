"""Grants: what a launch is entrusted with beyond its inputs, still sealed.

Read anew for every launch, so that a rotated secret reaches the next attempt and nothing of it is ever in a
run's rows. backends/vault.py opens what is here, in the moment of launching.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import select, tuple_

from db import secrets
from db.database import Session
from db.secrets import Secret


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret by name; `value` is None where it is not set (any more)."""

    name: str
    context: bytes
    value: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one launch gets."""

    secrets: tuple[Sealed, ...] = ()


NOTHING = Grant()


async def find(session: Session, wanted: Mapping[bytes, tuple[bytes, Collection[str]]]) -> dict[bytes, Grant]:
    """The grants of launches, from each one's project and the names its function states."""
    pairs = {(project_id, name) for project_id, names in wanted.values() for name in names}
    if not pairs:
        return {}
    values = await sealed(session, pairs)
    return {
        key: Grant(tuple(values[project_id, name] for name in names))
        for key, (project_id, names) in wanted.items()
        if names
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
