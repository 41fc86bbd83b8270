"""Jobs that misbehave: each ends with its reason, what it printed is kept, and the server goes on."""

import asyncio
from typing import Any

import pytest

from tests.graph.serving import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUTPUT = "import os, json; o = os.environ['RUNGRAPH_OUTPUT']\n"
LIES = OUTPUT + "open(o + '/output.json', 'w').write(json.dumps({'files': ['nothing.bin']}))"
KILLED = "import os, signal; print('last words', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True)\nwhile True: time.sleep(60)"

ENDLESS = "import time\nwhile True: print('y\\n' * 100); time.sleep(0.01)"


def document(text: str) -> str:
    """A job that writes this as its output.json."""
    return OUTPUT + f"open(o + '/output.json', 'wb').write({text.encode('utf-8', 'surrogatepass')!r})"


ENDS: dict[str, tuple[Any, str, str]] = {
    "a command that does not exist": ({"command": ["frobnicate", "--all"]}, "LAUNCH_REJECTED", "frobnicate"),
    "a command that is a folder": ({"command": ["/tmp"]}, "LAUNCH_REJECTED", "/tmp"),
    "more than the backend has": ({"code": "pass", "resources": {"gpus": 1}}, "LAUNCH_REJECTED", "GPU"),
    "an exit code": ("import sys; sys.exit(3)", "EXIT_CODE", ""),
    "an exception": ("1 / 0", "EXIT_CODE", ""),
    "a signal": (KILLED, "EXIT_CODE", "9"),
    "a timeout": ({"code": "import time; time.sleep(600)", "timeout": "1s"}, "TIMED_OUT", "1 s"),
    "an output that lies": (LIES, "BAD_OUTPUT", "nothing.bin"),
    "an output of garbage": (document("{"), "BAD_OUTPUT", "JSON"),
    "an output that is empty": (document(""), "BAD_OUTPUT", "JSON"),
    "an output that is a list": (document("[]"), "BAD_OUTPUT", "object"),
    "an output with NaN": (document('{"files": [], "more": NaN}'), "BAD_OUTPUT", "JSON"),
    "an output with half a character": (document('{"files": [], "more": "\\ud800"}'), "BAD_OUTPUT", "JSON"),
    "an output with bytes": (OUTPUT + "open(o + '/output.json', 'wb').write(b'\\xff')", "BAD_OUTPUT", "JSON"),
    "an output that is deep": (
        document('{"files": [], "x": ' + "[" * 300 + "]" * 300 + "}"),
        "BAD_OUTPUT",
        "",
    ),
    "an output that is bottomless": (document('{"files": [], "x": ' + "[" * 9999), "BAD_OUTPUT", ""),
    "a file with a line break": (OUTPUT + "open(o + '/a\\nb', 'w')", "BAD_OUTPUT", ""),
    "no output folder": (OUTPUT + "os.rmdir(o)", "BAD_OUTPUT", "folder"),
    "a file for an output folder": (OUTPUT + "os.rmdir(o); open(o, 'w')", "BAD_OUTPUT", "folder"),
}


@pytest.mark.parametrize("what", ENDS)
async def test_it_ends_the_job_with_its_reason(server: Server, what: str) -> None:
    code, reason, words = ENDS[what]
    run = await server.play(code)
    (job,) = run["jobs"]
    assert (run["state"], job["state"], job["reason"]) == ("FAILED", "FAILED", reason), job
    assert words in (job["message"] or "")
    assert await server.is_well()


async def test_an_exit_code_and_a_signal_are_told(server: Server) -> None:
    (failed,) = (await server.play("import sys; print('bye'); sys.exit(3)"))["jobs"]
    (killed,) = (await server.play(KILLED))["jobs"]
    assert (failed["exitCode"], killed["exitCode"]) == (3, -9)
    assert [job["logs"]["nodes"][0]["text"] for job in (failed, killed)] == ["bye", "last words"]
    assert failed["attempts"][0]["workers"][0]["phase"] == "FAILED"


async def test_what_needs_a_failed_step_is_skipped(server: Server) -> None:
    pipeline = await server.pipeline({"one": "raise SystemExit(1)", "two": "pass", "three": "pass"})
    run = await server.finish((await server.start(pipeline))["id"])
    assert [job["state"] for job in run["jobs"]] == ["FAILED", "SKIPPED", "SKIPPED"]


async def test_two_files_of_one_name_end_the_job_before_its_launch(server: Server) -> None:
    writing = OUTPUT + "open(o + '/model.bin', 'w').write('x')"
    module = (await server.install({"write": writing, "read": "pass"}))["module"]["name"]
    write, read = f"{module}/write", f"{module}/read"
    pipeline = await server.draw(
        {"name": "left", "function": write, "needs": []},
        {"name": "right", "function": write, "needs": []},
        {"name": "both", "function": read, "needs": ["left", "right"]},
    )
    job = (await server.finish((await server.start(pipeline))["id"]))["jobs"][-1]
    assert (job["state"], job["reason"], job["attempts"]) == ("FAILED", "BAD_INPUT", [])
    for part in ("model.bin", "left", "right"):
        assert part in job["message"]


async def test_a_file_of_the_wrong_kind_ends_the_job_before_its_launch(server: Server) -> None:
    pipeline = await server.pipeline({"step": {"code": "pass", "accepts": [{"types": ["csv"]}]}})
    run = await server.start(pipeline, files=[await server.upload("data.txt")])
    (job,) = (await server.finish(run["id"]))["jobs"]
    assert (job["reason"], job["attempts"]) == ("BAD_INPUT", [])
    assert "data.txt" in job["message"]
    assert ".csv" in job["message"]


NEARLY = [
    '{"metric": {}}',
    '{"metric": {"loss": "0.1"}}',
    '{"metric": {"loss": true}}',
    '{"metric": [1]}',
    '{"metric": {"": 1}}',
    '{"metric": {"loss": 1}, "step": 1.5}',
    '{"metric": {"loss": 1}, "step": 99999999999999999999}',
    '{"metric": {"loss": 1}',
    '[{"metric": {"loss": 1}}]',
    '{"metric": {"a\\u0000": 1}}',
]


async def test_lines_that_are_nearly_metrics_stay_lines(server: Server) -> None:
    run = await server.play(f"for line in {NEARLY!r}: print(line)")
    assert [line["text"] for line in run["jobs"][0]["logs"]["nodes"]] == NEARLY
    assert (await server.ask("query ($id: ID!) { run(id: $id) { metrics { name } } }", id=run["id"])) == {
        "metrics": []
    }


async def test_noise_and_lines_without_end_are_kept(server: Server) -> None:
    code = "import sys; w = sys.stdout.buffer.write; w(bytes(range(256)) + b'\\n' + b'x' * 300000 + b'\\n\\0\\n\\xff')"
    run = await server.play(code)
    lines = [line["text"] for line in run["jobs"][0]["logs"]["nodes"]]
    assert "".join(lines).count("x") >= 300000
    assert lines[-2:] == ["\0", "\\xff"]
    assert run["state"] == "SUCCEEDED"


async def test_the_server_answers_while_a_job_prints_without_end(server: Server) -> None:
    run = await server.start(await server.pipeline({"step": ENDLESS}))
    await server.until(run["id"], "LinesAdded")
    times = []
    for _ in range(10):
        began = asyncio.get_running_loop().time()
        assert await server.is_well()
        times.append(asyncio.get_running_loop().time() - began)
    await server.change("cancelRun", "run { id }", id=run["id"], graceSeconds=0)
    await server.finish(run["id"])
    assert sorted(times)[5] < 1.0


async def test_a_job_that_ignores_to_be_asked_is_ended_after_the_grace_period(server: Server) -> None:
    run = await server.start(await server.pipeline({"step": DEAF}))
    await server.until(run["id"], "LinesAdded")
    payload = await server.change("cancelRun", "run { state }", id=run["id"], graceSeconds=0.1)
    assert payload == {"run": {"state": "CANCELLING"}, "errors": []}
    ended = await server.finish(run["id"])
    (job,) = ended["jobs"]
    assert (ended["state"], job["state"], job["reason"], job["exitCode"]) == ("CANCELLED",) * 2 + (
        "CANCELLED",
        -9,
    )
    again = await server.change("cancelRun", "run { state }", id=run["id"])
    assert again == {"run": {"state": "CANCELLED"}, "errors": []}
