"""`rungraph secret`: named values that jobs get by name.

A value is read from a pipe, or asked for without showing it; never from the command line, which others on the
machine can read. It can be set again and deleted, and never be read back.
"""

import sys
from typing import Annotated, Any

import typer

from rungraph.api import Client
from rungraph.errors import BadUsage
from rungraph.invocation import perform
from rungraph.output import Output
from rungraph.pages import walk
from rungraph.wording import local_time

app = typer.Typer(help="Set the secrets that jobs are given.", no_args_is_help=True)

SET = """mutation SetSecret($input: SetSecretInput!) {
  setSecret(input: $input) { secret { id name createdAt updatedAt } errors { code message path retryable } }
}"""

DELETE = """mutation DeleteSecret($input: DeleteSecretInput!) {
  deleteSecret(input: $input) { name errors { code message path retryable } }
}"""

SECRETS = """query Secrets($first: Int, $after: String) {
  secrets(first: $first, after: $after) {
    nodes { id name createdAt updatedAt usedBy }
    pageInfo { hasNextPage endCursor }
  }
}"""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The environment variable that it becomes.")]


@app.command("set")
def set_(ctx: typer.Context, name: Name) -> None:
    """Set a secret, from standard input or a prompt; again, it is rotated."""

    async def action(client: Client, output: Output) -> None:
        wanted = {"name": name, "value": _value(name)}
        secret = (await client.execute(SET, {"input": wanted}, repeatable=True))["setSecret"]["secret"]
        if output.as_json:
            output.document(secret)
        else:
            output.write(f"{secret['name']} set")

    perform(ctx, action)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List names and uses; values are never shown."""

    async def action(client: Client, output: Output) -> None:
        found = [secret async for secret in walk(client, SECRETS, {}, ("secrets",))]
        if output.as_json:
            output.document(found)
        else:
            output.table(("SECRET", "SET", "USED BY"), map(_row, found))

    perform(ctx, action)


@app.command("delete")
def delete(ctx: typer.Context, name: Name) -> None:
    """Delete a secret for ever."""

    async def action(client: Client, output: Output) -> None:
        answer = await client.execute(DELETE, {"input": {"name": name}})
        if output.as_json:
            output.document({"name": answer["deleteSecret"]["name"]})
        else:
            output.write(f"{name} deleted")

    perform(ctx, action)


def _value(name: str) -> str:
    """What a pipe holds, without the newline that ends it, or what a person types unseen."""
    if sys.stdin.isatty():
        typed: str = typer.prompt(name, hide_input=True, err=True)
        return typed
    value = sys.stdin.read()
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise BadUsage(f"secret set {name}: standard input is empty; pipe the value, or use a terminal")
    return value


def _row(secret: dict[str, Any]) -> tuple[str, ...]:
    return secret["name"], local_time(secret["updatedAt"]), ", ".join(secret["usedBy"])
