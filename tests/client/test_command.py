"""The command as a whole: its options, its exit codes, what goes where."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from typer.testing import CliRunner

from rungraph import exits
from rungraph.command import app, options_first
from tests.client import objects, test_schedules
from tests.client.conftest import Command
from tests.client.peer import Peer, error_response

RUNGRAPH = str(Path(sys.executable).with_name("rungraph"))


def test_help_tells_every_exit_code() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    for code in (
        exits.OK,
        exits.FAILED,
        exits.USAGE,
        exits.NOT_FOUND,
        exits.UNAVAILABLE,
        exits.FORBIDDEN,
        130,
    ):
        assert f"\n {code}  " in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "U", "--token", "T", "--json", "run", "list", "--tag", "x"],
        ["run", "--json", "list", "--tag", "x", "--url", "U", "--token", "T"],
    ],
)
def test_the_options_of_rungraph_may_stand_anywhere(arguments: list[str]) -> None:
    ordered = options_first(arguments)
    assert sorted(ordered[:5]) == sorted(["--url", "U", "--token", "T", "--json"])
    assert ordered[5:] == ["run", "list", "--tag", "x"]


def test_what_follows_two_dashes_stays() -> None:
    assert options_first(["a", "--", "--json", "--url"]) == ["a", "--", "--json", "--url"]
    assert options_first(["a", "--url=U", "--token"]) == ["--url=U", "--token", "a"]


@pytest.mark.parametrize("words", [("run", "sync"), ("pipeline", "import")])
def test_a_place_that_is_not_there_is_named_once(command: Command, words: tuple[str, str]) -> None:
    result = command(*words, "nowhere/at-all")
    assert (result.exit_code, result.stdout) == (exits.USAGE, "")
    assert result.stderr.count("nowhere/at-all") == 1 and "Errno" not in result.stderr


def test_without_a_server_it_says_how_to_start_one() -> None:
    result = CliRunner().invoke(app, ["--url", "http://127.0.0.1:9", "run", "list"])
    assert result.exit_code == exits.UNAVAILABLE
    assert "no server at http://127.0.0.1:9: start one with `rungraph serve`" in result.stderr
    assert result.stdout == ""


def answering(root: Any) -> Callable[[Peer], None]:
    return lambda peer: peer.fields.update(cancelRun=root)


def failing(status: int, code: str) -> Callable[[Peer], None]:
    return lambda peer: peer.faults.extend(error_response(status, code, "because") for _ in range(1))


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (answering({"run": objects.run(), "errors": []}), exits.OK),
        (answering(objects.refusal("CONFLICT", "because")), exits.FAILED),
        (answering(objects.refusal("INVALID", "because")), exits.FAILED),
        (answering(objects.refusal("NOT_FOUND", "because")), exits.NOT_FOUND),
        (answering(objects.refusal("FORBIDDEN", "because")), exits.FORBIDDEN),
        (failing(401, "UNAUTHENTICATED"), exits.FORBIDDEN),
        (failing(200, "FORBIDDEN"), exits.FORBIDDEN),
        (failing(200, "UNAVAILABLE"), exits.UNAVAILABLE),
        (failing(500, "INTERNAL"), exits.FAILED),
    ],
)
def test_every_kind_of_answer_has_its_exit_code(
    peer: Peer, command: Command, script: Callable[[Peer], None], code: int
) -> None:
    script(peer)
    result = command("run", "cancel", objects.RUN, "--json")
    assert result.exit_code == code
    assert ("because" in result.stderr) == (code != exits.OK)
    assert (result.stdout == "") == (code != exits.OK)


def test_a_request_is_named_so_that_it_is_found_in_the_log(peer: Peer, command: Command) -> None:
    peer.faults = [error_response(500, "INTERNAL", "something broke")]
    assert "request req-1" in command("run", "cancel", objects.RUN).stderr


def test_without_a_token_it_says_where_one_comes_from(peer: Peer) -> None:
    result = CliRunner().invoke(app, ["--url", peer.url, "run", "list"])
    assert result.exit_code == exits.FORBIDDEN
    assert "RUNGRAPH_TOKEN" in result.stderr


def test_what_is_no_server_of_ours_is_told(peer: Peer, command: Command) -> None:
    peer.faults = [PlainTextResponse("<html>It works</html>", 404)]
    result = command("run", "list")
    assert (result.exit_code, "answered 404" in result.stderr) == (exits.NOT_FOUND, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "start"],
        ["run", "start", "digits", "--set", "epochs=5"],
        ["run", "list", "--state", "DONE"],
        ["pipeline", "create", "p", "--step", "train"],
        ["file", "put", "not-there"],
        ["--url", "nowhere", "run", "list"],
        ["nonsense"],
    ],
)
def test_what_is_not_understood_ends_with_2(command: Command, arguments: list[str]) -> None:
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (exits.USAGE, "")


def test_version_names_both_sides(peer: Peer, command: Command) -> None:
    peer.fields["server"] = {"version": "1.2.3"}
    assert json.loads(command("version", "--json").stdout)["server"] == "1.2.3"
    assert "server 1.2.3" in command("version").stdout


def test_version_needs_no_server() -> None:
    result = CliRunner().invoke(app, ["--url", "http://127.0.0.1:9", "--json", "version"])
    assert (result.exit_code, json.loads(result.stdout)["server"]) == (exits.OK, None)


def test_a_link_opens_what_it_is_told_to(peer: Peer, command: Command) -> None:
    def create(input: dict[str, Any]) -> dict[str, Any]:
        return {"path": f"/login?then={input['then']}", "expiresAt": objects.AT, "errors": []}

    peer.fields["createLoginLink"] = create
    assert command("link", "--then", "/x").stdout == f"{peer.url}/login?then=/x\n"
    assert json.loads(command("link", "--json").stdout)["url"] == f"{peer.url}/login?then=/graphql"


def test_ctrl_c_leaves_the_run_and_says_how_to_go_on(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run()
    # Without FeedEnded the client asks for the rest again and again.
    peer.feeds["run"] = [{"__typename": "FeedTruncated", "seq": 7, "resumeFrom": 8}]
    process = subprocess.Popen(
        [RUNGRAPH, "run", "watch", objects.RUN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it puts into the background with SIGINT ignored; these tests may be that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert "RUNNING" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == exits.INTERRUPTED
    assert f"the run goes on: rungraph run watch {objects.RUN}" in told


def test_who_reads_no_further_is_told_nothing(peer: Peer, command: Command) -> None:
    peer.fields["schedules"] = objects.connection([test_schedules.schedule()])
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([RUNGRAPH, "schedule", "list"], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (exits.FAILED, b"")


def test_a_terminal_gets_a_live_table(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run("SUCCEEDED", [objects.job("train", "SUCCEEDED")])
    lines = {"step": "train", "lines": [objects.line("hello \x1b[2Jthere")]}
    peer.feeds["run"] = objects.events(("LinesAdded", lines))
    shown = on_terminal("run", "watch", objects.RUN)
    assert "train │" in shown
    assert "hello there" in shown
    assert "last measured" in shown


def on_terminal(*arguments: str) -> str:
    """What the command writes to a terminal of its own."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [RUNGRAPH, *arguments], stdout=its, stderr=its, env={**os.environ, "TERM": "xterm"}
    )
    os.close(its)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # what Linux says when the other side has closed
        pass
    os.close(ours)
    assert process.wait(20) == 0, shown.decode()
    return shown.decode()
