"""Why a run or a job is not running, as the API shows it."""

import strawberry

from db import waiting
from graph import enums, nodes
from graph.context import Context, Info
from graph.limits import Limit

enums.show(
    waiting.Code,
    "What a run or a job waits for.",
    name="WaitingCode",
    NEEDS="Other jobs of its run.",
    PREPARATION="Its module to be made ready on the backend.",
    CAPACITY="Room on the backend, or its turn there.",
    QUOTA="Room in what its project may have at once.",
    LIMIT="Room in what jobs with a tag may have at once.",
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
    limit_id: strawberry.Private[bytes | None] = None

    @strawberry.field(description="The limit that has no room for it, with QUOTA and LIMIT.")
    async def limit(self, info: Info) -> Limit | None:
        found: Limit | None = await nodes.get(info.context, "limit", self.limit_id)
        return found


async def of_runs(context: Context, keys: list[bytes]) -> list[WaitingFor | None]:
    """What runs wait for."""
    async with context.database.read() as session:
        return _in_order(keys, await waiting.of_runs(session, keys))


async def of_jobs(context: Context, keys: list[bytes]) -> list[WaitingFor | None]:
    """What jobs wait for."""
    async with context.database.read() as session:
        return _in_order(keys, await waiting.of_jobs(session, keys))


def _in_order(keys: list[bytes], found: dict[bytes, waiting.Why]) -> list[WaitingFor | None]:
    return [_of(found[key]) if key in found else None for key in keys]


def _of(why: waiting.Why) -> WaitingFor:
    return WaitingFor(code=why.code, message=why.message, limit_id=why.limit_id)
