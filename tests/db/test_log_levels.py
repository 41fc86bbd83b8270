"""Levels of lines: what loggers print is told, and prose is not taken for it."""

import pytest

from db.log_levels import LogLevel, level_of

TOLD = {
    LogLevel.DEBUG: ["DEBUG  x", "10:00:00.123 [main] DEBUG com.x.Y - hi", "[TRACE] in"],
    LogLevel.INFO: [
        "INFO",
        "[2026-11-21 10:00:00,123][trainer][INFO] - epoch 1",
        "[INFO|trainer.py:123] 2026-11-21 10:00:00,123 >> saving",
        "INFO 11-21 10:00:00 llm.py:12] loading",
        "2026-11-21 10:00:00.123 | INFO     | module:main:1 - begun",
        "I1121 10:00:00.123456 12 file.cc:1] begun",
        '{"level": "info", "event": "begun"}',
    ],
    LogLevel.WARNING: [
        "WARNING: foo",
        "2026-11-21 10:00:00 - root - WARNING - careful",
        "level=warn msg=x",
        "(pid=1) WARNING foo",
        "/x/y.py:3: UserWarning: careful",
        "x.c:3: warning: unused",
    ],
    LogLevel.ERROR: [
        "ERROR:root:it failed",
        "2026-11-21 10:00:00,123 - my.logger - ERROR - it failed",
        "\x1b[31mERROR\x1b[0m it failed",
        "Traceback (most recent call last):",
        "ValueError: bad",
        "torch.cuda.OutOfMemoryError: CUDA out of memory",
        "main.c:3:4: error: expected ;",
    ],
    LogLevel.CRITICAL: [
        'time="2026-11-21" level=fatal msg=x',
        "CRITICAL:root:gone",
        "F1121 10:00:00 1 x.cc:1] x",
    ],
}
PROSE = [
    "",
    "see the ERROR above",
    "no ERROR here",
    "INFORMATION",
    "loss 0.3",
    "ERRORS: 5",
    "epoch 3 ERROR rate",
]


@pytest.mark.parametrize(("level", "text"), [(level, text) for level in TOLD for text in TOLD[level]])
def test_what_common_loggers_print_is_told(level: LogLevel, text: str) -> None:
    assert level_of(text) is level


@pytest.mark.parametrize("text", PROSE)
def test_prose_has_no_level(text: str) -> None:
    assert level_of(text) is None


def test_a_long_line_is_judged_by_its_head() -> None:
    assert level_of("ERROR: " + "x" * 1_000_000) is LogLevel.ERROR
    assert level_of("x" * 1_000_000 + " ERROR: late") is None
