"""Garbage is free soon, and who is answered does not wait for the search."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from graph import garbage
from graph.garbage import ENOUGH, LOOK_SECONDS, MOST, RESTS, YOUNG, Collector


class Node:
    """One that leads to itself."""

    def __init__(self) -> None:
        self.me = self


class Clock:
    """Of a test's own."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def searches() -> Iterator[list[int]]:
    """The generations that are searched, in order."""
    found: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)


def grow(collector: Collector, objects: int) -> None:
    for _ in range(objects // YOUNG):
        collector.note("start", {"generation": 0, "collected": 0})
        collector.note("stop", {"generation": 0, "collected": 0})


async def test_only_the_young_are_searched_while_objects_come(searches: list[int]) -> None:
    with garbage.collecting():
        kept = [Node() for _ in range(20 * YOUNG)]
        lost = [weakref.ref(Node()) for _ in range(3 * YOUNG)]
    assert len(kept) == 20 * YOUNG
    assert set(searches) == {0} and len(searches) >= 20
    assert sum(node() is None for node in lost) >= 2 * YOUNG


async def test_garbage_that_has_grown_old_is_free_when_there_is_little_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(garbage, "IDLE", 1e9)
    with garbage.collecting():
        nodes = [Node() for _ in range(ENOUGH + 2 * YOUNG)]
        free = asyncio.Event()
        lost = weakref.ref(nodes[0], lambda _: free.set())
        nodes.clear()
        assert lost() is not None, "it was searched too early"
        async with asyncio.timeout(10):
            await free.wait()


def test_everything_is_searched_where_nobody_minds_or_memory_matters_more(searches: list[int]) -> None:
    clock, work = Clock(), Clock()
    collector = Collector(clock, work)
    took = 0.1
    for grown, passed, worked, is_due in (
        (ENOUGH - YOUNG, LOOK_SECONDS, 0.0, False),
        (YOUNG, LOOK_SECONDS, LOOK_SECONDS, False),
        (MOST - ENOUGH - YOUNG, LOOK_SECONDS, LOOK_SECONDS, False),
        (YOUNG, LOOK_SECONDS, LOOK_SECONDS, True),
        (ENOUGH, RESTS * took - LOOK_SECONDS, 0.0, False),
        (0, LOOK_SECONDS, 0.0, True),
        (MOST, LOOK_SECONDS, 0.0, True),
    ):
        grow(collector, grown)
        clock.seconds += passed
        work.seconds += worked
        searches.clear()
        collector.look()
        assert (2 in searches) is is_due, (grown, passed, worked)
        if is_due:
            collector.note("start", {"generation": 2, "collected": 0})
            clock.seconds += took
            collector.note("stop", {"generation": 2, "collected": 0})


async def test_what_was_set_before_is_set_again(searches: list[int]) -> None:
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    with garbage.collecting():
        assert gc.get_threshold()[0] == YOUNG
    assert (gc.get_threshold(), gc.callbacks) == (before, callbacks)
