"""The declarative base and the few column types of all tables, the same on SQLite and PostgreSQL.

Rows are read as plain immutable rows of the mapped class's columns, never as objects with a session
behind them: a `runs.Run` that crosses a layer has the attributes of the class and nothing else.
"""

import enum
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    ColumnElement,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    any_,
    bindparam,
    literal,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import TypeDecorator

E = TypeVar("E", bound=enum.Enum)

Id = LargeBinary(16)
"""A UUIDv7 as 16 bytes (see ids.py)."""

Serial = BigInteger().with_variant(Integer, "sqlite")
"""A number the database gives out. SQLite does so only for a column declared INTEGER, also 64 bits."""

Word = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that lists are sorted by: compared by bytes on both databases, in whatever locale PostgreSQL runs."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can name it too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Timestamp(TypeDecorator[datetime]):
    """Aware UTC outside; microseconds since the epoch inside, exact and comparable on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else microseconds(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """The function itself: a page of rows calls it hundreds of times, and each wrapper counts."""
        return _read_moment


class Json(TypeDecorator[Any]):
    """Any JSON value, as text. SQL NULL and JSON null are one: None."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """As for Timestamp."""
        return _read_json


class Choice(TypeDecorator[E]):
    """A member of an enumeration, stored by its value. Add `one_of` to the table for the constraint."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[E]) -> None:
        super().__init__()
        self.kind = kind
        self._members = {None: None, **{member.value: member for member in kind}}

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else value.value

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """As for Timestamp."""
        return self._members.__getitem__


def one_of(column: str, kind: type[enum.Enum]) -> CheckConstraint:
    """The constraint that a Choice column holds a value of its enumeration."""
    values = ", ".join(f"'{member.value}'" for member in kind)
    return CheckConstraint(f"{column} IN ({values})", name=column)


class Among(ColumnElement[bool]):
    """Whether a column is one of a parameter's values. PostgreSQL takes them as one array: nothing is spelt out."""

    inherit_cache = True
    type = Boolean()
    _is_implicitly_boolean = True  # else SQLite is asked whether it equals 1, and uses no index
    _traverse_internals = [  # noqa: RUF012 - as SQLAlchemy declares it
        ("column", InternalTraversal.dp_clauseelement),
        ("name", InternalTraversal.dp_string),
    ]

    def __init__(self, column: Any, name: str) -> None:
        self.column = column.__clause_element__() if hasattr(column, "__clause_element__") else column
        self.name = name


@compiles(Among)
def _spelt_out(among: Among, compiler: Any, **kwargs: Any) -> Any:
    return compiler.process(among.column.in_(bindparam(among.name, expanding=True)), **kwargs)


@compiles(Among, "postgresql")
def _as_array(among: Among, compiler: Any, **kwargs: Any) -> Any:
    given = bindparam(among.name, type_=ARRAY(among.column.type))
    return compiler.process(among.column == any_(given), **kwargs)


class clock(FunctionElement[datetime]):  # noqa: N801 - a function of SQL
    """The present moment by the database's own clock, whichever process asks; and so much later."""

    inherit_cache = True
    type = Timestamp()

    def __init__(self, later: timedelta = timedelta()) -> None:
        super().__init__(literal(later // timedelta(microseconds=1), BigInteger))


@compiles(clock)
def _clock_of_sqlite(element: clock, compiler: Any, **kwargs: Any) -> str:
    later = compiler.process(element.clauses, **kwargs)
    return f"(CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + {later})"


@compiles(clock, "postgresql")
def _clock_of_postgresql(element: clock, compiler: Any, **kwargs: Any) -> str:
    later = compiler.process(element.clauses, **kwargs)
    # Not now(): a transaction that has waited for a lock is later than its beginning.
    return f"(CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) + {later})"


def now() -> datetime:
    """The present moment, aware, UTC."""
    return datetime.now(UTC)


def microseconds(value: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    return (value - _EPOCH) // timedelta(microseconds=1)


def moment(value: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=value)


def _read_moment(value: int | None) -> datetime | None:
    return None if value is None else _EPOCH + timedelta(0, 0, value)


def _read_json(value: str | None) -> Any:
    return None if value is None else orjson.loads(value)


def insert_once(postgresql: bool, table: type[Base], unique: tuple[str, ...], where: Any = None) -> Any:
    """An insert that does nothing where a row with these unique columns exists already.

    `where` is the condition of the unique index, if it has one.
    """
    return _insert(postgresql)(table).on_conflict_do_nothing(index_elements=unique, index_where=where)


def upsert(postgresql: bool, table: type[Base], unique: tuple[str, ...]) -> Any:
    """An insert that replaces every other column of a row with these unique columns."""
    statement = _insert(postgresql)(table)
    rest = {c.name: statement.excluded[c.name] for c in table.__table__.columns if c.name not in unique}
    return statement.on_conflict_do_update(index_elements=unique, set_=rest)


def _insert(postgresql: bool) -> Any:
    if postgresql:
        # Only who uses it pays for its import, a twentieth of a server's start.
        from sqlalchemy.dialects.postgresql import insert

        return insert
    return sqlite_insert
