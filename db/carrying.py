"""What a job far from the server may fetch with its token: the state of the module it runs, and its inputs."""

from dataclasses import dataclass

from sqlalchemy import select

from db import claims, errors
from db.attempts import Attempt
from db.claims import Input
from db.database import Session
from db.viewers import Kind, Viewer


@dataclass(frozen=True, slots=True)
class Given:
    """A module version's digest, and input files by their name in the input folder."""

    digest: str
    inputs: dict[str, Input]


async def given(session: Session, viewer: Viewer) -> Given:
    """What an attempt that has not ended is given; nobody but its own token may ask. Raises Forbidden, NotFound."""
    if viewer.kind is not Kind.JOB:
        raise errors.Forbidden("only a job's own token fetches what the job is given")
    found = await session.scalar(
        select(Attempt.id).where(
            Attempt.job_id == viewer.job_id,
            Attempt.number == viewer.attempt,
            Attempt.run_id == viewer.run_id,
            Attempt.ended_at.is_(None),
            Attempt.backend_id.is_not(None),
        )
    )
    launches = [] if found is None else await claims.describe(session, [found])
    if not launches:
        raise errors.NotFound("the attempt has ended, or nothing of ours launched it")
    return Given(launches[0].digest, {file.name: file for file in launches[0].inputs})
