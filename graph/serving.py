"""Serving: the process around the application (serve.py is the entrance)."""

import asyncio
import fcntl
import gc
import ipaddress
import logging
import os
import sys
from contextlib import suppress
from typing import TextIO

import structlog
import uvicorn
from pydantic import ValidationError

from db import schema
from graph.app import close_home, create_app
from graph.settings import Settings

PING_SECONDS = 20.0
"""A WebSocket whose peer does not answer a ping within this time is closed."""
SETTLED_SECONDS = 10.0
"""What was made in the first while stays: looking for garbage in it would hold up everybody for 50 ms now and then."""
SWITCH_SECONDS = 0.0005
"""How long a thread that computes may keep the event loop waiting; Python's 5 ms are longer than most answers take."""


def serve(host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. One server a home."""
    settings = _settings()
    _log(settings.log_level)
    close_home(settings.home)
    with _lock(settings):
        if not _is_loopback(host):
            sys.stderr.write(_EXPOSED.format(host=host, home=settings.home))
        url = settings.public_url or f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
        app = create_app(settings, url=url, hosts=frozenset({host}))
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            ws_max_size=1 << 20,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        _Server(config, settings, url).run()


def migrate() -> None:
    """Create the database or bring it up to date."""
    settings = _settings()
    _log(settings.log_level)
    try:
        asyncio.run(schema.upgrade(settings.database))
    except OSError as error:
        raise SystemExit(f"rungraph: the database cannot be reached: {error}") from error


def _settings() -> Settings:
    """The settings, or an end that says which variable is wrong and why."""
    try:
        return Settings()
    except ValidationError as error:
        told = [f"RUNGRAPH_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
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

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            sys.setswitchinterval(SWITCH_SECONDS)
            asyncio.get_running_loop().call_later(SETTLED_SECONDS, gc.freeze)
            self._file.write_text(f"{self._url}\n")
            structlog.get_logger(__name__).info("serving", url=self._url)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        with suppress(FileNotFoundError):
            self._file.unlink()
        await super().shutdown(sockets)  # type: ignore[arg-type]


def _lock(settings: Settings) -> TextIO:
    """Held while a server uses a home; the kernel lets go of it, however the server ends."""
    file = (settings.home / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"rungraph: another server uses {settings.home}") from None
    os.set_inheritable(file.fileno(), False)
    return file


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
    logging.getLogger("strawberry.execution").setLevel(logging.CRITICAL)  # Masking logs faults, once
