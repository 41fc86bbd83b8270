"""One server over HTTP, asked by one thread with the standard library alone: no httpx where training code runs.

What comes back is one of four things: data; Away, ask the same again later; TooMuch, ask for less; Refused, do
not ask again.
"""

import http.client
import json
import socket
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
MOST_BYTES = 16 << 20
"""Of an answer."""
_BROKEN = (OSError, http.client.HTTPException, ValueError)
"""What a connection raises; ValueError is about an address that is none."""
_LATER = frozenset({"UNAVAILABLE", "INTERNAL"})


class Away(Exception):
    """The server does not answer, or not as itself; after `seconds` it may, where it says so."""

    def __init__(self, message: str, *, seconds: float | None = None, fault: bool = False) -> None:
        super().__init__(message)
        self.seconds = seconds
        self.fault = fault
        """Whether the server was there and stumbled over this very request."""


class TooMuch(Exception):
    """The server takes less than this at once."""


class Refused(Exception):
    """The server will not do this, however often it is asked."""

    def __init__(self, code: str, message: str, path: list[str]) -> None:
        super().__init__(message)
        self.code = code
        self.path = path


class Wire:
    """A connection that is made when it is needed and kept."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, token: str | None, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The payload of the one mutation in `query`; raises Away, TooMuch or Refused."""
        body = json.dumps({"query": query, "variables": variables}, allow_nan=False).encode()
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/graphql-response+json, application/json;q=0.9",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        status, retry_after, text = self._post(body, headers)
        if status == 413:
            raise TooMuch("the server takes smaller requests")
        if status == 429 or status >= 500:
            raise Away(f"the server answers {status}", seconds=retry_after)
        return _payload(status, text, f"{self.url} answers {status}, not as a Rungraph server does")

    def close(self) -> None:
        """Let the connection go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None, bytes]:
        kept = self._connection is not None
        try:
            return self._exchange(body, headers)
        except _BROKEN as error:
            self.close()
            # A kept connection may have been closed for its idleness, which says nothing about the server.
            if not kept or isinstance(error, TimeoutError):
                raise Away(f"{self.url} cannot be reached: {error or type(error).__name__}") from error
        try:
            return self._exchange(body, headers)
        except _BROKEN as error:
            self.close()
            raise Away(f"{self.url} cannot be reached: {error or type(error).__name__}") from error

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("POST", self._target(), body, dict(headers))
        response = self._connection.getresponse()
        text = response.read(MOST_BYTES)
        if response.will_close or not response.isclosed():
            self.close()
        after = response.getheader("Retry-After", "")
        return response.status, float(after) if after.isdecimal() else None, text

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        secure = parts.scheme == "https"
        proxy = None if _is_near(host) else _proxy(parts.scheme, host)
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        if proxy is None:
            made = kind(host, port, timeout=CONNECT_SECONDS)
        else:
            made = kind(proxy[0], proxy[1], timeout=CONNECT_SECONDS)
            made.set_tunnel(host, port or (443 if secure else 80))
        made.connect()
        assert made.sock is not None
        made.sock.settimeout(ANSWER_SECONDS)
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _target(self) -> str:
        return f"{urlsplit(self.url).path.rstrip('/')}/graphql"


def _payload(status: int, text: bytes, strange: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
        faults, data = answer.get("errors"), answer.get("data")
    except (ValueError, AttributeError) as error:
        raise Away(strange) from error
    if faults:
        first = faults[0]
        told = first.get("extensions") or {}
        _raise(told.get("code", "INVALID"), first.get("message", ""), first.get("path") or [], told)
    if not isinstance(data, dict) or len(data) != 1:
        raise Away(strange)
    (payload,) = data.values()
    if not isinstance(payload, dict):
        raise Away(strange)
    for refusal in payload.get("errors") or ():
        _raise(refusal["code"], refusal["message"], refusal["path"], refusal)
    return payload


def _raise(code: str, message: str, path: list[Any], told: Mapping[str, Any]) -> None:
    if code in _LATER or (told.get("retryable") and code != "LIMIT_EXCEEDED"):
        raise Away(message, fault=code == "INTERNAL")
    parts = [str(part) for part in path]
    if code == "LIMIT_EXCEEDED" and not ("producer" in parts or (parts[-1:] and parts[-1].isdecimal())):
        raise TooMuch(message)  # else it is one part that is refused, which is no less of a smaller request
    raise Refused(code, message, parts)


def _is_near(host: str) -> bool:
    """No proxy of the environment reaches this machine's loopback."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _proxy(scheme: str, host: str) -> tuple[str, int] | None:
    found = urllib.request.getproxies().get(scheme)
    if not found or urllib.request.proxy_bypass(host):
        return None
    parts = urlsplit(found if "//" in found else f"//{found}")
    return parts.hostname or "", parts.port or 8080
