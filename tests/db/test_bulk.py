"""Bulk commands: an answer for each item in order, and room for others between any two."""

import asyncio

import pytest

from db import bulk, errors


async def test_each_item_has_its_answer_in_its_place() -> None:
    async def act(index: int, item: str) -> str:
        if item == "bad":
            raise errors.Conflict(f"{index} is bad")
        return item.upper()

    first, second, third = await bulk.each(["a", "bad", "b"], "items", act)
    assert (first, str(second), third) == ("A", "1 is bad", "B")
    with pytest.raises(errors.Invalid, match="at most 100 at once, not 101"):
        await bulk.each(["a"] * 101, "items", act)


async def test_others_come_between_two_items() -> None:
    told: list[str] = []

    async def act(_index: int, item: str) -> None:
        told.append(item)

    async def other() -> None:
        for _ in range(2):
            told.append("other")
            await asyncio.sleep(0)

    asking = asyncio.create_task(other())
    await bulk.each(["a", "b", "c"], "items", act)
    await asking
    assert told == ["a", "other", "b", "other", "c"]
