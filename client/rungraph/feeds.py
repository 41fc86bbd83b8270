"""Following a feed through lost connections: every number once, in order, to its end.

A feed's events are numbered without gaps and a message carries whole numbers, so the last number seen is
all there is to remember: after a loss the subscription is opened again `after:` it, on whatever replica
answers. A message whose number is not above the last one is a repeat and is dropped.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from rungraph.backoff import FOR_FEEDS, Backoff, pause
from rungraph.errors import ApiError, ClientError, Unreachable

Event = dict[str, Any]
Subscribe = Callable[[str, Mapping[str, Any]], AsyncGenerator[dict[str, Any]]]


async def follow(
    subscribe: Subscribe, query: str, variables: Mapping[str, Any], backoff: Backoff = FOR_FEEDS
) -> AsyncGenerator[Event]:
    """The events of one subscription field, from `variables["after"]` (default 0) until FeedEnded.

    `query` declares `$after: Int64` and selects `__typename` and `seq` of every event. Cursor and FeedEnded
    are not yielded. FeedTruncated is: what lies between the number before it and its `resumeFrom` is gone,
    so whoever keeps state reads it anew. Raises Unreachable when nobody answers for the backoff's patience.
    """
    place = _Place(int(variables.get("after") or 0))
    delays = backoff.delays()
    while True:
        failure: ClientError = Unreachable("the server ended the subscription before the feed's end")
        try:
            async with aclosing(subscribe(query, {**variables, "after": place.seq})) as answers:
                async for data in answers:
                    event = _only_field(data)
                    if event["__typename"] == "FeedEnded":
                        return
                    if place.moves_to(event):
                        delays = backoff.delays()
                        if event["__typename"] != "Cursor":
                            yield event
        except Unreachable as error:
            failure = error
        except ApiError as error:
            if not error.retryable:
                raise
            failure = error
        await pause(delays, failure)


class _Place:
    """How far a feed has been read."""

    def __init__(self, seq: int) -> None:
        self.seq = seq

    def moves_to(self, event: Event) -> bool:
        """Whether the event is news; if so, the place is now behind it."""
        truncated = event["__typename"] == "FeedTruncated"
        reached = int(event["resumeFrom"]) - 1 if truncated else int(event["seq"])
        if reached <= self.seq:
            return False
        self.seq = reached
        return True


def _only_field(data: Mapping[str, Any]) -> Event:
    (event,) = data.values()
    if not isinstance(event, dict) or "__typename" not in event:
        raise ValueError("a followed subscription selects __typename and seq of every event")
    return event
