"""Which run this process reports to: its job's, that of a token it was given, or one that is made for it.

Imported with the first point. Where nothing says where to report to, nothing is kept, and that is told once:
training code runs the same with and without a server.
"""

import hashlib
import logging
import os
import secrets
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from rungraph import settings
from rungraph.errors import BadUsage
from rungraph.log import UNKNOWN_HEARTBEAT_SECONDS, Run
from rungraph.reporter import Reporter, Silence
from rungraph.sender import Target

log = logging.getLogger("rungraph")
_once = threading.Lock()
_of_environment: Reporter | None = None
_shared: dict[Target, Reporter] = {}


def of_environment(*, strict: bool) -> Reporter:
    """The reporter of RUNGRAPH_URL and RUNGRAPH_TOKEN; one a process."""
    global _of_environment
    with _once:
        if _of_environment is None:
            _of_environment = _from_environment(strict)
        return _of_environment


def reporter(
    wanted: dict[str, Any], *, key: str | None, url: str | None, token: str | None, strict: bool
) -> Reporter:
    """The reporter of a run that is to be made as `wanted`; inside a job, that of the job."""
    if "RUNGRAPH_JOB_ID" in os.environ and url is None and token is None:
        return of_environment(strict=strict)
    if _rank() > 0:
        return Silence()
    try:
        found = settings.find(url, token)
    except BadUsage as error:
        log.warning("rungraph: nothing is kept: %s", error)
        return Silence()
    if found.token is None:
        log.warning(
            "rungraph: nothing is kept: there is no token for %s (RUNGRAPH_TOKEN, or token=)", found.url
        )
        return Silence()
    folder = _digest(found.url, key) if key else secrets.token_hex(16)
    wanted = {**wanted, "idempotencyKey": key or folder}
    beat = wanted["heartbeatSeconds"]
    return Reporter(Target(found.url, found.token, _spools() / folder, 0, beat, wanted), strict=strict)


def shared(url: str, token: str | None, folder: str, rank: int) -> Run:
    """The run that a Run of another process was, reported to by this one for itself."""
    target = Target(url, token, Path(folder), rank, offline=_is_offline())
    with _once:
        if target not in _shared:
            _shared[target] = Silence() if token is None else Reporter(target, owns=False)
        return Run(_shared[target])


def script() -> str:
    """What a run is called that nobody named."""
    return Path(sys.argv[0]).name or "python"


def folder_of_token(url: str, token: str) -> str:
    """The name of the folder of what is reported with a token."""
    return _digest(url, token)


def _from_environment(strict: bool) -> Reporter:
    url, token = os.environ.get("RUNGRAPH_URL"), os.environ.get("RUNGRAPH_TOKEN")
    job = os.environ.get("RUNGRAPH_JOB_ID")
    if not url or not token:
        log.warning(
            "rungraph: what is logged is not kept: there is no job or run to report to"
            " (RUNGRAPH_URL and RUNGRAPH_TOKEN); `rungraph.run(name)` makes one"
        )
        return Silence()
    try:
        url = settings.normal_url(url)
    except BadUsage as error:
        log.warning("rungraph: nothing is kept: %s", error)
        return Silence()
    rank = _rank()
    if job is None:  # a run that is launched by nobody has one worker
        if rank > 0:
            return Silence()
        beat = UNKNOWN_HEARTBEAT_SECONDS
        return Reporter(Target(url, token, _spools() / folder_of_token(url, token), 0, beat), strict=strict)
    attempt = os.environ.get("RUNGRAPH_ATTEMPT", "1")
    own = f"{job}-{attempt}-{rank}"
    return Reporter(Target(url, token, _spools() / own, rank, offline=_is_offline()), strict=strict)


def _spools() -> Path:
    """Where spools lie: RUNGRAPH_SPOOL, which a job is given; else the home, or where that cannot be."""
    if given := os.environ.get("RUNGRAPH_SPOOL"):
        return Path(given)
    if "RUNGRAPH_JOB_ID" not in os.environ:
        home = settings.home()
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(home, os.W_OK):
                (home / "spool").mkdir(mode=0o700, exist_ok=True)
                return home / "spool"
        except OSError:
            log.debug("rungraph: %s cannot be used", home)
    owner = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"rungraph-spool-{owner}"


def _is_offline() -> bool:
    return bool(os.environ.get("RUNGRAPH_OFFLINE"))


def _rank() -> int:
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
