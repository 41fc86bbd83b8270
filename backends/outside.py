"""Reading what lies outside: a local file under an allowed folder, http, and object stores through fsspec.

A server that fetches what it is told reaches what its users cannot, so what may be reached is decided here:
files lie under configured roots, links resolved; a host's every address is public, or the host is allowed by
name or network. The address that was checked is the one that is connected to, at every redirect again, so
that no name can change its meaning in between. Everything blocks, for a thread.
"""

import base64
import http.client
import importlib
import ipaddress
import json
import os
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import unquote, urljoin, urlsplit

MOST_REDIRECTS = 5
_PATIENCE_SECONDS = 30.0
ANSWER_SECONDS = 60.0
"""How long a host may take to answer, all in all: a socket's timeout is for each byte anew."""
_OPTIONS = {
    "s3": ("key", "secret", "token", "endpoint_url", "region"),
    "gs": ("token", "project"),
    "hdfs": ("user", "kerb_ticket"),
}
"""What a secret's JSON may say for each store; nothing else reaches its library."""
_LIBRARIES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "hdfs": ("pyarrow", "hdfs")}


class Refused(Exception):
    """The place cannot or may not be read; the message says why, and holds no credential."""


class Source(Protocol):
    """What is read, from its beginning."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A place that answers. `size_bytes` is None where it does not say beforehand."""

    source: Source
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be reached: files under `roots`; public addresses, and `hosts`, which are names or networks."""

    roots: tuple[Path, ...] = ()
    hosts: frozenset[str] = frozenset()

    def check_file(self, path: Path) -> Path:
        """The file behind a path; raises Refused outside the roots, wherever links lead."""
        found = path.resolve()
        if not any(found.is_relative_to(root.resolve()) for root in self.roots):
            raise Refused("this folder is not among RUNGRAPH_SOURCE_ROOTS of the server")
        return found

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of which may be connected to; raises Refused."""
        try:
            found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            raise Refused(f"there is no host {host}") from error
        for address in found:
            if not self._allows(host, address):
                raise Refused(f"{host} is {address}, which is not public: see RUNGRAPH_SOURCE_HOSTS")
        return found

    def _allows(self, host: str, address: str) -> bool:
        where = ipaddress.ip_address(address.partition("%")[0])
        # An IPv4 address in IPv6 clothes is judged as what it is.
        where = _undressed(where)
        if host.lower() in self.hosts or (where.is_global and not where.is_multicast):
            return True
        return any(where in network for network in self._networks())

    def _networks(self) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        for host in self.hosts:
            with suppress(ValueError):
                yield ipaddress.ip_network(host, strict=False)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _undressed(where: Any) -> Any:
    """The IPv4 address that an IPv6 address stands for, mapped, by 6to4 or by NAT64; else the address itself."""
    if where.version == 6 and where in _NAT64:
        return ipaddress.IPv4Address(where.packed[-4:])
    return getattr(where, "ipv4_mapped", None) or getattr(where, "sixtofour", None) or where


@contextmanager
def opened(url: str, credentials: str | None, policy: Policy) -> Iterator[Opened]:
    """What lies at a URL; raises Refused. `credentials` is a secret's value, in the scheme's form."""
    scheme = urlsplit(url).scheme
    opening = _file if scheme == "file" else _web if scheme in ("http", "https") else _store
    with refusing(), opening(url, credentials, policy) as found:
        yield found


@contextmanager
def refusing() -> Iterator[None]:
    """What fails while reading is a refusal, in words: also a host's answer that Python makes no sense of."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Refused(f"cannot be read: {type(error).__name__}: {_printable(str(error))}"[:500]) from error


@contextmanager
def _file(url: str, _credentials: str | None, policy: Policy) -> Iterator[Opened]:
    path = policy.check_file(Path(unquote(urlsplit(url).path)))
    # Not through a link that was put there since, and without waiting for a pipe's writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Refused("this is no regular file")
        yield Opened(_Steady(file), status.st_size)


class _Steady:
    """A file that is at its end what it was at its beginning, or else is refused there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._was = file, _state(file)

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        if not data and _state(self._file) != self._was:
            raise Refused("changed while it was read")
        return data


def _state(file: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


@contextmanager
def _web(url: str, credentials: str | None, policy: Policy) -> Iterator[Opened]:
    origin = urlsplit(url)
    for _ in range(MOST_REDIRECTS + 1):
        here = urlsplit(url)
        ours = (here.scheme, here.netloc) == (origin.scheme, origin.netloc)
        with ExitStack() as connected:
            connection, line = _connect(here.scheme, here.hostname or "", here.port, policy)
            connected.callback(_close, connection, line)
            with _in_time(line):
                connection.request("GET", _target(here), headers=_headers(credentials if ours else None))
                response = connection.getresponse()
                body = _Body(response, line)
                connected.callback(body.close)
            if 300 <= response.status < 400 and (location := response.headers.get("Location")):
                url = urljoin(url, location)
                _check_redirect(here.scheme, url)
                continue
            if response.status != 200:
                raise Refused(f"{here.hostname} answered {response.status} {_printable(response.reason)}")
            length = response.headers.get("Content-Length", "")
            yield Opened(body, int(length) if length.isdecimal() and length.isascii() else None)
            return
    raise Refused(f"more than {MOST_REDIRECTS} redirects")


class _Body:
    """The body of an answer, which may be closed while another thread reads it: the reader is woken first.

    http.client's own objects are not made for two threads.
    """

    def __init__(self, response: http.client.HTTPResponse, line: socket.socket) -> None:
        self._response, self._line, self._turn = response, line, threading.Lock()

    def read(self, size: int, /) -> bytes:
        with self._turn:
            return self._response.read(size)

    def close(self) -> None:
        _hang_up(self._line)
        with self._turn:
            self._response.close()


def _printable(text: str) -> str:
    return "".join(letter for letter in text[:200] if letter.isprintable())


def _close(connection: http.client.HTTPConnection, line: socket.socket) -> None:
    line.close()
    connection.close()


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


@contextmanager
def _in_time(line: socket.socket) -> Iterator[None]:
    """Hang up, and raise Refused, where what is done takes too long."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _hang_up(line)

    timer = threading.Timer(ANSWER_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
        timer.join()
    if late.is_set():
        raise Refused(f"did not answer within {ANSWER_SECONDS:g} s")


def _connect(
    scheme: str, host: str, port: int | None, policy: Policy
) -> tuple[http.client.HTTPConnection, socket.socket]:
    """A connection to an address that was checked, and its line, to hang up whoever reads from it.

    Proxies of the environment are not asked.
    """
    port = port or (443 if scheme == "https" else 80)
    address = policy.addresses(host, port)[0]
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_SECONDS)
    raw = socket.create_connection((address, port), _PATIENCE_SECONDS)
    line = raw.dup()
    if scheme != "https":
        connection.sock = raw
        return connection, line
    connection.default_port = 443  # so that the Host header leaves it out
    try:
        with _in_time(line):
            connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
    except (OSError, ValueError, Refused):
        raw.close()
        line.close()
        raise
    return connection, line


def _check_redirect(scheme: str, url: str) -> None:
    there = urlsplit(url)
    if there.scheme not in ("http", "https") or (scheme, there.scheme) == ("https", "http"):
        raise Refused(f"redirects from {scheme} to {there.scheme}")
    if there.username is not None or not there.hostname:
        raise Refused("redirects to a URL that names no host, or a user")


def _target(parts: Any) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _headers(credentials: str | None) -> dict[str, str]:
    """`user:password` is Basic, any other value a Bearer token."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "rungraph"}
    if credentials is not None:
        basic = base64.b64encode(credentials.encode()).decode()
        headers["Authorization"] = f"Basic {basic}" if ":" in credentials else f"Bearer {credentials}"
        # What cannot be a header would stand in the message of the exception that says so.
        if not credentials.isprintable() or not (credentials.isascii() or ":" in credentials):
            raise Refused("its secret is neither user:password nor a token")
    return headers


@contextmanager
def _store(url: str, credentials: str | None, policy: Policy) -> Iterator[Opened]:
    scheme = urlsplit(url).scheme
    library, extra = _LIBRARIES[scheme]
    try:
        importlib.import_module(library)
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        raise Refused(f"{scheme}:// needs an extra: install rungraph-server[{extra}]") from error
    options = _options(scheme, credentials, policy)
    try:
        files, path = fsspec.url_to_fs(url, **options)
        size = files.size(path)
        file: IO[bytes] = files.open(path, "rb")
    except Exception as error:
        # The stores' libraries raise what they like, and may put what they were given into words.
        raise Refused(f"the store refused: {type(error).__name__}") from error
    with file:
        yield Opened(file, size)


def _options(scheme: str, credentials: str | None, policy: Policy) -> dict[str, Any]:
    """What the store's library is told, of a secret's JSON object."""
    if credentials is None:
        return {"anon": True} if scheme == "s3" else {}
    try:
        given = json.loads(credentials)
    except ValueError as error:
        raise Refused("its secret is not JSON") from error
    known = _OPTIONS[scheme]
    if not isinstance(given, dict) or set(given) - set(known):
        raise Refused(f"its secret is no JSON object of {', '.join(known)}")
    if endpoint := given.get("endpoint_url"):
        parts = urlsplit(str(endpoint))
        policy.addresses(parts.hostname or "", parts.port or 443)
    if "region" in given:
        given["client_kwargs"] = {"region_name": given.pop("region")}
    return given
