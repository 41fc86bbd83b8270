"""Points that a job's processes could not send before they ended: sent for them, before the job's end is recorded.

`rungraph.log` keeps what the server has not acknowledged in the attempt's folder. The client's own code sends it, in a
process of its own, with the job's token and under the numbers it had, so that what had arrived is not stored twice.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 120.0
"""As long as it may take; 256 MiB, which is the most that a process leaves, take half a minute."""
_NEEDED = ("RUNGRAPH_URL", "RUNGRAPH_TOKEN")


async def send(folder: Path, client: Path | None, variables: Mapping[str, str]) -> None:
    """Send what lies below a folder, if anything does, by the client's package in another.

    `variables` are what the job was told of the server.
    """
    can = client is not None and all(name in variables for name in _NEEDED)
    if not can or not await asyncio.to_thread(_has_any, folder):
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-m", "rungraph.leftovers", str(folder)),
        env={"PYTHONPATH": str(client), **{name: variables[name] for name in _NEEDED}},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, told = await process.communicate()
    except TimeoutError:
        log.warning("points of an ended job were not sent in time", folder=str(folder))
        return
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if told:
        log.warning("points of an ended job", folder=str(folder), told=told.decode(errors="replace")[-1000:])


def _has_any(folder: Path) -> bool:
    return any(path.stat().st_size for path in folder.glob("*/*.batches"))
