"""Types that show a row: their plain fields are its columns, read when they are asked for.

A page makes thousands of values and shows a few, so nothing is copied before it is wanted.
"""

from typing import Any, ClassVar, Self

import strawberry

from db import ids


class OfRow:
    """Has its row's columns as attributes, and the id that goes with its `kind`."""

    kind: ClassVar[str]
    row: strawberry.Private[Any]

    @classmethod
    def of(cls, row: Any) -> Self:
        """The object of a row."""
        made = cls.__new__(cls)
        made.row = row
        return made

    def __getattr__(self, name: str) -> Any:
        if name == "row":
            raise AttributeError(name)
        return ids.encode(self.kind, self.row.id) if name == "id" else getattr(self.row, name)
