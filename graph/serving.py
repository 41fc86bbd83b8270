"""Serving: the process around the application (serve.py is the entrance)."""

import asyncio
import errno
import fcntl
import ipaddress
import logging
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any, TextIO

import structlog
import uvicorn
import uvloop
from pydantic import ValidationError

from backends.precedence import Loop
from db import schema
from graph import garbage, working
from graph.app import create_app, near, open_alone
from graph.connections import Connection
from graph.frames import Protocol
from graph.settings import Settings, misspelt

IN_USE = 6
"""The exit code for what is another's: a port, a home."""
PING_SECONDS = 20.0
"""A WebSocket whose peer does not answer a ping within this time is closed."""
SWITCH_SECONDS = 0.0005
"""How long a thread that computes may keep the event loop waiting; Python's 5 ms are longer than most answers take."""


def serve(host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. One server a home."""
    settings = _settings()
    _log(settings.log_level)
    working.close_home(settings.home)
    with _lock(settings):
        if not _is_loopback(host):
            sys.stderr.write(_EXPOSED.format(host=host, home=settings.home))
        listeners = _listen(host, port)
        port = listeners[0].getsockname()[1]
        own_url = near(host, port)
        url = settings.public_url or own_url
        app = create_app(settings, url=url, own_url=own_url, hosts=frozenset({host}))
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop=f"{Loop.__module__}:{Loop.__qualname__}",
            http=Connection,
            ws=Protocol,
            ws_per_message_deflate=False,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            ws_max_size=1 << 20,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        server = _Server(config, settings, url)
        with suppress(SystemExit):  # uvicorn's codes mean something else here
            server.run(listeners)
        if not server.started:
            raise SystemExit(1)


def supervise() -> None:
    """Do what a server does but for answering, until SIGINT or SIGTERM. One a home."""
    settings = _settings()
    _log(settings.log_level)
    working.close_home(settings.home)
    if not settings.public_url:
        raise SystemExit(
            "rungraph: RUNGRAPH_PUBLIC_URL must say where jobs reach a server: this one has no API"
        )
    with _lock(settings):
        uvloop.run(_supervise(settings), loop_factory=Loop)


async def _supervise(settings: Settings) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        await open_alone(stack, settings, settings.public_url)
        structlog.get_logger(__name__).info("supervising", home=str(settings.home))
        with garbage.collecting():
            await ended.wait()


def migrate() -> None:
    """Create the database or bring it up to date."""
    settings = _settings()
    _log(settings.log_level)
    try:
        asyncio.run(schema.upgrade(settings.database))
    except OSError as error:
        raise SystemExit(
            f"rungraph: RUNGRAPH_DATABASE_URL: the database cannot be reached: {error}"
        ) from error


def _settings() -> Settings:
    """The settings, or an end that says which variable is wrong and why; of one that is none it is told."""
    for variable, meant in misspelt(os.environ):
        sys.stderr.write(f"rungraph: {variable} is no setting, and changes nothing: {meant} is one\n")
    try:
        return Settings()
    except ValidationError as error:
        told = [
            f"RUNGRAPH_{'_'.join(map(str, e['loc'])).upper()}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise SystemExit("rungraph: " + "; ".join(told)) from error


_EXPOSED = """\
rungraph: listening on {host}, beyond this machine. Whoever holds a token can run code here as this user;
rungraph: keep {home}/token secret, and put TLS in front: tokens and cookies travel in the clear.
"""


class _Server(uvicorn.Server):
    """Says where it is in the home while it serves, for the command to find."""

    def __init__(self, config: uvicorn.Config, settings: Settings, url: str) -> None:
        super().__init__(config)
        self._file = settings.home / "url"
        self._url = url
        self._collecting = ExitStack()

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            sys.setswitchinterval(SWITCH_SECONDS)
            self._collecting.enter_context(garbage.collecting())
            self._file.write_text(f"{self._url}\n")
            structlog.get_logger(__name__).info("serving", url=self._url)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        with suppress(FileNotFoundError):
            self._file.unlink()
        self.config.app.state.endpoint.end_streams()  # type: ignore[union-attr]
        await super().shutdown(sockets)  # type: ignore[arg-type]
        self._collecting.close()


def _lock(settings: Settings) -> TextIO:
    """Held while a server uses a home; the kernel lets go of it, however the server ends."""
    file = (settings.home / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"rungraph: another server uses {settings.home}\n")
        raise SystemExit(IN_USE) from None
    os.set_inheritable(file.fileno(), False)
    return file


def _listen(host: str, port: int) -> list[socket.socket]:
    """Sockets at every address of a host, before anything is opened: nobody is answered before that is done."""
    made: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in _addresses(host, port):
            listener = socket.socket(family, kind, protocol)
            made.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], made[0].getsockname()[1] if len(made) > 1 else port, *address[2:]))
    except OSError as error:
        for listener in made:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            sys.stderr.write(
                f"rungraph: something listens on port {port} of {host} already: give --port another\n"
            )
            raise SystemExit(IN_USE) from None
        raise SystemExit(f"rungraph: cannot listen on {host}:{port}: {error.strerror or error}") from None
    return made


def _addresses(host: str, port: int) -> list[Any]:
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(found))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _log(level: str) -> None:
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise SystemExit(f"rungraph: RUNGRAPH_LOG_LEVEL is debug, info, warning or error, not {level!r}")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(bool_as_flag=False)
            if not sys.stderr.isatty()
            else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr)
    logging.getLogger("uvicorn.error").addFilter(_in_words)
    logging.getLogger("strawberry.execution").setLevel(logging.CRITICAL)  # Masking logs faults, once


def _in_words(record: logging.LogRecord) -> bool:
    """What ended a start in words (SystemExit) is told as such, without the trace that uvicorn logs."""
    _, refused, words = record.getMessage().partition("\nSystemExit: ")
    if refused:
        sys.stderr.write(f"{words.strip()}\n")
    return not refused and record.getMessage() != "Application startup failed. Exiting."  # after what it is
