"""Frames that are made once are those that the WebSocket library makes."""

import pytest
from websockets.frames import Frame, Opcode

from graph.frames import framed, push_of


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_message_of_any_size_is_one_frame_of_text(size: int) -> None:
    whole = b"a" * size
    usual = Frame(Opcode.TEXT, whole).serialize(mask=False)
    assert framed(whole) == framed(whole[: size // 2], whole[size // 2 :]) == usual


def test_a_connection_of_another_servers_protocol_is_not_pushed_to() -> None:
    assert not push_of({"type": "websocket"})(framed(b"{}"))
    assert not push_of({"type": "websocket", "extensions": {"websocket.http.response": {}}})(framed(b"{}"))
