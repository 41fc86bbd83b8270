"""The arguments of runs as rows, one a step and option, so that lists filter and sort by them.

Numbers are kept as numbers and compare as such, words as text, true and false as the words. Lists, objects
and words of more than 500 characters are not kept: nobody looks for a run by them. The truth is the job's
`arguments`; these rows are written with it and never changed, as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Float, ForeignKey, Index, Text, insert, text
from sqlalchemy.orm import Mapped, mapped_column

from db import texts
from db.columns import Base, Id, Word
from db.database import Transaction

LONGEST_TEXT = 500
MOST_NUMBER = 1e308


class RunArgument(Base):
    """One argument of one step of a run. `leading` marks the run's first step that has the option."""

    __tablename__ = "run_arguments"
    __table_args__ = (
        *(
            Index(
                f"ix_run_arguments_{column}",
                "project_id",
                "name",
                column,
                "run_id",
                sqlite_where=text(f"{column} IS NOT NULL"),
                postgresql_where=text(f"{column} IS NOT NULL"),
            )
            for column in ("number", "text")
        ),
        {"sqlite_with_rowid": False},
    )

    run_id: Mapped[bytes] = mapped_column(Id, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    project_id: Mapped[bytes] = mapped_column(Id)
    leading: Mapped[bool] = mapped_column(Boolean)
    number: Mapped[float | None] = mapped_column(Float)
    text: Mapped[str | None] = mapped_column(Word)


_INSERT = insert(RunArgument)


async def record(
    session: Transaction, project_id: bytes, run_id: bytes, steps: Iterable[tuple[str, Mapping[str, Any]]]
) -> None:
    """Keep the arguments of a new run: each step's, in the order of the steps."""
    rows = rows_of(project_id, run_id, steps)
    if rows:
        await session.execute(_INSERT, rows)


def rows_of(
    project_id: bytes, run_id: bytes, steps: Iterable[tuple[str, Mapping[str, Any]]]
) -> Sequence[dict[str, Any]]:
    """The rows of a run's arguments."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for step, arguments in steps:
        for name, value in arguments.items():
            number, word = plain(value)
            if number is None and word is None:
                continue
            row = {"run_id": run_id, "step": step, "name": name, "project_id": project_id}
            rows.append({**row, "leading": name not in seen, "number": number, "text": word})
            seen.add(name)
    return rows


def plain(value: Any) -> tuple[float | None, str | None]:
    """A JSON value as a number or as text to compare it by; neither for what is not kept."""
    if isinstance(value, bool):
        return None, "true" if value else "false"
    if isinstance(value, int | float):
        return (float(value), None) if abs(value) <= MOST_NUMBER else (None, None)
    if isinstance(value, str) and len(value) <= LONGEST_TEXT and texts.is_storable(value):
        return None, value
    return None, None
