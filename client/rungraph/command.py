"""The command `rungraph`: its options, its nouns, its entry.

    rungraph [--url URL] [--token TOKEN] [--json] NOUN VERB …

One file a noun. The three options may stand anywhere on the line. Exit codes are in exits.py, and in the
epilogue of `rungraph --help`.
"""

from collections.abc import Sequence
from typing import Annotated

try:
    import typer
    from typer.core import TyperGroup
except ModuleNotFoundError:
    raise SystemExit("the command needs the extra: pip install 'rungraph[cli]'") from None

from rungraph import (
    backends,
    datasets,
    documents,
    edits,
    exits,
    exports,
    externals,
    files,
    limits,
    listing,
    module_checks,
    module_versions,
    modules,
    pipelines,
    repeats,
    retention,
    runs,
    schedule_changes,
    schedules,
    secrets,
    server,
    showing,
    sources,
    suspensions,
    syncing,
    views,
)
from rungraph.invocation import Invocation

EPILOGUE = "Exit codes:\n\n" + "\n\n".join((exits.__doc__ or "").splitlines()[2:])

FLAGS = ("--json",)
OPTIONS = ("--url", "--token")


class Anywhere(TyperGroup):
    """Takes the options of `rungraph` itself from wherever on the line they stand."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        return super().parse_args(ctx, options_first(args))


app = typer.Typer(
    cls=Anywhere,
    help="Describe, launch and watch machine-learning work.",
    epilog=EPILOGUE,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(modules.app, name="module")
app.add_typer(pipelines.app, name="pipeline")
listing.add_to(runs.app)
app.add_typer(runs.app, name="run")
app.add_typer(views.app, name="view")
app.add_typer(schedules.app, name="schedule")
app.add_typer(backends.app, name="backend")
app.add_typer(limits.app, name="limit")
app.add_typer(files.app, name="file")
app.add_typer(datasets.app, name="dataset")
app.add_typer(secrets.app, name="secret")
app.add_typer(sources.app, name="source")
app.add_typer(retention.app, name="retention")
server.add_to(app)
module_versions.add_to(modules.app)
module_checks.add_to(modules.app)
suspensions.add_to(runs.app)
repeats.add_to(runs.app)
exports.add_to(runs.app)
edits.add_to(runs.app)
schedule_changes.add_to(schedules.app)
externals.add_to(runs.app)
syncing.add_to(runs.app)
documents.add_to(pipelines.app)
showing.add_to(runs.app, pipelines.app)


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The server; else RUNGRAPH_URL, else the one of this machine.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Better in RUNGRAPH_TOKEN, which other users cannot see.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")
    ] = False,
) -> None:
    """Keeps what the options say for the command that follows."""
    ctx.obj = Invocation(url, token, as_json)


def main() -> None:
    """The entry of the command."""
    app()


def options_first(args: Sequence[str]) -> list[str]:
    """The arguments with the root's own options in front; what follows `--` stays where it is."""
    first: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in FLAGS or word.startswith(tuple(f"{name}=" for name in OPTIONS)):
            first.append(word)
        elif word in OPTIONS:
            first += [word, *(value for value in [next(words, None)] if value is not None)]
        else:
            rest.append(word)
    return first + rest
