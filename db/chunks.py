"""What is in a chunk: its columns side by side, and the feed's number of each point, run-length coded. Pure.

Points of one batch have one number and stand together; batches come at a rhythm. So the numbers are coded as
triples: so many times, the number grows by so much, and so many points have it. Each triple is three unsigned
integers of as many bytes as the greatest of them needs, which the first byte says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from db.points import Integers

_SIZES = (1, 2, 4, 8)


def encode(seqs: Integers, counts: Integers) -> bytes | None:
    """Numbers, which grow, and how many points have each; None for a single number."""
    if len(seqs) == 1:
        return None
    steps = np.diff(seqs, prepend=seqs[0])
    changes = np.flatnonzero((steps[1:] != steps[:-1]) | (counts[1:] != counts[:-1])) + 1
    starts = np.concatenate((np.zeros(1, np.int64), changes))
    times = np.diff(np.append(starts, len(seqs)))
    triples = np.stack((times, steps[starts], counts[starts]), axis=1)
    greatest = int(triples.max())
    size = next(size for size in _SIZES if greatest < 1 << (8 * size))
    return bytes([size]) + triples.astype(f"<u{size}").tobytes()


def decode(coded: bytes | None, first_seq: int, points: int) -> tuple[Integers, Integers]:
    """The inverse: numbers, and how many points have each."""
    if coded is None:
        return np.array([first_seq], np.int64), np.array([points], np.int64)
    triples = np.frombuffer(coded, f"<u{coded[0]}", offset=1).astype(np.int64).reshape(-1, 3)
    steps = np.repeat(triples[:, 1], triples[:, 0])
    return first_seq + np.cumsum(steps), np.repeat(triples[:, 2], triples[:, 0])


def numbers_past(
    coded: bytes | None, first_seq: int, points: int, after: int
) -> Iterator[tuple[int, int, int]]:
    """Each number past `after`, with where its points begin and end."""
    if coded is None:
        if first_seq > after:
            yield first_seq, 0, points
        return
    seqs, counts = decode(coded, first_seq, points)
    stops = np.cumsum(counts)
    begin = int(np.searchsorted(seqs, after, side="right"))
    starts = stops - counts
    yield from zip(seqs[begin:].tolist(), starts[begin:].tolist(), stops[begin:].tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk as it lies in its row."""

    series_id: int
    first_seq: int
    last_seq: int
    end_seq: int | None
    points: int
    steps: bytes
    times: bytes
    packed: bytes
    seqs: bytes | None


def merge(rows: Sequence[Packed], feed_id: int, upto: int) -> dict[str, Any]:
    """The row of the chunks of one series of a window that ends with `upto`, put together in their order."""
    seqs, counts = _numbers(rows)
    steps, times, packed = (
        b"".join(getattr(row, name) for row in rows) for name in ("steps", "times", "packed")
    )
    at, when, values = (
        np.frombuffer(steps, "<i8"),
        np.frombuffer(times, "<i8"),
        np.frombuffer(packed, "<f8"),
    )
    finite = values[np.isfinite(values)]
    return {
        "series_id": rows[0].series_id,
        "first_seq": rows[0].first_seq,
        "last_seq": upto,
        "end_seq": int(seqs[-1]),
        "feed_id": feed_id,
        "points": len(values),
        "first_step": int(at[0]),
        "last_step": int(at[-1]),
        "least_step": int(at.min()),
        "greatest_step": int(at.max()),
        "least_time": int(when.min()),
        "greatest_time": int(when.max()),
        "minimum": float(finite.min()) if len(finite) else None,
        "maximum": float(finite.max()) if len(finite) else None,
        "steps": steps,
        "times": times,
        "vals": packed,
        "seqs": encode(seqs, counts),
    }


def _numbers(rows: Sequence[Packed]) -> tuple[Integers, Integers]:
    seqs: list[int] = []
    counts: list[int] = []
    for row in rows:
        if row.seqs is None:
            seqs.append(row.first_seq)
            counts.append(row.points)
        else:
            some, of = decode(row.seqs, row.first_seq, row.points)
            seqs += some.tolist()
            counts += of.tolist()
    return np.array(seqs, np.int64), np.array(counts, np.int64)
