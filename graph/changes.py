"""Watching a list of runs: what comes to satisfy a filter, what changes there, what no longer does.

A watcher is a cursor into what moved lately (db/changes.py) and looks at most once a second, so that a run
is told at most once a second however often it changes. There is no cursor for the client: after a lost
connection it asks for the list again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Annotated

import strawberry

from db import changes, errors, filters
from graph.context import Info
from graph.filters import RunFilter, document
from graph.nodes import public
from graph.runs import Run

SECONDS = 1.0
LIMIT_SECONDS = 5.0
"""How long one look at what changed may take."""
BATCH = 500
REMEMBERED = 10_000
"""Runs of which a watcher knows that they were told as removed."""


@strawberry.type(description="A run satisfies the filter: it is new there, or has changed.")
class RunUpserted:
    """A run as it is now."""

    run: Run = strawberry.field(description="As it is now.")


@strawberry.type(description="A run no longer satisfies the filter, or is deleted.")
class RunRemoved:
    """A run that is to be taken off the list, if it is there."""

    id: strawberry.ID = strawberry.field(description="The run's.")


RunListEvent = Annotated[
    RunUpserted | RunRemoved,
    strawberry.union("RunListEvent", description="What happens to a list of runs."),
]


@strawberry.type
class RunListSubscription:
    """Watching lists."""

    @strawberry.subscription(
        description="The runs that satisfy a filter, whenever they change, each at most once a second. "
        "Nothing is replayed: subscribe, then query the list, and query it again after a lost connection."
    )
    async def runs(self, info: Info, filter: RunFilter | None = None) -> AsyncIterator[RunListEvent]:
        context = info.context
        context.require_viewer()
        where = filters.parse(document(filter))
        recent = context.around.hub.recent
        place = recent.place
        removed: OrderedDict[bytes, None] = OrderedDict()
        while True:
            await recent.wait(place)
            turn = asyncio.get_running_loop().time() + SECONDS
            if place < recent.floor:
                raise errors.Unavailable("more runs have changed than can be told: ask for the list again")
            moved, place = recent.since(place), recent.place
            for start in range(0, len(moved), BATCH):
                async with context.database.scan(seconds=LIMIT_SECONDS) as session:
                    some = moved[start : start + BATCH]
                    found = await changes.judge(session, context.viewer, some, where)
                for change in found:
                    if change.run is not None:
                        removed.pop(change.run_id, None)
                        yield RunUpserted(run=Run.of(change.run))
                    elif change.gone and change.run_id not in removed:
                        removed[change.run_id] = None
                        if len(removed) > REMEMBERED:
                            removed.popitem(last=False)
                        yield RunRemoved(id=public("run", change.run_id))
            await asyncio.sleep(turn - asyncio.get_running_loop().time())
