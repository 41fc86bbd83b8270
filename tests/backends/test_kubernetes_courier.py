"""The courier's answers, over real sockets: what breaks off half way is no order."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from backends import frames
from backends.kubernetes import courier
from tests.backends import disks

KEY = {"X-Rungraph-Key": "key"}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    os.mkfifo(tmp_path / "control")
    monkeypatch.setattr(courier, "BOX", str(tmp_path))
    monkeypatch.setattr(courier, "JOURNAL", str(tmp_path / "frames"))
    return tmp_path


@pytest.fixture
def carrier(box: Path) -> courier.Carrier:
    return courier.Carrier({"key": "key", "grace": 30, "gang": True})


@pytest.fixture
def port(carrier: courier.Carrier) -> Iterator[int]:
    answers = type("Answers", (courier.Answers,), {"carrier": carrier})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(10)


def said(port: int, order: str, length: int, body: bytes) -> bytes:
    """What it answers to an order of which no more comes than this."""
    head = f"POST /{order} HTTP/1.1\r\nX-Rungraph-Key: key\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        line.sendall(head.encode() + body)
        line.shutdown(socket.SHUT_WR)
        answer = b""
        while part := line.recv(1 << 16):
            answer += part
        return answer


@pytest.mark.parametrize("came", [b"", b"{", b'{"RANK": "1"'])
def test_a_gang_does_not_begin_by_an_order_that_broke_off(port: int, box: Path, came: bytes) -> None:
    whole = b'{"RANK": "1"}'
    assert b" 400 " in said(port, "go", len(whole), came)
    assert not (box / "peers.sh").exists()
    assert b" 200 " in said(port, "go", len(whole), whole)
    assert (box / "peers.sh").read_text() == "export RANK='1'\n"


def test_nothing_is_released_by_an_order_that_broke_off(port: int) -> None:
    assert b" 400 " in said(port, "release", 18, b"")
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    asked.request("GET", "/state", headers=KEY)
    assert asked.getresponse().status == 200
    asked.close()


def test_a_disk_that_is_full_holds_up_what_is_printed_and_tears_nothing(
    carrier: courier.Carrier, box: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [b"%05d" % number * 1000 for number in range(30)]

    def say() -> None:
        for line in lines:
            carrier._keep(courier.STDOUT, [(line, False)])

    printing = threading.Thread(target=say, daemon=True)
    with disks.full(1 << 16):
        printing.start()
        while "cannot be kept" not in capfd.readouterr().err:
            time.sleep(0.01)
        carrier.use(["usage"])
        assert carrier.wait(-1, 0)["size"] < (box / "frames").stat().st_size == 1 << 16
    printing.join(10)
    assert not printing.is_alive()
    carrier.use(["again"])
    told = frames.parse((box / "frames").read_bytes(), 0, 1 << 30)
    assert [piece.data for piece in told.pieces] == [*lines, b"again"]
    assert told.next_offset == carrier.state()["size"]
