"""Where the command writes: answers to standard output, messages to standard error.

With --json standard output carries JSON and nothing else: one document, or a line an event for what is
watched. For people, a terminal gets tables and a pipe gets tab-separated lines, unwrapped.
"""

import json
from collections.abc import Iterable, Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rungraph.wording import printable

_COMPACT = json.JSONEncoder(separators=(",", ":"))


class Output:
    """One invocation's way to its user; `farewell` is said when Ctrl-C ends it."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.answers = Console(highlight=False, markup=False, emoji=False)
        self.messages = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self.farewell = ""

    def say(self, message: str) -> None:
        """A message to the person, never part of the answer."""
        self.messages.print(Text(message), soft_wrap=True)

    def write(self, line: str | Text) -> None:
        """A line of the answer for people; with --json it is only a message."""
        console = self.messages if self.as_json else self.answers
        console.print(Text(line) if isinstance(line, str) else line, soft_wrap=True)

    def lines(self, lines: Iterable[str]) -> None:
        """Lines of the answer as they are, many at a time: laying each out would hold a flood up."""
        typer.echo("\n".join(lines))

    def document(self, value: object) -> None:
        """The one JSON document of this invocation."""
        typer.echo(json.dumps(value, indent=2))

    def event(self, value: object) -> None:
        """One JSON line of something watched."""
        self.lines([_compact(value)])

    def events(self, values: Iterable[object]) -> None:
        """A JSON line each."""
        self.lines(map(_compact, values))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Rows for people: aligned on a terminal, tab-separated without a head in a pipe."""
        if not self.answers.is_terminal:
            for row in rows:
                typer.echo("\t".join(printable(cell).replace("\t", " ") for cell in row))
            return
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self.answers.print(table)


def _compact(value: object) -> str:
    return _COMPACT.encode(value)
