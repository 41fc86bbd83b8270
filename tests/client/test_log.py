"""`rungraph.log` as training code has it: what it costs, what it needs, and what it does when nothing works."""

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rungraph
from rungraph import reporter, targets
from rungraph.log import active
from tests.client import objects
from tests.client.peer import TOKEN, Peer
from tests.client.test_sender import Json, keeping, values

CLIENT = Path(__file__).parents[2] / "client"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is logged before or after, and no variable of a job is set."""
    for name in ("RUNGRAPH_JOB_ID", "RUNGRAPH_SPOOL", "RUNGRAPH_STRICT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys.modules["rungraph.log"], "_current", None)
    monkeypatch.setattr(targets, "_of_environment", None)
    yield
    reporter.close_all(5)
    reporter._reporters.clear()


@pytest.fixture
def job(peer: Peer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Json]:
    """The environment of a job at the peer; the batches that it has taken."""
    monkeypatch.setenv("RUNGRAPH_URL", peer.url)
    monkeypatch.setenv("RUNGRAPH_TOKEN", TOKEN)
    monkeypatch.setenv("RUNGRAPH_JOB_ID", objects.JOB)
    monkeypatch.setenv("RUNGRAPH_SPOOL", str(tmp_path / "spool"))
    return keeping(peer)


def outside(peer: Peer) -> list[Json]:
    """Have the peer make runs; how they finished."""
    finished: list[Json] = []

    def finish(input: Json) -> Json:
        finished.append(input)
        return {"run": objects.run(), "errors": []}

    made = {"run": objects.run(), "job": objects.job("main"), "token": TOKEN, "errors": []}
    beat = {"cancelRequested": False, "errors": []}
    peer.fields |= {"createRun": made, "heartbeat": beat, "finishRun": finish}
    return finished


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that finds nothing but the standard library and the client."""
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(CLIENT)!r})\n{code}"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=60)


def test_it_needs_the_standard_library_alone(peer: Peer, tmp_path: Path) -> None:
    kept = keeping(peer)
    code = """
import rungraph
light = set(sys.modules)
rungraph.log({"loss": 0.5}, step=3)
assert rungraph.flush(20)
foreign = {name.split(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"rungraph", "__main__"}
print(sorted(foreign), [m for m in ("json", "threading", "http", "pathlib", "logging", "typing") if m in light])
"""
    environment = {
        "RUNGRAPH_URL": peer.url,
        "RUNGRAPH_TOKEN": TOKEN,
        "RUNGRAPH_SPOOL": str(tmp_path / "spool"),
    }
    ended = run_python(code, RUNGRAPH_JOB_ID="job", **environment)
    assert (ended.stdout, ended.stderr) == ("[] []\n", "")
    assert values(kept, "loss") == [0.5] and kept[0]["series"][0]["steps"] == [3]


def test_importing_it_takes_a_moment() -> None:
    code = "import time; b = time.process_time(); import rungraph; print(time.process_time() - b)"
    assert min(float(run_python(code).stdout) for _ in range(5)) < 0.03


def test_without_a_server_training_goes_on_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for step in range(100):
        rungraph.log({"loss": 0.5}, step=step)
        rungraph.log(accuracy=0.5)
    assert rungraph.flush() and rungraph.finish()
    assert len(caplog.records) == 1 and "RUNGRAPH_URL and RUNGRAPH_TOKEN" in caplog.text


def test_a_run_without_a_token_keeps_nothing_and_says_so(
    caplog: pytest.LogCaptureFixture, home: Path
) -> None:
    with rungraph.run("one") as run:
        run.log(loss=1)
        assert run.id is None and not run.cancel_requested
    assert len(caplog.records) == 1 and "RUNGRAPH_TOKEN" in caplog.text and not list(home.iterdir())


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port", "http://\x00", "ftp://host"])
def test_an_address_that_is_none_costs_training_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    run = rungraph.run("one", url=url, token=TOKEN)
    run.log(loss=1)
    run.finish(seconds=0.5)
    assert caplog.records


def test_points_arrive_with_their_steps_times_and_rank(
    job: list[Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    before = time.time_ns() // 1000
    rungraph.log({"loss": 0.5, "accuracy": 0.25}, step=7)
    rungraph.log(loss=0.25, step=9)
    rungraph.log({"loss": 0.125}, lr=0.1, step=11)
    rungraph.log(plain=1)
    assert rungraph.flush()
    series = {one["name"]: one for batch in job for one in batch["series"]}
    assert (series["loss"]["steps"], series["loss"]["values"]) == ([7, 9, 11], [0.5, 0.25, 0.125])
    assert (series["lr"]["steps"], series["accuracy"]["steps"]) == ([11], [7])
    assert "steps" not in series["plain"], "the series counts by itself"
    assert all(before <= at <= time.time_ns() // 1000 for at in series["loss"]["times"])
    assert {batch["rank"] for batch in job} == {3}


def test_steps_and_none_of_one_metric_keep_their_order(job: list[Json]) -> None:
    for value in range(6):
        rungraph.log({"loss": value}, step=None if value % 2 else value)
    assert rungraph.flush()
    assert values(job, "loss") == [0, 1, 2, 3, 4, 5]


def test_a_wrong_value_is_told_once_and_the_rest_is_kept(
    job: list[Json], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        rungraph.log({"loss": 0.5, "note": "fine"})
    rungraph.log("loss")  # type: ignore[arg-type]
    assert rungraph.flush()
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "rungraph: 'note': 'fine' (str) is not a number; it is left out"
    assert len(told) == 2 and "a mapping" in told[1] and len(values(job, "loss")) == 10


def test_a_wrong_value_raises_where_that_is_wanted(job: list[Json], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNGRAPH_STRICT", "1")
    with pytest.raises(ValueError, match="'note'"):
        rungraph.log({"note": "fine"})
    with pytest.raises(ValueError, match="step"):
        rungraph.log({"loss": 1}, step="one")  # type: ignore[arg-type]


def test_a_run_ends_as_its_block_does(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    finished, kept = outside(peer), keeping(peer)
    with rungraph.run("one", url=peer.url, token=TOKEN, tags={"team": "x"}) as run:
        rungraph.log(loss=1)
        run.log(loss=2)
        assert run.flush() and run.id == objects.RUN
    ends: list[Callable[[], Any]] = [
        lambda: (_ for _ in ()).throw(ValueError("no data")),
        lambda: sys.exit(3),
        lambda: (_ for _ in ()).throw(KeyboardInterrupt),
    ]
    for end in ends:
        with pytest.raises(BaseException), rungraph.run("one", url=peer.url, token=TOKEN):  # noqa: B017
            end()
    assert values(kept, "loss") == [1, 2]
    assert finished == [
        {"state": "SUCCEEDED"},
        {"state": "FAILED", "message": "ValueError: no data"},
        {"state": "FAILED", "message": "exit code 3", "exitCode": 3},
        {"state": "CANCELLED", "message": "interrupted from the keyboard"},
    ]
    created = [variables["input"] for field, variables in peer.operations if field == "createRun"]
    assert len({one["idempotencyKey"] for one in created}) == 4
    assert created[0]["tags"] == [{"name": "team", "value": "x"}]


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_the_run_of_a_token_ends_when_that_is_said(
    job: list[Json], peer: Peer, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.delenv("RUNGRAPH_JOB_ID")
    finished = outside(peer)
    rungraph.log(loss=1)
    assert rungraph.flush() and finished == []
    assert rungraph.finish() if state == "SUCCEEDED" else active().finish(state)
    assert finished == [{"state": state}]
    assert rungraph.finish() and len(finished) == 1
    rungraph.log(loss=2)
    assert values(job, "loss") == [1]


def test_the_run_of_a_token_outlives_a_process_that_says_nothing(
    job: list[Json], peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNGRAPH_JOB_ID")
    finished = outside(peer)
    rungraph.log(loss=1)
    reporter.close_all()
    assert finished == [] and values(job, "loss") == [1]


def test_inside_a_job_the_run_is_the_jobs(job: list[Json], peer: Peer) -> None:
    with rungraph.run("ignored") as run:
        run.log(loss=1)
    rungraph.log(loss=2)
    assert rungraph.flush() and rungraph.finish()
    assert values(job, "loss") == [1, 2] and {field for field, _ in peer.operations} == {"logMetrics"}


def test_of_a_run_that_nobody_launched_one_rank_reports(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with rungraph.run("one", url=peer.url, token=TOKEN) as run:
        run.log(loss=1)
    assert peer.operations == []


def test_what_is_logged_after_the_end_is_told(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    outside(peer), keeping(peer)
    with rungraph.run("one", url=peer.url, token=TOKEN) as run:
        run.log(loss=1)
    run.log(loss=2)
    assert "logged after the end" in caplog.text


def test_the_same_key_goes_on_with_the_same_run(peer: Peer) -> None:
    outside(peer)
    keeping(peer)
    for _ in range(2):
        with rungraph.run("one", key="again", url=peer.url, token=TOKEN) as run:
            run.log(loss=1)
    keys = {v["input"]["idempotencyKey"] for field, v in peer.operations if field == "createRun"}
    assert keys == {"again"}


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_tight_loop_neither_waits_nor_fills_the_memory(job: list[Json], count: int) -> None:
    rungraph.log(warm=1)
    tracemalloc.start()
    began = time.perf_counter()
    for step in range(count):
        rungraph.log({"loss": 0.5, "accuracy": 0.25}, step=step)
    seconds = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80e6, "points wait in memory up to a bound"
    assert seconds < 30
    assert rungraph.flush(60)
    assert values(job, "loss") == [0.5] * count
    assert [s for one in job for c in one["series"] if c["name"] == "loss" for s in c["steps"]] == list(
        range(count)
    )


def test_what_cannot_be_sent_in_time_waits_for_the_next_process(
    peer: Peer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = "http://127.0.0.1:9"
    run = rungraph.run("one", key="k", url=away, token=TOKEN)
    run.log(loss=1)
    began = time.monotonic()
    assert not run.finish(seconds=0.5)
    assert time.monotonic() - began < 5
    assert "rungraph run sync" in caplog.text
    assert list((tmp_path / "home" / "spool").glob("*/*.batches"))


def test_a_folder_that_cannot_be_written_costs_nothing_but_a_warning(
    job: list[Json], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUNGRAPH_SPOOL", str(tmp_path / "file"))
    rungraph.log(loss=1)
    assert rungraph.flush()
    assert values(job, "loss") == [1] and "points wait in memory" in caplog.text


def test_a_forked_child_reports_for_itself(job: list[Json]) -> None:
    rungraph.log(loss=1)
    child = os.fork()
    if child == 0:
        rungraph.log(loss=2)
        os._exit(0 if rungraph.flush(20) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    rungraph.log(loss=3)
    assert rungraph.flush()
    assert sorted(values(job, "loss")) == [1, 2, 3]
    assert len({batch["producer"] for batch in job}) == 2


def _child(value: float) -> None:
    rungraph.log(loss=value)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_process_of_multiprocessing_sends_what_it_has_as_it_ends(job: list[Json], method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    rungraph.log(loss=1)
    children = [context.Process(target=_child, args=[value]) for value in (2, 3)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert rungraph.flush()
    assert sorted(values(job, "loss")) == [1, 2, 3]


ENDING = """
import rungraph, os, signal, time
for step in range(5000):
    rungraph.log({"loss": step}, step=step)
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("raise ValueError('no')", 1),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), 15); time.sleep(60)", -15),
    ],
    ids=["by itself", "an exception", "exit", "SIGTERM"],
)
def test_a_process_sends_what_it_has_before_it_ends(job: list[Json], peer: Peer, end: str, code: int) -> None:
    ended = run_python(ENDING + end, **{k: v for k, v in os.environ.items() if k.startswith("RUNGRAPH_")})
    assert ended.returncode == code, ended.stderr
    assert values(job, "loss") == list(range(5000))


@pytest.mark.parametrize(
    ("end", "state"),
    [("", "SUCCEEDED"), ("raise ValueError('no')", "FAILED"), ("os.kill(os.getpid(), 15)", "CANCELLED")],
)
def test_a_run_that_nobody_finished_ends_with_its_process(
    peer: Peer, home: Path, end: str, state: str
) -> None:
    finished, kept = outside(peer), keeping(peer)
    code = f"import rungraph\nrun = rungraph.run('one', url={peer.url!r}, token={TOKEN!r})\n{ENDING}{end}"
    ended = run_python(code, RUNGRAPH_HOME=str(home))
    assert [one["state"] for one in finished] == [state], ended.stderr
    assert len(values(kept, "loss")) == 5000
    assert not list((home / "spool").iterdir())


def test_another_handler_of_sigterm_is_left_to_its_work(job: list[Json]) -> None:
    code = f"""{ENDING}
def other(*given):
    print("mine", flush=True)
before = signal.getsignal(signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *given: (before(*given), other()))
os.kill(os.getpid(), 15)
print(rungraph.flush(20))
"""
    ended = run_python(code, **{k: v for k, v in os.environ.items() if k.startswith("RUNGRAPH_")})
    assert (ended.stdout, ended.returncode) == ("mine\nTrue\n", 0), ended.stderr


def test_what_it_knows_of_a_run_is_readable_by_its_owner_alone(peer: Peer, home: Path) -> None:
    outside(peer), keeping(peer)
    with rungraph.run("one", url=peer.url, token="a person's token") as run:
        peer.token = None
        run.log(loss=1)
        assert run.flush()
        (about,) = (home / "spool").glob("*/run.json")
        assert about.stat().st_mode & 0o777 == 0o600 and about.parent.stat().st_mode & 0o777 == 0o700
        assert "person" not in json.dumps(json.loads(about.read_text()))


def test_warnings_go_where_logging_sends_them(caplog: pytest.LogCaptureFixture) -> None:
    rungraph.log(loss=1)
    assert [(record.name, record.levelno) for record in caplog.records] == [("rungraph", logging.WARNING)]
