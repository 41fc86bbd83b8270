"""Why a run or a job is not running, as the API shows it."""

import strawberry

from db import waiting
from graph import enums
from graph.context import Context

enums.show(
    waiting.Code,
    "What a run or a job waits for.",
    name="WaitingCode",
    NEEDS="Other jobs of its run.",
    PREPARATION="Its module to be made ready on the backend.",
    CAPACITY="Room on the backend, or its turn there.",
    RETRY="The moment of its next attempt.",
    BACKEND_UNAVAILABLE="Its backend to answer again.",
    SUPERVISOR="A supervisor to take it up.",
    SCHEDULER="The backend to start it: the message has the backend's own words.",
    SUSPENDED="To be resumed.",
)


@strawberry.type(description="Why a run or a job is not running.")
class WaitingFor:
    """A reason to wait."""

    code: waiting.Code = strawberry.field(description="For programs.")
    message: str = strawberry.field(description="For people.")


async def of_runs(context: Context, keys: list[bytes]) -> list[WaitingFor | None]:
    """What runs wait for."""
    async with context.database.read() as session:
        return _in_order(keys, await waiting.of_runs(session, keys))


async def of_jobs(context: Context, keys: list[bytes]) -> list[WaitingFor | None]:
    """What jobs wait for."""
    async with context.database.read() as session:
        return _in_order(keys, await waiting.of_jobs(session, keys))


def _in_order(keys: list[bytes], found: dict[bytes, waiting.Why]) -> list[WaitingFor | None]:
    return [
        WaitingFor(code=found[key].code, message=found[key].message) if key in found else None for key in keys
    ]
