"""What resolvers work with: who asks, the surroundings, and loaders. Never a session.

Loaders batch what one operation needs of one kind into one read. They remember within a query; on a
WebSocket, whose connection shares one context among its operations and their events, they only batch.
"""

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, Concatenate, ParamSpec, TypeVar

from starlette.requests import HTTPConnection
from strawberry.dataloader import DataLoader
from strawberry.types import Info as StrawberryInfo

from db import errors
from db.database import Database, Transaction
from db.rows import Columns
from db.viewers import Viewer
from graph.surroundings import Surroundings
from graph.sweeping import current

K = TypeVar("K")
P = ParamSpec("P")
V = TypeVar("V")

FROM_NOW = -1

Fetch = Callable[["Context", list[Any]], Awaitable[list[Any]]]


class Course:
    """How far a subscription is to follow its feed, and how far it has come, in places (events.place).

    `resume` is the number to follow past, whatever the operation says, FROM_NOW for the feed's end; `until`
    is where to stop. `begun` is given the place where it begins. What is told last stands for the events from
    `first` to `at`. `arrived` says that it stopped because of `until`, all up to there having been told.
    """

    def __init__(self, resume: int | None = None, until: int | None = None) -> None:
        self.resume = resume
        self.until = until
        self.begun: asyncio.Future[int] | None = None
        self.first = self.at = 0
        self.arrived = False

    def beginning(self, after: int | None) -> int | None:
        """The number to follow past where the operation says `after`; None is the feed's end."""
        if self.resume is None:
            return after
        return None if self.resume == FROM_NOW else self.resume

    def begin(self, at: int) -> None:
        """The feed is followed past here."""
        self.first = self.at = at
        if self.begun is not None:
            self.begun.set_result(at)


class Context:
    """The surroundings of an operation, or of a WebSocket's operations."""

    def __init__(
        self, connection: HTTPConnection, around: Surroundings, *, viewer: Viewer | None, request_id: str
    ) -> None:
        self.connection = connection
        self.connection_params: dict[str, Any] = {}
        self._around = around
        self.request_id = request_id
        self.authenticated: Viewer | None = viewer
        self.course = Course()
        self._remember = connection.scope["type"] == "http"
        self._loaders: dict[Any, DataLoader[Any, Any]] = {}

    def twin(self, course: "Course") -> "Context":
        """The same surroundings for another operation, a subscription with a course of its own."""
        made = copy(self)
        made._loaders = {}
        made.course = course
        return made

    @property
    def viewer(self) -> Viewer:
        """Who asks; raises Unauthenticated for nobody."""
        if self.authenticated is None:
            raise self._nobody()
        return self.authenticated

    @property
    def database(self) -> Database:
        """The database, for somebody: nothing is read or written for nobody."""
        return self.around.database

    @property
    def around(self) -> Surroundings:
        """What this process works with, for somebody."""
        self.require_viewer()
        return self._around

    def require_viewer(self) -> None:
        """Raise Unauthenticated for nobody."""
        if self.authenticated is None:
            raise self._nobody()

    def _nobody(self) -> errors.Unauthenticated:
        if "authorization" in self.connection.headers:
            return errors.Unauthenticated("This token is not known here, has expired, or was revoked.")
        return errors.Unauthenticated()

    async def act(
        self,
        command: Callable[Concatenate[Transaction, Viewer, P], Awaitable[V]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> V:
        """What a command of db gives, carried out for who asks in a transaction of its own, and committed."""
        async with self.database.begin() as session:
            return await command(session, self.viewer, *args, **kwargs)

    async def load(self, fetch: Callable[["Context", list[K]], Awaitable[list[V]]], key: K) -> V:
        """What `fetch` gives for a key, together with the other keys asked for at the same time."""
        sweep = current()
        if sweep is not None:
            parked: V = await sweep.load(fetch, key)
            return parked
        loader = self._loaders.get(fetch)
        if loader is None:

            async def load_all(keys: list[K]) -> list[V]:
                return await fetch(self, keys)

            loader = DataLoader(load_fn=load_all, max_batch_size=1000, cache=self._remember)
            self._loaders[fetch] = loader
        found: V = await loader.load(key)
        return found


class Info(StrawberryInfo[Context, None]):
    """What a resolver is told: its context, and which columns of the rows it lists will be read."""

    columns: Columns = None
