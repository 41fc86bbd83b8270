"""Programs that the server itself runs for an installation: their lines as they appear, and their sure end.

Each has a process group of its own, so that what it started ends with it. uv's use is in environments.py,
git's in repositories.py.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

PASSED_ON = r"PATH|HOME|SSL_CERT_\w+|(HTTPS?|ALL|NO)_PROXY"
"""What of the server's environment any such program needs to reach others."""

_LONGEST_LINE = 16 << 10


async def lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    """Lines of its standard output as they appear; one without end is cut."""
    assert process.stdout is not None
    rest = b""
    while chunk := await process.stdout.read(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield line.decode(errors="replace").rstrip()
    if rest:
        yield rest.decode(errors="replace").rstrip()


def kill(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of its process group, and wait for the leader."""
    kill(process)
    await process.wait()
