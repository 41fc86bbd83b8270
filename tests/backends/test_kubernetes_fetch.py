"""The courier that fetches what a job is given, from a listener that breaks off in every way that sockets have."""

import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends.kubernetes import fetch

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def archive() -> bytes:
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w|") as tar:
        for name, content in (("source/train.py", b"print(1)\n" * 5000), ("complete", b"")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return kept.getvalue()


def in_chunks(content: bytes) -> bytes:
    parts = [content[at : at + 1000] for at in range(0, len(content), 1000)]
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


@contextmanager
def listener(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Gives one answer a connection, as far as it goes, and hangs up; the requests that came."""
    asked: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(1 << 16))
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join(10)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = {name: str(tmp_path / name) for name in fetch.FOLDERS}
    monkeypatch.setattr(fetch, "FOLDERS", made)
    for path in made.values():
        Path(path).mkdir()
    return tmp_path


WHOLE = in_chunks(archive())


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"", id="before a word"),
        pytest.param(b"HTTP", id="within the status"),
        pytest.param(b"nonsense\r\n\r\n", id="with nonsense"),
        pytest.param(OK + b"Transfer-Enc", id="within the headers"),
        pytest.param(CHUNKED, id="after the headers"),
        pytest.param(CHUNKED + b"3", id="within a chunk's length"),
        pytest.param(CHUNKED + b"nonsense\r\n", id="with a length that is none"),
        pytest.param(WHOLE[: len(WHOLE) // 2], id="half way"),
        pytest.param(WHOLE[:-2000], id="before the last entry"),
        pytest.param(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", id="away"),
    ],
)
def test_a_source_that_breaks_off_is_fetched_again(broken: bytes, folders: Path) -> None:
    with listener(broken, WHOLE) as (url, asked):
        fetch._insist(lambda: fetch._fetch_source({"url": url, "token": "t"}))
    assert (folders / "source" / "train.py").read_bytes() == b"print(1)\n" * 5000
    assert len(asked) == 2


def test_an_input_goes_on_where_it_broke_off_however_often(folders: Path) -> None:
    content = bytes(range(256)) * 1000

    def sent(begin: int, end: int) -> bytes:
        status = b"HTTP/1.1 206 Partial Content\r\n" if begin else OK
        return status + b"Content-Length: %d\r\n\r\n" % (len(content) - begin) + content[begin:end]

    with listener(sent(0, 100_000), sent(100_000, 200_000), sent(200_000, len(content))) as (url, asked):
        fetch._insist(lambda: fetch._fetch_input({"url": url, "token": "t"}, "data.bin"))
    assert (folders / "input" / "data.bin").read_bytes() == content
    assert b"Range: bytes=100000-" in asked[1] and b"Range: bytes=200000-" in asked[2]


def test_a_refusal_is_not_tried_again(folders: Path) -> None:
    no = b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nunknown"
    with listener(no) as (url, asked), pytest.raises(fetch.Refused, match="404 unknown"):
        fetch._insist(lambda: fetch._fetch_source({"url": url, "token": "t"}))
    assert len(asked) == 1
