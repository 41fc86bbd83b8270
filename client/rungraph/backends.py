"""`rungraph backend list`: where jobs run, what each place has, and how it keeps jobs to what they ask for."""

from typing import Any

import typer

from rungraph.api import Client
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.wording import size

app = typer.Typer(help="See where jobs run.", no_args_is_help=True)

BACKENDS = """query Backends {
  backends {
    id name kind scope slots cpus memoryBytes gpus
    devices { index name memoryBytes }
    capabilities { needsContainer maxWorkers suspends memory cpus }
  }
}"""


@app.callback()
def backend() -> None:
    """Keeps `list` a verb of its own."""


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the backends."""

    async def action(client: Client, output: Output) -> None:
        found = (await client.execute(BACKENDS))["backends"]
        if output.as_json:
            output.document(found)
            return
        output.table(("BACKEND", "KIND", "SLOTS", "CPUS", "MEMORY", "GPUS", "LIMITS"), map(_row, found))

    perform(ctx, action)


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    can = found["capabilities"] or {}
    limits = "; ".join(f"{what}: {can[what]}" for what in ("memory", "cpus") if can.get(what))
    gpus = ", ".join(device["name"] for device in found["devices"]) or str(found["gpus"])
    room = (str(found["slots"]), f"{found['cpus']:g}", size(found["memoryBytes"]))
    return found["name"], found["kind"], *room, gpus, limits
