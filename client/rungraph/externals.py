"""`rungraph run create` and `rungraph run finish`: runs whose code is launched elsewhere."""

import uuid
from enum import StrEnum
from typing import Annotated, Any

import typer

from rungraph import values
from rungraph.api import Client
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.requests import Tags
from rungraph.runs import RunId
from rungraph.watching import read_run

CREATE = """mutation CreateRun($input: CreateRunInput!) {
  createRun(input: $input) {
    run { id name state } job { id step } token errors { code message path retryable }
  }
}"""

FINISH = """mutation FinishRun($input: FinishRunInput!) {
  finishRun(input: $input) { run { id state } errors { code message path retryable } }
}"""


class Ending(StrEnum):
    """How a run can end, as --state takes it."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


def add_to(app: typer.Typer) -> None:
    """Add both to the verbs of `rungraph run`."""
    app.command("create")(create_)
    app.command("finish")(finish_)


def create_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the run is called.")],
    step: Annotated[str, typer.Option(help="What its one job is called.")] = "main",
    heartbeat: Annotated[
        str, typer.Option(metavar="TIME", help="30s, 5m; LOST when nothing is heard for three times as long.")
    ] = "60s",
    tag: Tags = None,
    notes: Annotated[str, typer.Option(help="What there is to say about it.")] = "",
    parent: Annotated[str, typer.Option(metavar="RUN", help="The run that it is a part of.")] = "",
    key: Annotated[str, typer.Option(help="The same key and input give the same run again.")] = "",
) -> None:
    """Make a run that code anywhere reports to; prints its id, its job's, and the token to report with."""

    async def action(client: Client, output: Output) -> None:
        wanted: dict[str, Any] = {
            "name": name,
            "step": step,
            "heartbeatSeconds": values.seconds(heartbeat, "--heartbeat"),
            "tags": values.tags(tag or []),
            "notes": notes,
            "idempotencyKey": key or uuid.uuid4().hex,
            **({"parent": parent} if parent else {}),
        }
        made = (await client.execute(CREATE, {"input": wanted}))["createRun"]
        if output.as_json:
            output.document({"run": made["run"], "job": made["job"], "token": made["token"]})
        else:
            output.table(("RUN", "JOB", "TOKEN"), [(made["run"]["id"], made["job"]["id"], made["token"])])

    perform(ctx, action)


def finish_(
    ctx: typer.Context,
    run: RunId,
    state: Annotated[Ending, typer.Option(case_sensitive=False, help="How it ended.")] = Ending.SUCCEEDED,
    message: Annotated[str | None, typer.Option(help="Why.")] = None,
    exit_code: Annotated[int | None, typer.Option(help="If there is one.")] = None,
) -> None:
    """Say how an external run ended; repeating it is harmless."""

    async def action(client: Client, output: Output) -> None:
        job = (await read_run(client, run))["jobs"][0]["id"]
        given = {"message": message, "exitCode": exit_code}
        wanted = {"job": job, "state": state.value, **{k: v for k, v in given.items() if v is not None}}
        ended = (await client.execute(FINISH, {"input": wanted}, repeatable=True))["finishRun"]["run"]
        if output.as_json:
            output.document(ended)
        else:
            output.write(f"{ended['id']} {ended['state']}")

    perform(ctx, action)
