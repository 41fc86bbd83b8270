"""Answers leave in one write, whatever they are made of, and nothing is held back for long."""

import asyncio
from typing import Any

import pytest

from graph.wire import Joining

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Transport:
    """Notes what reaches the system, call by call."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        """A call."""
        self.calls.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        """A call, too."""
        self.calls.append(b"".join(parts))

    def is_closing(self) -> bool:
        """Whether nothing may be written any more."""
        return self.closing

    def close(self) -> None:
        """The end."""
        self.closing = True


def joining() -> tuple[Any, Transport]:
    """What is tried, and what it writes to."""
    transport = Transport()
    given: Any = transport
    return Joining(given, asyncio.get_running_loop()), transport


async def test_head_and_body_are_one_write() -> None:
    joined, transport = joining()
    joined.write(HEAD)
    joined.write(b"body")
    joined.write(b"more")
    await asyncio.sleep(0)
    assert transport.calls == [HEAD + b"body", b"more"]


async def test_a_head_that_nothing_follows_waits_one_turn() -> None:
    joined, transport = joining()
    joined.write(HEAD)
    assert transport.calls == []
    await asyncio.sleep(0)
    assert transport.calls == [HEAD]
    joined.write(b"event")
    assert transport.calls == [HEAD, b"event"]


async def test_two_heads_keep_their_order() -> None:
    joined, transport = joining()
    joined.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    joined.write(HEAD)
    joined.write(b"body")
    await asyncio.sleep(0)
    assert b"".join(transport.calls) == b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"body"


@pytest.mark.parametrize("is_gone", [False, True])
async def test_what_is_held_leaves_before_the_end_and_not_after_it(is_gone: bool) -> None:
    joined, transport = joining()
    joined.write(HEAD)
    if is_gone:
        transport.closing = True  # the other side went away meanwhile
        await asyncio.sleep(0)
    else:
        joined.close()
    assert transport.closing and transport.calls == ([] if is_gone else [HEAD])
