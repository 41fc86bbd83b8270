"""Vacancies: whether a run that is being started could begin at once, for who would rather not start it than wait.

Asked in the transaction that starts it, under the lock under which a claim decides, of the same line: what
came first goes first. It takes nothing: the next claim does, unless what is more urgent has come by then.
"""

from sqlalchemy import select

from db import backends, columns, errors, health, turns, waiting
from db.database import Transaction
from db.jobs import Job
from db.states import JobState


class Busy(errors.Conflict):
    """There is no room for it just now."""

    retryable = True


async def require(session: Transaction, run_id: bytes) -> None:
    """Raise Busy, with the reason, unless a job of a run could be launched now; one without any to launch passes."""
    ready = select(Job).where(Job.run_id == run_id, Job.state == JobState.QUEUED).order_by(Job.position)
    first = await session.find(Job, ready.limit(1))
    if first is None or first.backend_id is None:
        return
    backend = await backends.lock(session, first.backend_id)
    turn = await turns.of_backend(session, backend, None, columns.now())
    slots = int(backends.capacity(backend)["slots"])
    if backend.id not in await health.attended(session):
        turn = None
    if turn is not None:
        # Whatever can never run there ends with the next claim, which is not to wait.
        chosen = [*turn.oversized, *await turn.choose(session, slots)]
        if any(row.run_id == run_id for row in chosen):
            return
    why = (await waiting.explain(session, [first])).get(first.id)
    if why is None or (why.code is waiting.Code.SUPERVISOR and turn is not None):
        raise Busy(
            f"{first.step} would wait for its turn on {backend.name}: others go first", path=("ifBusy",)
        )
    raise Busy(why.message, path=("ifBusy",))
