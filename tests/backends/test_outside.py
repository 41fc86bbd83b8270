"""What lies outside: read where it may be, and refused in words where it may not."""

import importlib.util
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from backends import outside
from backends.outside import Policy, Refused
from tests.backends.places import Place, serving, trickle
from tests.conftest import absent

LOCAL = Policy(hosts=frozenset({"127.0.0.1"}))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with serving() as found:
        yield found


def read(url: str, policy: Policy, credentials: str | None = None) -> tuple[bytes, int | None]:
    with outside.opened(url, credentials, policy) as found:
        parts = []
        while part := found.source.read(7):
            parts.append(part)
        return b"".join(parts), found.size_bytes


def test_a_page_is_read_with_its_size(place: Place) -> None:
    assert read(place.put("/a?b=1", b"some content"), LOCAL) == (b"some content", 12)


@pytest.mark.parametrize(
    ("credentials", "header"),
    [(None, None), ("user:pass", "Basic dXNlcjpwYXNz"), ("token", "Bearer token")],
)
def test_credentials_go_where_they_belong(place: Place, credentials: str | None, header: str | None) -> None:
    read(place.put("/c", b"x"), LOCAL, credentials)
    assert place.asked[-1] == ("/c", header)


def test_credentials_follow_no_redirect_to_another_place(place: Place) -> None:
    with serving() as other:
        target = other.put("/there", b"moved")
        assert read(place.put("/here", b"", 302, Location=target), LOCAL, "token") == (b"moved", 5)
        assert (place.asked[-1], other.asked) == (("/here", "Bearer token"), [("/there", None)])
    place.put("/same", b"near")
    assert read(place.put("/rel", b"", 301, Location="same"), LOCAL, "token") == (b"near", 4)
    assert place.asked[-1] == ("/same", "Bearer token")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "redirects from http to file"),
        ("http://user@127.0.0.1/", "redirects to a URL"),
        ("http://169.254.169.254/latest/meta-data", "which is not public"),
        ("/loop", "more than 5 redirects"),
        ("http://[", "cannot be read: ValueError"),
        ("http://127.0.0.1:99999/", "cannot be read: ValueError"),
        ("/caf\xe9", "cannot be read: UnicodeEncodeError"),
    ],
)
def test_a_redirect_leads_nowhere_that_may_not_be_reached(place: Place, location: str, reason: str) -> None:
    url = place.put("/loop", b"", 302, Location=location)
    with pytest.raises(Refused, match=reason):
        read(url, LOCAL)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "0.0.0.0",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "[fe80::1]",
        "224.0.0.1",
        "100.64.0.1",
        "[2002:7f00:1::]",
        "[64:ff9b::a9fe:a9fe]",
    ],
)
def test_what_is_not_public_is_refused_unless_it_is_allowed(host: str) -> None:
    with pytest.raises(Refused, match="is not public"):
        read(f"http://{host}:1/", Policy())


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8"])
def test_hosts_are_allowed_by_name_or_network(place: Place, allowed: str) -> None:
    url = place.put("/allowed", b"yes")
    assert read(url, Policy(hosts=frozenset({allowed}))) == (b"yes", 3)
    with pytest.raises(Refused, match="is not public"):
        read(url, Policy(hosts=frozenset({"10.0.0.0/8", "example"})))


def test_what_does_not_answer_well_says_so(place: Place) -> None:
    with pytest.raises(Refused, match="answered 404"):
        read(place.url + "/nothing", LOCAL)
    with pytest.raises(Refused, match="cannot be read: ConnectionRefusedError"):
        read("http://127.0.0.1:1/", LOCAL)
    with pytest.raises(Refused, match="there is no host"):
        read("http://no-such-host.invalid/", LOCAL)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_who_does_not_come_to_an_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(outside, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as answering:
        hung_up = answering.submit(trickle, server, said)
        with pytest.raises(Refused, match=r"did not answer within 0\.2 s"):
            read(f"http://127.0.0.1:{server.getsockname()[1]}/", LOCAL)
        assert hung_up.result(timeout=60)


def test_closing_wakes_who_reads_a_body_that_does_not_come() -> None:
    said = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(2) as beside:
        hung_up = beside.submit(trickle, server, said)
        with outside.opened(f"http://127.0.0.1:{server.getsockname()[1]}/", None, LOCAL) as found:
            reading = beside.submit(found.source.read, 99)
        with suppress(ConnectionResetError):  # where bytes of the peer's meet the line that was hung up
            assert len(reading.result(timeout=60)) < 99
        assert hung_up.result(timeout=60)


def test_a_size_that_is_no_number_is_no_size(place: Place) -> None:
    url = place.put("/odd", b"", Content_Length="\xb2")
    assert read(url, LOCAL) == (b"", None)


def test_a_token_that_no_header_can_hold_is_not_repeated(place: Place) -> None:
    for token in ("sec\u2603ret", "sec\nret"):
        with pytest.raises(Refused) as refused:
            read(place.url + "/", LOCAL, token)
        assert "ret" not in str(refused.value).replace("secret", "") and "sec\u2603" not in repr(
            refused.value
        )


def test_a_file_is_read_under_the_roots_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a b.txt").write_text("content")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret.txt")
    (root / "inside").symlink_to(root / "a b.txt")
    policy = Policy((root,))
    assert read(f"file://{root}/a%20b.txt", policy) == (b"content", 7)
    assert read(f"file://{root}/inside", policy) == (b"content", 7)
    for path in (root / "link", root / ".." / "secret.txt", tmp_path / "secret.txt", Path("/etc/passwd")):
        with pytest.raises(Refused, match="RUNGRAPH_SOURCE_ROOTS"):
            read(f"file://{path}", policy)
    with pytest.raises(Refused, match="RUNGRAPH_SOURCE_ROOTS"):
        read(f"file://{root}/a%20b.txt", Policy())


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    policy = Policy((tmp_path,))
    for path, reason in ((tmp_path / "pipe", "no regular file"), (tmp_path / "none", "FileNotFoundError")):
        with pytest.raises(Refused, match=reason):
            read(f"file://{path}", policy)
    with pytest.raises(Refused):
        read(f"file://{tmp_path}", policy)


@pytest.mark.parametrize("now", [b"another", b"short", b"much longer"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, now: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"content")
    os.utime(path, (1, 1))
    with outside.opened(f"file://{path}", None, Policy((tmp_path,))) as found:
        assert found.source.read(3) == b"con"
        path.write_bytes(now)
        with pytest.raises(Refused, match="changed while it was read"):
            while found.source.read(3):
                pass


@pytest.mark.parametrize(
    "said", [b"", b"7\r\n", b"7\r\ncon", b"7\r\ncontent\r\n", b"7\r\ncontent\r\nnonsense\r\n"]
)
def test_chunks_without_the_last_one_are_refused(said: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1 << 16)
                peer.sendall(head + said)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Refused, match="cannot be read"):
            read(f"http://127.0.0.1:{server.getsockname()[1]}/", LOCAL)
        thread.join()


@pytest.mark.parametrize(("scheme", "library", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gs")])
def test_a_store_whose_library_is_absent_names_the_extra(scheme: str, library: str, extra: str) -> None:
    if importlib.util.find_spec(library) is not None:
        pytest.skip(f"{library} is installed")
    with pytest.raises(Refused, match=rf"needs an extra: install rungraph-server\[{extra}\]"):
        read(f"{scheme}://bucket/key", Policy())


@pytest.mark.parametrize(
    "credentials", ["no json", "[]", '{"anon": true}', '{"key": 1, "client_kwargs": {}}']
)
def test_a_stores_secret_says_only_what_it_may(credentials: str) -> None:
    with pytest.raises(Refused, match="its secret is n"):
        outside._options("s3", credentials, Policy())


def test_a_stores_endpoint_is_under_the_same_rule() -> None:
    given = '{"key": "k", "secret": "s", "region": "eu", "endpoint_url": "http://127.0.0.1:9000"}'
    with pytest.raises(Refused, match="is not public"):
        outside._options("s3", given, Policy())
    options = outside._options("s3", given, LOCAL)
    assert options["client_kwargs"] == {"region_name": "eu"} and options["key"] == "k"


def test_a_store_is_read_through_its_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("fsspec") is None:
        absent("fsspec", "no extra for stores is installed")
    from fsspec import register_implementation
    from fsspec.implementations.memory import MemoryFileSystem

    class Store(MemoryFileSystem):  # type: ignore[misc]
        """fsspec's own, under the name of a store whose library is not here."""

        protocol = "gs"
        given: ClassVar[list[Any]] = []

        def __init__(self, **options: Any) -> None:
            self.given.append(options)
            super().__init__()

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(MemoryFileSystem._strip_protocol(path.removeprefix("gs://")))

    register_implementation("gs", Store, clobber=True)
    monkeypatch.setitem(outside._LIBRARIES, "gs", ("fsspec", "gs"))
    Store(skip_instance_cache=True).pipe_file("/bucket/key.bin", b"of the store")
    assert read("gs://bucket/key.bin", Policy(), '{"token": "t"}') == (b"of the store", 12)
    assert {"token": "t"} in Store.given
    with pytest.raises(Refused, match="the store refused: FileNotFoundError"):
        read("gs://bucket/none", Policy(), '{"token": "t"}')
