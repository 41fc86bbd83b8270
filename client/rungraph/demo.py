"""`rungraph demo`: everything once, from nothing to the numbers of a finished run.

It uses what any client has: it installs examples/digits, creates the pipeline “digits”, starts a run and
watches it through the GraphQL subscription that its explorer link opens in a browser.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rungraph import child, exits, modules, pipelines, runs, settings
from rungraph.api import Client
from rungraph.errors import ClientError
from rungraph.links import explorer_path, login_link
from rungraph.module_sources import Wanted
from rungraph.output import Output
from rungraph.screens import screen_for, summarize
from rungraph.watching import watch

NAME = "digits"
STEPS: list[dict[str, Any]] = [
    {"name": "split", "function": "digits/split"},
    {"name": "train", "function": "digits/train"},
    {"name": "evaluate", "function": "digits/evaluate"},
]
WORK_SECONDS = 150.0
"""With the end of the server, what `--exit` may take is 170 s."""

EXPLORE = """subscription Watch($run: ID!, $after: Int64) {
  run(id: $run, after: $after) {
    __typename
    ... on FeedEvent { seq }
    ... on RunChanged { runState }
    ... on JobChanged { step jobState reason message }
    ... on PointsAdded { step series { name steps values } }
    ... on LinesAdded { step lines { text } }
  }
}
"""


async def show(output: Output, port: int, *, stay: bool) -> int:
    """Runs the demonstration; the exit code of its run."""
    with _ended_by_signals():
        try:
            async with asyncio.timeout(None) as limit:
                if not stay:
                    limit.reschedule(asyncio.get_running_loop().time() + WORK_SECONDS)
                return await _show(output, port, stay)
        except TimeoutError:
            output.say(f"the demonstration did not end within {WORK_SECONDS:.0f} s")
            return exits.FAILED


async def _show(output: Output, port: int, stay: bool) -> int:
    output.say(f"looking for a server at {child.url_of(port)}, or starting one")
    async with child.server_at(port) as process:
        found = settings.find(child.url_of(port))
        async with Client(found.url, found.token) as client:
            code = await _run(client, output)
        if stay and process:
            output.farewell = ""
            output.say(f"the server goes on at {found.url} until Ctrl-C; it writes to {_log()}")
            await _until_stopped(process)
        return code


async def _run(client: Client, output: Output) -> int:
    if not await _installed(client, output):
        return exits.FAILED
    run = await runs.start(client, {"pipeline": await _pipeline(client)})
    await _offer_explorer(client, output, run["id"])
    ended = await watch(client, run["id"], screen_for(output))
    if not output.as_json:
        summarize(output, ended)
    return exits.OK if ended["state"] == "SUCCEEDED" else exits.FAILED


async def _installed(client: Client, output: Output) -> bool:
    folder = child.repository() / "examples" / NAME
    if not folder.is_dir():
        raise ClientError(f"the example is not here: {folder}")
    output.say(f"installing {folder}")
    version = await modules.install(client, output, Wanted(str(folder)))
    return modules.show_version(output, version)


async def _pipeline(client: Client) -> str:
    """The id of the pipeline “digits”, which is created only once."""
    pipeline: dict[str, Any] | None = await pipelines.find(client, NAME)
    if pipeline is None:
        pipeline = await pipelines.create(client, NAME, STEPS, "Learn to read handwritten digits")
    return str(pipeline["id"])


async def _offer_explorer(client: Client, output: Output, run_id: str) -> None:
    link = await login_link(client, explorer_path(EXPLORE, {"run": run_id, "after": 0}))
    if output.as_json:
        output.event({"type": "Explorer", **link})
    output.write(f"watch it in a browser (good once, until {link['expiresAt']}):\n{link['url']}\n")


async def _until_stopped(process: child.Process) -> None:
    """Returns at Ctrl-C; raises ClientError when the server ends of itself."""
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        return
    raise ClientError(f"the server ended with {code}; it wrote to {_log()}")


def _log() -> str:
    return str(settings.home() / child.LOG_NAME)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the demonstration as Ctrl-C does, so that its server never outlives it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    signals = (signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
