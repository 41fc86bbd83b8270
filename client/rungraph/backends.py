"""`rungraph backend list` and `show`: where jobs run, what each place has and holds, and whether it answers."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from rungraph.api import Client
from rungraph.errors import ApiError
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.wording import local_time, printable, size

app = typer.Typer(help="See where jobs run.", no_args_is_help=True)

BACKEND = """
    id name kind scope slots cpus memoryBytes gpus
    devices { index name memoryBytes }
    capacity { slots cpus memoryBytes gpus }
    inUse { slots cpus memoryBytes gpus }
    runningJobs health unavailableSince lastError lastErrorAt
    capabilities { needsContainer maxWorkers suspends memory cpus }
"""
BACKENDS = f"query Backends {{ backends {{ {BACKEND} }} }}"
BY_NAME = f"query Backend($name: String!) {{ backend(name: $name) {{ {BACKEND} }} }}"


@app.callback()
def backend() -> None:
    """Look, and change nothing."""


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the backends."""

    async def action(client: Client, output: Output) -> None:
        found = (await client.execute(BACKENDS))["backends"]
        if output.as_json:
            output.document(found)
            return
        output.table(("BACKEND", "KIND", "HEALTH", "SLOTS", "CPUS", "MEMORY", "GPUS"), map(_row, found))

    perform(ctx, action)


@app.command("show")
def show(ctx: typer.Context, name: Annotated[str, typer.Argument(help="What it is called.")]) -> None:
    """Show a backend: what it has, what jobs hold, how it keeps them to it, and its last error."""

    async def action(client: Client, output: Output) -> None:
        found = (await client.execute(BY_NAME, {"name": name}))["backend"]
        if found is None:
            raise ApiError("NOT_FOUND", f"there is no backend “{name}”: see `rungraph backend list`")
        if output.as_json:
            output.document(found)
            return
        for what, value in _shown(found):
            output.write(f"{what}: {printable(value)}")

    perform(ctx, action)


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    return (
        found["name"],
        found["kind"],
        found["health"],
        *(f"{used} of {most}" for used, most in _amounts(found)),
    )


def _amounts(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is held and what there is, of each kind of thing."""
    used, most = found["inUse"], found["capacity"]
    yield str(used["slots"]), str(most["slots"])
    yield f"{used['cpus']:g}", f"{most['cpus']:g}"
    yield size(used["memoryBytes"]), size(most["memoryBytes"])
    yield str(used["gpus"]), str(most["gpus"])


def _shown(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    can = found["capabilities"] or {}
    yield "name", found["name"]
    yield "kind", found["kind"]
    yield "health", found["health"]
    if found["unavailableSince"]:
        yield "away since", local_time(found["unavailableSince"])
    if found["lastError"]:
        yield "last error", f"{local_time(found['lastErrorAt'])}: {found['lastError']}"
    yield "jobs", str(found["runningJobs"])
    for what, (used, most) in zip(("slots", "cpus", "memory", "gpus"), _amounts(found), strict=True):
        yield what, f"{used} of {most}"
    for device in found["devices"]:
        yield f"gpu {device['index']}", f"{device['name']}, {size(device['memoryBytes'])}"
    for what in ("memory", "cpus"):
        if can.get(what):
            yield f"{what} kept by", can[what]
    if can:
        yield "suspends", "yes" if can["suspends"] else "no"
