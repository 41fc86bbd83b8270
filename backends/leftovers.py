"""Points that a job's processes could not send before they ended: sent for them, before the job's end is recorded.

`rungraph.log` keeps what the server has not acknowledged in the attempt's folder. The client's own code sends it, in a
process of its own, with the job's token and under the numbers it had, so that what had arrived is not stored twice. It
goes to the server's own address: the one that jobs are given may lead here from theirs alone. What has not arrived
after two minutes goes with the attempt's folder; that is logged, and told in the message of the job's end.
"""

import asyncio
import sys
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 120.0
"""As long as it may take; 256 MiB, which is the most that a process leaves, take half a minute."""
_MOST_WORDS = 1000


async def send(attempt: str, folder: Path, client: Path | None, url: str, token: str) -> str | None:
    """Send what lies below a folder, if anything does, by the client's package in another; what is lost, in words."""
    if not folder.is_dir() or not (size := await asyncio.to_thread(_size, folder)):
        return None
    told, refused = await _send(folder, client, url, token)
    # What is refused for good is removed like what has arrived.
    if lost := size if refused else await asyncio.to_thread(_size, folder):
        log.error("points of an ended job are lost", attempt=attempt, bytes=lost, told=told)
        return f"{lost} bytes of points that it had not sent are lost: {_last(told) or 'they cannot be read'}"
    if told:
        log.warning("points of an ended job", attempt=attempt, told=told)
    return None


async def _send(folder: Path, client: Path | None, url: str, token: str) -> tuple[str, bool]:
    """What whoever sends has to say, which is nothing where all goes well; and whether it was refused for good."""
    if client is None:
        return "the server runs without the client", False
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-m", "rungraph.leftovers", str(folder)),
        env={"PYTHONPATH": str(client), "RUNGRAPH_URL": url, "RUNGRAPH_TOKEN": token},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, told = await process.communicate()
    except TimeoutError:
        return f"{url} has not taken them within {PATIENCE_SECONDS:g} s", False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return told.decode(errors="replace").strip()[-_MOST_WORDS:], process.returncode == 1


def _last(told: str) -> str:
    return told.splitlines()[-1] if told else ""


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.batches"))
