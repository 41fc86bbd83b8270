"""Where a server listens, and what it says where it cannot."""

import logging
import socket

import pytest

from graph import serving
from rungraph import exits


def test_a_port_in_use_ends_with_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            serving._listen("127.0.0.1", port)
    assert ended.value.code == serving.IN_USE == exits.IN_USE
    assert f"something listens on port {port} of 127.0.0.1 already" in capsys.readouterr().err


def test_a_host_that_is_none_of_ours_is_told_in_words() -> None:
    with pytest.raises(SystemExit, match=r"cannot listen on nowhere\.invalid:8000"):
        serving._listen("nowhere.invalid", 8000)


def test_any_port_is_the_same_one_at_every_address() -> None:
    listeners = serving._listen("localhost", 0)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        assert 0 not in {listener.getsockname()[1] for listener in listeners}
    finally:
        for listener in listeners:
            listener.close()


def test_a_start_that_is_refused_in_words_is_told_without_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    told = "Traceback (most recent call last):\n  File …\nSystemExit: rungraph: no\nrungraph: and why\n"
    logged = [
        serving._in_words(logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, message, (), None))
        for message in (told, "Application startup failed. Exiting.", "another")
    ]
    assert logged == [False, False, True]
    assert capsys.readouterr().err == "rungraph: no\nrungraph: and why\n"
