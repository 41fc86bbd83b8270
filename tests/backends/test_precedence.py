"""Precedence: who is being answered goes first, and what goes behind goes on."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from backends import precedence
from backends.errands import Errands
from backends.precedence import Loop, behind
from db.database import Database


def _run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work)


def _begin(work: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
    with behind():
        return asyncio.create_task(work())


async def _hop(times: int, note: Callable[[], None]) -> None:
    for _ in range(times):
        await asyncio.sleep(0)
        note()


def test_who_is_answered_waits_for_no_step_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "PATIENCE_SECONDS", 60.0)
    order: list[str] = []

    async def both() -> None:
        waiting = [_begin(lambda: _hop(5, lambda: order.append("behind"))) for _ in range(20)]
        await asyncio.sleep(0)
        await _hop(50, lambda: order.append("ahead"))
        await asyncio.gather(*waiting)

    _run(both())
    first = order.index("ahead")
    assert order[first : first + 50] == ["ahead"] * 50
    assert order.count("behind") == 100


def test_what_goes_behind_goes_on_beside_who_never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precedence, "PATIENCE_SECONDS", 0.001)
    passes = 0

    async def both() -> None:
        nonlocal passes
        waiting = _begin(lambda: _hop(20, lambda: None))
        while not waiting.done():
            passes += 1
            await asyncio.sleep(0)

    _run(both())
    assert passes > 20  # for each step behind, more than one ahead


def test_steps_behind_are_taken_in_the_order_they_came_and_a_few_at_a_time() -> None:
    order: list[int] = []
    held = 0

    async def step(number: int) -> None:
        time.sleep(0.0005)  # noqa: ASYNC251 - it holds the loop
        order.append(number)

    async def both() -> None:
        nonlocal held
        waiting = [_begin(lambda number=number: step(number)) for number in range(40)]  # type: ignore[misc]
        while len(order) < len(waiting):
            before = len(order)
            await asyncio.sleep(0)
            held = max(held, len(order) - before)

    _run(both())
    assert order == list(range(40))
    assert held <= 3


def test_a_request_that_arrives_is_answered_after_the_step_that_is_being_taken() -> None:
    taken = 0

    async def step() -> None:
        nonlocal taken
        while True:
            time.sleep(0.0015)  # noqa: ASYNC251 - it holds the loop
            taken += 1
            await asyncio.sleep(0)

    async def both() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            reader, writer = await asyncio.open_connection(sock=theirs)
            waiting = [_begin(step) for _ in range(30)]
            await asyncio.sleep(0.1)
            assert taken
            waits = []
            for _ in range(20):
                before = taken
                ours.send(b"?")
                await reader.readexactly(1)
                waits.append(taken - before)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            writer.close()
        assert max(waits) <= 5  # of thirty that are ready

    _run(both())


def test_what_a_task_behind_begins_is_behind_and_whom_it_wakes_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precedence, "PATIENCE_SECONDS", 60.0)
    order: list[str] = []

    async def both() -> None:
        woken = asyncio.Event()

        async def child() -> None:
            order.append("child")

        async def parent() -> None:
            children = [asyncio.create_task(child()) for _ in range(3)]
            woken.set()
            await asyncio.wait(children)

        async def ahead() -> None:
            await woken.wait()
            await _hop(10, lambda: order.append("ahead"))

        await asyncio.gather(ahead(), _begin(parent))

    _run(both())
    assert order == ["ahead"] * 10 + ["child"] * 3


def test_what_breaks_off_the_loop_behind_leaves_the_rest_to_be_taken() -> None:
    done: list[str] = []

    async def leave() -> None:
        raise SystemExit(3)

    async def clean() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            done.append("cleaned")

    async def both() -> None:
        tasks = [_begin(clean), _begin(leave)]
        await asyncio.wait(tasks)

    with pytest.raises(SystemExit):
        _run(both())
    assert done == ["cleaned"]


async def test_errands_go_behind(database: Database) -> None:
    seen: list[bool] = []
    stepped = asyncio.Event()

    async def step() -> None:
        seen.append(precedence.is_behind())
        stepped.set()

    errands = Errands(database, step)
    errands.open()
    await stepped.wait()
    await errands.close()
    assert seen == [True] and not precedence.is_behind()
