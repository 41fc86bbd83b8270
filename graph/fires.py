"""Fires: the history of a schedule, each with the run it started or why there is none."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from db import fires
from graph import enums, nodes
from graph.context import Context, Info
from graph.errors import ErrorCode
from graph.files import File
from graph.nodes import Node, loads, public

if TYPE_CHECKING:
    from graph.runs import Run
    from graph.schedules import Schedule

enums.show(
    fires.Outcome,
    "What became of a fire.",
    name="FireOutcome",
    PENDING="It is yet to start its run.",
    STARTED="It started a run.",
    SKIPPED="It started none, as its schedule says.",
    FAILED="It could start none; `message` tells why.",
)


@strawberry.type(description="One time that a schedule was due, and what became of it.")
class Fire(Node):
    """A fire."""

    row: strawberry.Private[fires.Fire]
    outcome: fires.Outcome = strawberry.field(
        description="PENDING only for a moment, or while a batch gathers."
    )
    due_at: datetime = strawberry.field(
        description="The due time, or when the file or the run's end was seen, and a batch is full."
    )
    fired_at: datetime | None = strawberry.field(description="When it came to its outcome.")
    error_code: ErrorCode | None = strawberry.field(description="Why it FAILED, for programs.")
    message: str | None = strawberry.field(description="Why it FAILED or was SKIPPED, for people.")

    @classmethod
    def of(cls, row: fires.Fire) -> "Fire":
        return cls(
            row=row,
            id=public("fire", row.id),
            outcome=row.outcome,
            due_at=row.due_at,
            fired_at=row.fired_at,
            error_code=None if row.error_code is None else ErrorCode(row.error_code),
            message=row.message,
        )

    @strawberry.field(description="The run it started, while there is one.")
    async def run(self, info: Info) -> Annotated["Run", strawberry.lazy("graph.runs")] | None:
        found: Run | None = await nodes.get(info.context, "run", self.row.run_id)
        return found

    @strawberry.field(description="The file that arrived.")
    async def file(self, info: Info) -> File | None:
        found: File | None = await nodes.get(info.context, "file", self.row.file_id)
        return found

    @strawberry.field(description="The run that had ended.")
    async def after_run(self, info: Info) -> Annotated["Run", strawberry.lazy("graph.runs")] | None:
        found: Run | None = await nodes.get(info.context, "run", self.row.after_run_id)
        return found

    @strawberry.field(description="Its schedule.")
    async def schedule(self, info: Info) -> Annotated["Schedule", strawberry.lazy("graph.schedules")] | None:
        found: Schedule | None = await nodes.get(info.context, "schedule", self.row.schedule_id)
        return found


@loads("fire")
async def load_fires(context: Context, keys: list[bytes]) -> list[Fire | None]:
    """Fires by key."""
    async with context.database.read() as session:
        rows = await fires.find_fires(session, context.viewer, keys)
    return nodes.by_key(keys, rows, Fire.of)


async def of_runs(context: Context, keys: list[bytes]) -> list[Fire | None]:
    """The fire that started each run; of several files that came together, the first one's."""
    async with context.database.read() as session:
        rows = await fires.of_runs(session, keys)
    made = {row.run_id: Fire.of(row) for row in reversed(rows)}
    return [made.get(key) for key in keys]


async def latest_of(context: Context, keys: list[bytes]) -> list[Fire | None]:
    """The last fire of each schedule that came to an outcome."""
    async with context.database.read() as session:
        rows = await fires.latest(session, keys)
    made = {row.schedule_id: Fire.of(row) for row in rows}
    return [made.get(key) for key in keys]
