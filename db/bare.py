"""Statements for many rows, handed to the driver as they are.

Where thousands of small statements a second are the work, SQLAlchemy's part in each costs more than the database's.
A `Look` finds what many keys lead to, a `Put` writes many rows; both have one text for both databases, which differ
in where the rows come from: PostgreSQL takes each column as an array, in one round trip; SQLite, which has no round
trip, one row after the other. Values are what the driver takes and gives: integers, floats, text, bytes.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql

from db.columns import Base

if TYPE_CHECKING:
    from db.database import Transaction

Rows = Sequence[Sequence[Any]]

NOW = {True: "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
       False: "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"}  # fmt: skip
"""The database's clock in microseconds, on PostgreSQL or not; `{now}` in a Look's text."""


class Look:
    """A read of what each of many keys leads to: `{keys}` in its text is the table `k` with these columns."""

    def __init__(self, text: str, **columns: str) -> None:
        names = ", ".join(columns)
        one = ", ".join(f"? AS {name}" for name in columns)
        arrays = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(columns.values(), 1))
        self.sqlite = text.format(keys=f"(SELECT {one}) AS k", now=NOW[False])
        self.postgresql = text.format(keys=f"unnest({arrays}) AS k({names})", now=NOW[True])


class Put:
    """A write of many rows of a table, each with its values of these columns, in this order.

    A row with the same values of the `unique` columns is overwritten; `only_update`: others are not inserted.
    """

    def __init__(
        self,
        kind: type[Base],
        columns: Collection[str],
        *,
        unique: Collection[str] = (),
        only_update: bool = False,
    ) -> None:
        self.table: Any = kind.__table__
        self.columns = tuple(columns)
        self.unique = tuple(unique)
        self.only_update = only_update

    @cached_property
    def sqlite(self) -> str:
        """The text, its parameters a row's values."""
        marks = [f"?{at}" for at in range(1, len(self.columns) + 1)]
        if self.only_update:
            given = dict(zip(self.columns, marks, strict=True))
            return f"UPDATE {self.table.name} SET {self._set(given)} WHERE {self._same(given)}"
        return f"{self._insert()} VALUES ({', '.join(marks)}) {self._overwrite()}"

    def postgresql(self, first: int) -> str:
        """The text, its parameters the columns as arrays, numbered from `first`."""
        kinds = [self.table.c[name].type.compile(postgresql.dialect()) for name in self.columns]  # type: ignore[no-untyped-call]
        given = ", ".join(f"${first + at}::{kind}[]" for at, kind in enumerate(kinds))
        rows = f"unnest({given}) AS k({', '.join(self.columns)})"
        if self.only_update:
            k = {name: f"k.{name}" for name in self.columns}
            return f"UPDATE {self.table.name} t SET {self._set(k)} FROM {rows} WHERE {self._same(k, 't.')}"
        return f"{self._insert()} SELECT * FROM {rows} {self._overwrite()}"

    def _insert(self) -> str:
        return f"INSERT INTO {self.table.name} ({', '.join(self.columns)})"

    def _overwrite(self) -> str:
        if not self.unique:
            return ""
        excluded = {name: f"excluded.{name}" for name in self.columns}
        return f"ON CONFLICT ({', '.join(self.unique)}) DO UPDATE SET {self._set(excluded)}"

    def _set(self, given: Mapping[str, str]) -> str:
        return ", ".join(f"{name} = {given[name]}" for name in self.columns if name not in self.unique)

    def _same(self, given: Mapping[str, str], table: str = "") -> str:
        return " AND ".join(f"{table}{name} = {given[name]}" for name in self.unique)


class Puts:
    """Writes that go together; on PostgreSQL they are one statement."""

    def __init__(self, **puts: Put) -> None:
        self._puts = puts

    @cached_property
    def _postgresql(self) -> str:
        parts, first = [], 1
        for name, put in self._puts.items():
            parts.append(f"{name} AS ({put.postgresql(first)})")
            first += len(put.columns)
        return f"WITH {', '.join(parts)} SELECT"

    async def write(self, session: "Transaction", **rows: Rows) -> None:
        """Write rows by the name of their Put; of one Put no two have the same unique columns."""
        driver = await session.driver()
        if not session.postgresql:
            for name, given in rows.items():
                if given:
                    driver.executemany(self._puts[name].sqlite, given)
            return
        arrays: list[Any] = []
        for name, put in self._puts.items():
            given = rows.get(name, ())
            arrays += zip(*given, strict=True) if given else [()] * len(put.columns)
        await driver.execute(self._postgresql, *arrays)


async def look(session: "Transaction", what: Look, keys: Rows) -> list[Any]:
    """The rows that these keys lead to, in no order."""
    if not keys:
        return []
    driver = await session.driver()
    if session.postgresql:
        found: list[Any] = await driver.fetch(what.postgresql, *zip(*keys, strict=True))
        return found
    return [row for key in keys for row in driver.execute(what.sqlite, key)]
