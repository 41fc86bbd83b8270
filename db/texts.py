"""Texts of strangers: which can be kept, how they are shown in a message, and what may have been meant.

SQLite would take most of what PostgreSQL refuses; a rule that held on one database alone would be found out on
the other. Pure.
"""

import difflib
import itertools
from collections.abc import Iterable, Mapping


def is_storable(text: str) -> bool:
    """Whether it has neither NUL, which PostgreSQL refuses, nor lone surrogates, which are no UTF-8."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str) -> str:
    """The text without what cannot be stored."""
    return text.replace("\0", "").encode(errors="replace").decode()


def refusal(value: object) -> str | None:
    """Why the value cannot be kept as text; None where it can."""
    if not isinstance(value, str):
        return f"must be a string, not {shown(value)}"
    return None if is_storable(value) else "has characters that cannot be stored"


def shown(value: object) -> str:
    """A value in a message: short, whatever it is."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if abs(value) > 2**64:
            return "a huge number"
        case int() | float():
            return repr(value)
        case str():
            return repr(value if len(value) <= 60 else value[:57] + "…")
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
    return f"a {type(value).__name__}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'epochs'?` when something close is known, else nothing."""
    close = difflib.get_close_matches(word[:64], list(itertools.islice(known, 200)), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
