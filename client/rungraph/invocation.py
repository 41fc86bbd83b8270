"""From a command to its exit code: what every command shares.

The options before the noun are kept on the context; `perform` opens a client with them, runs one coroutine
and turns what went wrong into a message on standard error and a code of exits.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import typer

from rungraph import exits, settings
from rungraph.api import Client
from rungraph.errors import ApiError, ClientError
from rungraph.output import Output

NO_TOKEN = "give --token or RUNGRAPH_TOKEN, or be the user who started the server"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the options of `rungraph` itself said."""

    url: str | None
    token: str | None
    as_json: bool


Action = Callable[[Client, Output], Awaitable[int | None]]
"""What a command does with a client; returns its exit code, None for 0."""


def perform(ctx: typer.Context, action: Action) -> None:
    """Runs an action against the server of this invocation and exits with its code."""
    invocation = of(ctx)

    async def with_client(output: Output) -> int | None:
        found = settings.find(invocation.url, invocation.token)
        async with Client(found.url, found.token) as client:
            return await action(client, output)

    run(ctx, with_client)


def run(ctx: typer.Context, main: Callable[[Output], Coroutine[Any, Any, int | None]]) -> None:
    """Runs a coroutine to its exit code; errors and Ctrl-C become messages."""
    output = Output(of(ctx).as_json)
    try:
        code = asyncio.run(main(output)) or exits.OK
    except BrokenPipeError:
        raise  # nobody reads the answer any more: typer ends that without a word
    except (ClientError, OSError) as error:
        output.say(_told(error))
        code = exits.of(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        if output.farewell:
            output.say(output.farewell)
        code = exits.INTERRUPTED
    raise typer.Exit(code)


def of(ctx: typer.Context) -> Invocation:
    """The options of `rungraph` itself."""
    invocation = ctx.find_root().obj
    assert isinstance(invocation, Invocation)
    return invocation


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if not isinstance(error, ApiError):
        return str(error)
    lines = [error.message]
    if error.code == "UNAUTHENTICATED":
        lines.append(NO_TOKEN)
    if error.request_id:
        lines.append(f"request {error.request_id}")
    return "\n".join(lines)
