"""Ids: UUIDv7 inside, typed and opaque outside.

In the database an id is 16 bytes that sort by the time they were made, so that an index on it serves
"newest first". Outside it is a word with its type, `run_` and 26 characters of Crockford's base 32, so
that an id pasted in the wrong place is refused by name. Hot rows (feeds, series, workers) have bigint keys.
"""

import os
import threading
import time
from collections.abc import Sequence
from typing import cast

import numpy as np

from db import errors

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Python reads base 32 itself, with other letters; it would take signs and underscores, too.
_DIGITS = dict.fromkeys(range(128), "!") | dict(
    zip(map(ord, _ALPHABET), "0123456789abcdefghijklmnopqrstuv", strict=True)
)
_LENGTH = 26
_LETTERS = np.frombuffer(_ALPHABET.encode(), np.uint8)
_WEIGHTS = np.array([16, 8, 4, 2, 1], np.uint8)
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_MOST_KNOWN = 10_000
"""Lists show the same ids again and again; looking one up takes a tenth of making it."""

_known: dict[str, dict[bytes, str]] = {}

_lock = threading.Lock()
_last = 0


def new() -> bytes:
    """A UUIDv7 (RFC 9562 §5.7), later than every id this process made before, as 16 bytes."""
    global _last
    random = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF
    # 48 bits of milliseconds, then 12 bits of their fraction: 244 ns resolution (RFC 9562 §6.2, method 3).
    nanoseconds = time.time_ns()
    stamp = (nanoseconds // 1_000_000) << 12 | (nanoseconds % 1_000_000) * 4096 // 1_000_000
    with _lock:
        _last = max(stamp, _last + 1)
        stamp = _last
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0x2 << 62 | random
    return value.to_bytes(16)


def encode(kind: str, value: bytes) -> str:
    """The public form of an id: its kind, an underscore, 26 letters and digits."""
    number = int.from_bytes(value)
    letters = [_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)]  # a list shows every id
    return f"{kind}_{''.join(letters)}"


def encode_all(kind: str, values: Sequence[bytes]) -> list[str]:
    """The public forms of many ids of one kind: of a page of them in a fourth of the time of one after the other."""
    known = _known.setdefault(kind, {})
    made = list(map(known.get, values))
    if None in made:
        if len(known) + len(values) > _MOST_KNOWN:
            known.clear()
        fresh = dict(zip(values, _encoded(kind, values), strict=True))
        known.update(fresh)
        made = list(map(fresh.get, values))
    return cast("list[str]", made)


def _encoded(kind: str, values: Sequence[bytes]) -> list[str]:
    bits = np.zeros((len(values), _LENGTH * 5), np.uint8)
    bits[:, 2:] = np.unpackbits(np.frombuffer(b"".join(values), np.uint8)).reshape(len(values), 128)
    letters = _LETTERS[bits.reshape(len(values), _LENGTH, 5) @ _WEIGHTS].tobytes().decode()
    return [f"{kind}_{letters[at : at + _LENGTH]}" for at in range(0, len(letters), _LENGTH)]


def decode(kind: str, text: str) -> bytes:
    """The 16 bytes of a public id; raises NotFound when it is not an id of that kind."""
    try:
        found, value = split(text)
    except errors.NotFound:
        found, value = "", b""
    if found != kind:
        raise errors.NotFound(f"“{shorten(text)}” is not the id of a {kind}: those begin with {kind}_")
    return value


def split(text: str) -> tuple[str, bytes]:
    """Kind and bytes of a public id; raises NotFound when it is not an id at all."""
    kind, _, letters = text.rpartition("_")
    try:
        if len(letters) != _LENGTH or letters[0] > "7" or not letters.isascii():
            raise ValueError("too short, too long, or too large")
        return kind, int(letters.translate(_DIGITS), 32).to_bytes(16)
    except ValueError:
        raise errors.NotFound(f"“{shorten(text)}” is not an id") from None


def shorten(text: str) -> str:
    """A user's word, cut to what an error message can bear."""
    return text if len(text) <= 60 else text[:57] + "…"
