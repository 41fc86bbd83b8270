"""Turns at storing: light ones never wait, heavy ones follow one another, and slices fit the time there is."""

import asyncio
import time

from backends import turning
from backends.turning import Steps, Turns

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


async def test_a_turn_that_took_all_there_was_lets_more_come_together() -> None:
    turns = Turns()
    turns.most_bytes = MIB
    began = asyncio.get_running_loop().time()
    async with turns.turn(MIB) as turn:
        turn.size = MIB // 4
    assert asyncio.get_running_loop().time() - began > 0.02


async def test_steps_that_come_at_once_leave_the_loop_to_others_between() -> None:
    steps, done, passes, held = Steps(), 0, 0, 0

    async def step() -> None:
        nonlocal done
        await steps.turn()
        time.sleep(0.002)  # noqa: ASYNC251 - it holds the loop
        done += 1

    waiting = [asyncio.ensure_future(step()) for _ in range(40)]
    while done < len(waiting):
        before = done
        await asyncio.sleep(0)
        passes, held = passes + 1, max(held, done - before)
    assert held <= 8 and passes >= 10
    await asyncio.gather(*waiting)


async def test_steps_are_taken_in_the_order_they_came_and_none_waits_for_one_that_was_given_up() -> None:
    steps, order = Steps(), []

    async def step(number: int) -> None:
        await steps.turn()
        order.append(number)

    waiting = [asyncio.ensure_future(step(number)) for number in range(30)]
    await asyncio.sleep(0)
    waiting[20].cancel()
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [*range(20), *range(21, 30)]
    async with asyncio.timeout(60):
        await steps.turn()
