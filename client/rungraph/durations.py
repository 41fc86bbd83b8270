"""How long, as people write it: 90s, 1.5h, 1h30m, 2w, or plain seconds; exact to the microsecond, or refused.

It is what manifests take, too: the server has the same of its own, and a test keeps the two of one mind.
"""

import re
from fractions import Fraction

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "": 1}
_LONGEST_DAYS = 36_525

PATTERN = rf"(?=[0-9])(?:{''.join(f'(?:({_NUMBER}){unit})?' for unit in _UNITS if unit)}|({_NUMBER}))"
"""The whole of one, also for readers of other languages."""
_DURATION = re.compile(PATTERN)


def seconds(text: str) -> float:
    """The seconds of a duration, of which microseconds are exact; raises ValueError with what it must be."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("written as 90s, 1.5h or 1h30m")
    parts = zip(found.groups(), _UNITS.values(), strict=True)
    microseconds = 1_000_000 * sum(Fraction(number) * unit for number, unit in parts if number)
    if microseconds.denominator != 1:
        raise ValueError("in whole microseconds")
    if microseconds > _LONGEST_DAYS * 86_400_000_000:
        raise ValueError("at most 100 years")
    return microseconds.numerator / 1_000_000
