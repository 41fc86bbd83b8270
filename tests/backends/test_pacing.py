"""Paces: some at once, the others one after the other."""

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from backends.pacing import Pace


@given(st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.005, 0.02]), min_size=1, max_size=30), st.integers(1, 5))
def test_in_no_stretch_of_time_are_there_more_starts_than_it_has_turns_and_those_that_may_be_early(
    pauses: list[float], at_once: int
) -> None:
    seconds, now, started = 0.008, 100.0, list[float]()
    pace = Pace(seconds, at_once)
    for pause in pauses:
        started.append(now + pace.wait(now))
        pace.spend(now)
        now += pause
    assert started == sorted(started)
    for first in range(len(started)):
        for last in range(first, len(started)):
            turns = (started[last] - started[first]) / seconds
            assert last - first + 1 <= at_once + turns + 1e-6


async def test_those_who_wait_start_in_the_order_in_which_they_came_and_none_too_early() -> None:
    seconds, pace, started, began = 0.005, Pace(0.005, 3), list[int](), time.monotonic()

    async def start(number: int) -> None:
        await pace.keep()
        started.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(start(number))
    assert started == list(range(8))
    assert time.monotonic() - began >= (8 - 3) * seconds - 0.001  # a sleep may end a little early


async def test_whoever_gives_up_waiting_keeps_nobody_else_from_starting() -> None:
    pace = Pace(0.005, 1)
    await pace.keep()
    left = [asyncio.create_task(pace.keep()) for _ in range(5)]
    await asyncio.sleep(0)
    for each in left:
        each.cancel()
    await asyncio.wait(left)
    assert pace.wait(time.monotonic()) <= 0.005


def test_what_is_done_now_and_then_is_done_at_once() -> None:
    pace, now = Pace(0.02, 1), 100.0
    for _ in range(50):
        assert pace.wait(now) == 0
        pace.spend(now)
        now += 0.02


def test_what_is_done_all_the_time_is_done_so_often_a_second() -> None:
    pace, now = Pace(0.02, 10), 100.0
    for _ in range(200):
        now += pace.wait(now)
        pace.spend(now)
    assert round((now - 100) / 0.02) == 190
    assert pace.wait(now + 1) == 0
