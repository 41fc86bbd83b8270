"""The level that a log line says of itself, whoever wrote it. Pure.

Jobs print what they like: Python's logging in its many formats, loguru, glog, JSON lines, compilers, tracebacks.
A word counts as a level where a formatter would put it, before the message, and not where prose has it.
"""

import enum
import re


class LogLevel(enum.IntEnum):
    """How much a line matters, in the order of it."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


_WORDS = {
    **dict.fromkeys(("TRACE", "DEBUG", "DBG"), LogLevel.DEBUG),
    **dict.fromkeys(("INFO", "NOTICE", "SUCCESS"), LogLevel.INFO),
    **dict.fromkeys(("WARN", "WARNING"), LogLevel.WARNING),
    **dict.fromkeys(("ERR", "ERROR", "SEVERE"), LogLevel.ERROR),
    **dict.fromkeys(("CRIT", "CRITICAL", "FATAL", "PANIC", "EMERG"), LogLevel.CRITICAL),
}
_HEAD = 160
"""A formatter puts the level within so many characters."""
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""What colours a terminal's text, or moves in it (ECMA-48 control sequences, and operating system commands)."""
_WORD = re.compile(r"(?<![\w.])(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")(?![\w.])")
_FIELD = re.compile(r"""["']?(?:level|levelname|severity|lvl)["']?\s*[:=]\s*["']?([A-Za-z]+)""")
_GLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d")
_GLOG_LEVELS = {
    "I": LogLevel.INFO,
    "W": LogLevel.WARNING,
    "E": LogLevel.ERROR,
    "F": LogLevel.CRITICAL,
}
_RAISED = re.compile(r"Traceback \(most recent call last\)|(?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception)(?::|$)")
_WARNED = re.compile(r"\S+:\d+: \w*Warning: |warning: ", re.IGNORECASE)
_FAILED = re.compile(r"(?:fatal )?error: |\S+:\d+(?::\d+)?: (?:fatal )?error: ", re.IGNORECASE)
_MARKED = re.compile(r"[^A-Za-z]|.*[\d_.:\]|)>,=-]")
"""What stands before a level: a time, a name in brackets, anything that is no plain word of prose."""


def level_of(text: str) -> LogLevel | None:
    """What a line says of itself; None where it says nothing."""
    head = ANSI.sub("", text[: 2 * _HEAD])[:_HEAD].lstrip()
    found = _WORD.search(head)
    if found and _is_formatted(head[: found.start()], head[found.end() : found.end() + 1]):
        return _WORDS[found[1]]
    if found := _FIELD.search(head):
        return _WORDS.get(found[1].upper())
    if found := _GLOG.match(head):
        return _GLOG_LEVELS[found[1]]
    if _RAISED.match(head) or _FAILED.match(head):
        return LogLevel.ERROR
    return LogLevel.WARNING if _WARNED.match(head) else None


def _is_formatted(before: str, behind: str) -> bool:
    """Whether a level's word stands where a formatter puts it, by what is before it and right behind it."""
    tokens = before.split()
    plain = [token for token in tokens if not _MARKED.match(token)]
    # A logger's plain name may stand between two marks: "2026-11-21 10:00:00 - root - ERROR - …".
    named = len(plain) == 1 and len(tokens) > 2 and _MARKED.match(tokens[-1]) is not None
    if plain and not named:
        return False
    return bool(tokens) or behind in ("", ":", "]", "|", ")", ">", "-", "\t", " ")
