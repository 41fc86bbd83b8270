"""`rungraph run suspend` and `rungraph run resume`: having a run stand still, and letting it go on."""

import typer

from rungraph import exits
from rungraph.api import Client
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.runs import FIELDS, RunId


def _command(verb: str) -> str:
    return f"""mutation {verb}Run($input: {verb}RunInput!) {{
  {verb.lower()}Run(input: $input) {{ run {{ {FIELDS} suspended }} errors {{ code message path retryable }} }}
}}"""


SUSPEND, RESUME = _command("Suspend"), _command("Resume")


def add_to(app: typer.Typer) -> None:
    """Add both to the verbs of `rungraph run`."""
    app.command("suspend")(suspend_)
    app.command("resume")(resume_)


def suspend_(ctx: typer.Context, run: RunId) -> None:
    """Have a run stand still: it keeps its memory and its place; repeating it is harmless."""
    _perform(ctx, SUSPEND, "suspendRun", run)


def resume_(ctx: typer.Context, run: RunId) -> None:
    """Let a suspended run go on; repeating it is harmless."""
    _perform(ctx, RESUME, "resumeRun", run)


def _perform(ctx: typer.Context, document: str, field: str, run_id: str) -> None:
    async def action(client: Client, output: Output) -> int:
        answer = await client.execute(document, {"input": {"id": run_id}}, repeatable=True)
        run = answer[field]["run"]
        if output.as_json:
            output.document(run)
        else:
            output.write(f"{run['id']} {run['state']}{' suspended' if run['suspended'] else ''}")
        return exits.OK

    perform(ctx, action)
