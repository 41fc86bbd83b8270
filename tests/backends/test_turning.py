"""Turns at storing: light ones never wait, heavy ones follow one another, and slices fit the time there is."""

import asyncio

from backends import turning
from backends.turning import Pace, Turns

MIB = 1 << 20


async def test_who_prints_little_waits_for_nobody() -> None:
    turns = Turns()
    async with turns.turn(MIB), asyncio.timeout(60), turns.turn(turning.LIGHT), turns.turn(1000):
        pass


async def test_who_print_much_are_served_one_at_a_time_in_the_order_they_came() -> None:
    turns, order, inside = Turns(), [], 0

    async def store(name: str, times: int) -> None:
        nonlocal inside
        for _ in range(times):
            async with turns.turn(MIB):
                inside += 1
                order.append(name)
                await asyncio.sleep(0)
                assert inside == 1
                inside -= 1

    await asyncio.gather(store("a", 3), store("b", 3), store("c", 3))
    assert order == ["a", "b", "c"] * 3


def test_slices_grow_while_they_are_quick_and_shrink_when_they_are_not() -> None:
    turns = Turns()
    sizes = [turns.most_bytes]
    for _ in range(10):
        turns.judge(turns.most_bytes, 1e-5)
        sizes.append(turns.most_bytes)
    assert sizes == sorted(sizes) and sizes[-1] == MIB
    for _ in range(10):
        turns.judge(turns.most_bytes, 1.0)
    assert turns.most_bytes == 16 << 10
    turns.judge(100, 1.0)
    assert turns.most_bytes == 16 << 10


def test_what_prints_now_and_then_is_stored_at_once() -> None:
    pace, now = Pace(), 100.0
    for _ in range(50):
        assert pace.wait(now) == 0
        pace.spend(now)
        now += Pace.PERIOD_SECONDS


def test_what_prints_all_the_time_is_stored_so_often_a_second() -> None:
    pace, now = Pace(), 100.0
    for _ in range(200):
        now += pace.wait(now)
        pace.spend(now)
    assert 200 - Pace.AT_ONCE <= round((now - 100) / Pace.PERIOD_SECONDS) + 1 <= 200
    assert pace.wait(now + 1) == 0


async def test_a_turn_that_took_all_there_was_lets_more_come_together() -> None:
    turns = Turns()
    turns.most_bytes = MIB
    began = asyncio.get_running_loop().time()
    async with turns.turn(MIB) as turn:
        turn.size = MIB // 4
    assert asyncio.get_running_loop().time() - began > 0.02
