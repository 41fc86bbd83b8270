"""What a term does again until it is done, and how often it says so."""

import pytest
from structlog.testing import capture_logs

from backends import terms
from backends.base import BackendUnavailable


class Failing:
    """Work that fails as it is told to, and then does not."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


async def test_a_backend_that_is_away_is_waited_for_quietly() -> None:
    away = [BackendUnavailable(f"port {number} is closed", retry_in_seconds=0.0) for number in range(5)]
    with capture_logs() as logged:
        await terms._insist(Failing(*away))
    assert [(each["log_level"], each["error"]) for each in logged] == [("warning", "port 0 is closed")]


async def test_a_fault_is_logged_when_it_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "_AGAIN_SECONDS", 0.0)
    with capture_logs() as logged:
        await terms._insist(Failing(OSError("full"), OSError("full"), ValueError("wrong")))
    assert [each["error"] for each in logged] == ["OSError('full')", "ValueError('wrong')"]
