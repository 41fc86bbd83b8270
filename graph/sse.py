"""The same operations as server-sent events, each a request of its own.

graphql-sse's "distinct connections mode": POST, answered with `next` events and a `complete`. The id of an
event is the feed's number, so whoever sends the last one back as Last-Event-ID resumes there; a comment now
and then shows whoever is in between that the connection lives. Equal subscriptions share their bytes with each
other and their computation with those over WebSockets (sharing.py).
Protocol: https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import structlog
from starlette.types import Receive, Scope, Send

from graph.context import Context
from graph.encoding import UNAUTHENTICATED, encode
from graph.topics import Answer, Tell

if TYPE_CHECKING:
    from graph.http import Endpoint

log = structlog.get_logger(__name__)

MEDIA_TYPE = "text/event-stream"
CHECK_SECONDS = 2.0
"""How often the credential is looked at."""
HEARTBEAT_SECONDS = 15.0
_HEADERS = [
    (b"content-type", f"{MEDIA_TYPE}; charset=utf-8".encode()),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_COMPLETE = b"event: complete\ndata:\n\n"


def is_preferred(accept: str) -> bool:
    """Whether an Accept header asks for events rather than for a document: they have the highest weight."""
    weights = dict(map(_weighed, accept.split(",")))
    events = weights.pop(MEDIA_TYPE, 0.0)
    return events > 0 and all(events > weight or media == "*/*" for media, weight in weights.items())


def _weighed(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return media.lower(), float(value)
            except ValueError:
                return media.lower(), 0.0
    return media.lower(), 1.0


class Stream:
    """One operation and its answers, as an ASGI response."""

    def __init__(
        self, endpoint: "Endpoint", asked: Mapping[str, Any], context: Context, resume: int | None
    ) -> None:
        self._endpoint = endpoint
        self._asked = asked
        self._context = context
        self._resume = resume

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the operation ends, the client goes, or its credential is good no longer."""
        self._send = send
        self._sent = asyncio.get_running_loop().time()
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._write(b":\n\n")
        ends = (self._tell_all(), self._mind(), _gone(receive), self._endpoint.closing.wait())
        _, minding, going, closing = tasks = [asyncio.ensure_future(one) for one in ends]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not going.cancelled():
            return
        if not minding.cancelled():
            minding.result()
            await self._write(_event(UNAUTHENTICATED))
        if closing.cancelled():  # else it is cut off, and resumed elsewhere
            await self._write(_COMPLETE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell_all(self) -> None:
        asked, course = self._asked, self._context.course
        course.resume = self._resume
        arguments = (asked["query"], asked.get("variables"), asked.get("operationName"), self._context)
        try:
            if await self._endpoint.watch(*arguments, Tell(self._tell), resume=self._resume):
                return
            async with aclosing(await self._endpoint.stream(*arguments)) as results:
                async for result in results:
                    payload: dict[str, Any] = {"data": result.data}
                    if result.errors:
                        payload["errors"] = [error.formatted for error in result.errors]
                    number = f"id: {course.at // 2}\n".encode() if course.at else b""
                    await self._write(number + _event(payload))
        except Exception as error:
            # The log gets the fault, the client the end: one that has not seen FeedEnded resumes.
            log.error("subscription failed", error=repr(error), exc_info=error)

    async def _tell(self, answer: Answer) -> None:
        await self._write(answer.sse)

    async def _write(self, text: bytes) -> None:
        await self._send({"type": "http.response.body", "body": text, "more_body": True})
        self._sent = asyncio.get_running_loop().time()

    async def _mind(self) -> None:
        """Return when the credential is good no longer."""
        while await self._endpoint.is_still(self._context):
            await asyncio.sleep(CHECK_SECONDS)
            if asyncio.get_running_loop().time() - self._sent >= HEARTBEAT_SECONDS:
                await self._write(b":\n\n")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(payload: object) -> bytes:
    return b"event: next\ndata: %s\n\n" % encode(payload)
