"""Commands about the server itself: `serve`, `supervise`, `migrate`, `demo`, `link` and `version`.

The server is another distribution, so it is loaded inside the command that needs it and by name: a machine
with the client alone can do everything else.
"""

import importlib
import importlib.metadata
from types import ModuleType
from typing import Annotated

import typer

from rungraph import demo, exits, settings
from rungraph.api import Client
from rungraph.errors import ClientError
from rungraph.invocation import of, perform, run
from rungraph.links import EXPLORER, login_link
from rungraph.output import Output

SERVER = """query Server { server { version } }"""


def add_to(app: typer.Typer) -> None:
    """Registers these commands, which have no noun before them."""
    for command in (serve, supervise, migrate, demo_, link, version):
        app.command(command.__name__.rstrip("_"))(command)


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
) -> None:
    """Start the server here."""
    _server().serve(host=host, port=port)


def supervise() -> None:
    """Launch and watch jobs here without serving the API, beside servers of the same database."""
    _server().supervise()


def migrate() -> None:
    """Bring the database up to this version."""
    _server().migrate()


def demo_(
    ctx: typer.Context,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the server listens or is started.")
    ] = 8000,
    leave: Annotated[bool, typer.Option("--exit", help="Stop when the run has ended.")] = False,
) -> None:
    """Show all of it: a server, an example module, a run, and its numbers as they come."""
    run(ctx, lambda output: demo.show(output, port, stay=not leave))


def link(
    ctx: typer.Context,
    then: Annotated[str, typer.Option(metavar="PATH", help="What the browser opens then.")] = EXPLORER,
) -> None:
    """Print a link that logs a browser in, once."""

    async def action(client: Client, output: Output) -> None:
        answer = await login_link(client, then)
        if output.as_json:
            output.document(answer)
        else:
            output.write(answer["url"])

    perform(ctx, action)


def version(ctx: typer.Context) -> None:
    """Print the versions of this command and of the server, if one answers."""
    run(ctx, lambda output: _version(ctx, output))


async def _version(ctx: typer.Context, output: Output) -> int:
    found = settings.find(of(ctx).url, of(ctx).token)
    versions: dict[str, str | None] = {"client": importlib.metadata.version("rungraph"), "server": None}
    try:
        async with Client(found.url, found.token) as client:
            versions["server"] = (await client.execute(SERVER))["server"]["version"]
    except ClientError as error:
        output.say(str(error))
    if output.as_json:
        output.document(versions)
    else:
        output.write(f"rungraph {versions['client']}, server {versions['server'] or 'unknown'}")
    return exits.OK


def _server() -> ModuleType:
    """The server's entry, if it is installed beside us."""
    try:
        return importlib.import_module("graph.serve")
    except ModuleNotFoundError as error:
        if error.name not in ("graph", "graph.serve"):
            raise
        typer.echo("the server is not installed here: pip install rungraph-server", err=True)
        raise typer.Exit(exits.UNAVAILABLE) from None
