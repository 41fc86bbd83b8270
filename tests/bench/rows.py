"""What a benchmark prints: rows of measurements beside a goal and a limit, as medians."""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `value`, `goal` and `limit` are in `unit`; more is better where `more`."""

    work: str
    value: float
    unit: str
    goal: float | None
    limit: float | None
    limited_by: str
    more: bool = False


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    heads = ("work", "measured", "goal", "limit", "ratio to the limit", "limited by")
    cells = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(heads))]
    for line in cells:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(f"{text.rstrip()}\n")


def _cells(row: Row) -> tuple[str, ...]:
    met = (
        ""
        if row.goal is None
        else (" ✓" if (row.value >= row.goal) is row.more or row.value == row.goal else " ✗")
    )
    ratio = "" if not row.limit else f"{(row.limit / row.value if row.more else row.value / row.limit):.2f}"
    return (
        row.work,
        f"{_number(row.value)} {row.unit}{met}",
        "" if row.goal is None else f"{_number(row.goal)} {row.unit}",
        "" if row.limit is None else f"{_number(row.limit)} {row.unit}",
        ratio,
        row.limited_by,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def p(values: Sequence[float], percent: float) -> float:
    """A percentile, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
