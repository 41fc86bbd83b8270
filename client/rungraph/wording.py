"""How the command writes durations, sizes, numbers and what others wrote.

Names, messages and log lines come from jobs that anyone may have written, so they reach a terminal only
without the control sequences that could move its cursor or forge its text.
"""

import re
from datetime import datetime

_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Text that a terminal shows as it is; of a line that overwrites itself, what it last said."""
    if text.isprintable():
        return text
    line = text.rstrip("\r\n").rsplit("\r", 1)[-1]
    return _CONTROLS.sub("", _SEQUENCES.sub("", line))


def duration(seconds: float | None) -> str:
    """3.2 s, 4 min 05 s, 2 h 07 min; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(count: int | None) -> str:
    """Bytes in the largest binary unit that leaves a whole part; nothing for None."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def number(value: float | None) -> str:
    """A measured value, to six significant digits."""
    return "–" if value is None else f"{value:.6g}"


def moment(text: str | None) -> datetime | None:
    """A DateTime of the API."""
    return datetime.fromisoformat(text) if text else None


def local_time(text: str | None) -> str:
    """A DateTime of the API on this machine's clock, to the second."""
    at = moment(text)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""
