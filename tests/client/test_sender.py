"""Sending: each batch once, whatever the server answers, and an end where it refuses for good."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from rungraph import points, sender
from rungraph.points import Batch
from rungraph.sender import Sender, Target
from rungraph.spool import Spool
from tests.client import objects
from tests.client.peer import TOKEN, Peer, error_response

Json = dict[str, Any]
SENT: Json = {"seq": 1, "errors": []}


class Sending:
    """A sender with its spool, and what it told."""

    def __init__(self, folder: Path, url: str, token: str | None = TOKEN, **target: Any) -> None:
        self.told: dict[str, str] = {}
        self.sender = Sender(Target(url, token, folder, **target), self._tell)
        self.spool = Spool(folder, pytest.fail)
        self.sender.spools.append(self.spool)

    def _tell(self, about: str, message: str) -> None:
        self.told.setdefault(about, message)

    def has(self, *names: str, count: int = 1) -> None:
        """A batch of `count` points of each metric."""
        batch = Batch()
        for at in range(count):
            for name in names:
                assert batch.takes((name, float(at), at, 0))
        assert self.spool.append(points.pack(batch))

    def work(self) -> None:
        """Send until everything is sent or refused; the server must let it end."""
        thread = threading.Thread(target=self.sender.work, args=[lambda: True])
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), self.told


@pytest.fixture
def sending(tmp_path: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Sending:
    monkeypatch.setattr(sender, "FIRST_PAUSE", 0.001)
    return Sending(tmp_path / "spool", peer.url)


def keeping(peer: Peer, refuse: Callable[[Json], Json | None] = lambda given: None) -> list[Json]:
    """Have the peer take batches as the server does, once each, unless `refuse` answers; what it has taken."""
    kept: list[Json] = []
    last: dict[str, int] = {}

    def log(input: Json) -> Json:
        if (refusal := refuse(input)) is not None:
            return refusal
        if input["number"] > last.get(input["producer"], 0):
            last[input["producer"]] = input["number"]
            kept.append(input)
        return SENT

    peer.fields["logMetrics"] = log
    return kept


def values(kept: list[Json], name: str) -> list[float]:
    return [v for one in kept for series in one["series"] if series["name"] == name for v in series["values"]]


def test_batches_go_in_order_under_their_numbers(peer: Peer, sending: Sending) -> None:
    kept = keeping(peer)
    for _ in range(3):
        sending.has("loss", "accuracy", count=2)
    sending.work()
    assert [(one["producer"], one["number"]) for one in kept] == [
        (sending.spool.producer, n) for n in (1, 2, 3)
    ]
    assert values(kept, "loss") == [0, 1] * 3
    assert not sending.told and not len(sending.spool)


@pytest.mark.parametrize(
    "fault",
    [
        PlainTextResponse("<html>", 502),
        PlainTextResponse("<html>a proxy's page</html>", 200),
        PlainTextResponse("", 429, {"Retry-After": "0"}),
        PlainTextResponse("", 404),
        error_response(200, "UNAVAILABLE", "not now"),
        error_response(200, "INTERNAL", "a fault"),
        JSONResponse({"data": {"logMetrics": None}}),
        JSONResponse(["another API"]),
    ],
    ids=["bad gateway", "a page", "too many", "not found", "unavailable", "internal", "nothing", "a list"],
)
def test_a_server_that_is_away_is_asked_the_same_again(peer: Peer, sending: Sending, fault: Response) -> None:
    kept = keeping(peer)
    peer.faults = [fault] * 4
    sending.has("loss")
    seeded = random.getstate()
    sending.work()
    assert random.getstate() == seeded, "the numbers of training are its own"
    asked = [variables["input"] for _, variables in peer.operations]
    assert len(asked) == 5 and all(one == asked[0] for one in asked)
    assert values(kept, "loss") == [0]
    assert list(sending.told) == ["away"]


def test_an_answer_that_is_lost_doubles_nothing(peer: Peer, sending: Sending) -> None:
    lost = [True, False, True, False]
    kept = keeping(peer)
    take = peer.fields["logMetrics"]

    def lossy(input: Json) -> Json:
        answer: Json = take(input)
        return objects.refusal("UNAVAILABLE", "it is committed, and nobody knows") if lost.pop(0) else answer

    peer.fields["logMetrics"] = lossy
    sending.has("loss")
    sending.has("loss")
    sending.work()
    assert values(kept, "loss") == [0, 0] and lost == []


@pytest.mark.parametrize("most", [1, 7, 64])
def test_a_batch_that_is_too_much_is_halved_until_it_is_not(peer: Peer, sending: Sending, most: int) -> None:
    def refuse(given: Json) -> Json | None:
        count = sum(len(series["values"]) for series in given["series"])
        return objects.refusal("LIMIT_EXCEEDED", f"at most {most} points", "input") if count > most else None

    kept = keeping(peer, refuse)
    sending.has("loss", "accuracy", count=50)
    sending.work()
    assert values(kept, "loss") == values(kept, "accuracy") == [float(at) for at in range(50)]
    assert not sending.told


def test_halves_are_known_again_after_a_break(peer: Peer, sending: Sending) -> None:
    broken = iter([False, True, False, False, True])

    def refuse(given: Json) -> Json | None:
        if sum(len(series["values"]) for series in given["series"]) > 5:
            return objects.refusal("LIMIT_EXCEEDED", "too much", "input")
        return objects.refusal("UNAVAILABLE", "broken") if next(broken, False) else None

    kept = keeping(peer, refuse)
    sending.has("loss", count=20)
    sending.work()
    assert values(kept, "loss") == [float(at) for at in range(20)]


def test_a_request_that_is_too_large_is_halved(peer: Peer, sending: Sending) -> None:
    kept = keeping(peer)
    peer.faults = [error_response(413, "LIMIT_EXCEEDED", "too many bytes")]
    sending.has("loss", count=4)
    sending.work()
    assert [len(one["series"][0]["values"]) for one in kept] == [2, 2]


@pytest.mark.parametrize(("code", "rest"), [("INVALID", ["name"]), ("LIMIT_EXCEEDED", [])])
def test_a_series_that_is_refused_takes_no_other_with_it(
    peer: Peer, sending: Sending, code: str, rest: list[str]
) -> None:
    def refuse(given: Json) -> Json | None:
        bad = [at for at, series in enumerate(given["series"]) if series["name"] == "bad"]
        return objects.refusal(code, "no such name", "input", "series", str(bad[0]), *rest) if bad else None

    kept = keeping(peer, refuse)
    sending.has("loss", "bad", "accuracy")
    sending.work()
    assert [series["name"] for series in kept[0]["series"]] == ["loss", "accuracy"]
    assert sending.told == {"series bad": "'bad' is refused: no such name"}


@pytest.mark.parametrize(
    "refusal",
    [
        objects.refusal("CONFLICT", "this job has no attempt running", "input", "job"),
        objects.refusal("LIMIT_EXCEEDED", "an attempt has at most 10,000 producers", "input", "producer"),
        objects.refusal("FORBIDDEN", "this token is of an earlier attempt", "input", "job"),
        objects.refusal("INVALID", "say which job, or use a job's token", "input", "job"),
    ],
    ids=["ended", "producers", "another attempt", "a person's token"],
)
def test_what_is_refused_for_good_is_not_tried_again(peer: Peer, sending: Sending, refusal: Json) -> None:
    keeping(peer, lambda given: refusal)
    sending.has("loss")
    sending.has("loss")
    sending.work()
    assert len(peer.operations) == 1 and not len(sending.spool)
    assert refusal["errors"][0]["message"] in sending.told["refused"]
    assert ("rungraph.run" in sending.told["refused"]) is (refusal["errors"][0]["code"] == "INVALID")


def test_a_token_that_is_revoked_ends_it(peer: Peer, tmp_path: Path) -> None:
    sending = Sending(tmp_path / "spool", peer.url, "another")
    sending.has("loss")
    sending.work()
    assert len(peer.operations) == 1 and "no valid token" in sending.told["refused"]


def test_a_batch_that_the_server_stumbles_over_is_put_aside(
    peer: Peer, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MOST_FAULTS", 3)
    kept = keeping(peer)
    peer.faults = [error_response(200, "INTERNAL", "a fault")] * 3
    sending.has("first")
    sending.has("second")
    sending.work()
    assert [one["series"][0]["name"] for one in kept] == ["second"]
    assert "1 points" in sending.told["fault"]


def test_a_run_is_made_once_with_what_its_maker_holds(peer: Peer, tmp_path: Path) -> None:
    made: list[Json] = []

    def create(input: Json) -> Json:
        made.append(input)
        peer.token = "of the run"
        return {"run": objects.run(), "job": objects.job("main"), "token": "of the run", "errors": []}

    def finish(input: Json) -> Json:
        finished.append(input)
        return {"run": objects.run(), "errors": []}

    finished: list[Json] = []
    peer.fields |= {
        "createRun": create,
        "heartbeat": {"cancelRequested": True, "errors": []},
        "finishRun": finish,
    }
    keeping(peer)
    wanted = {"name": "outside", "idempotencyKey": "k"}
    sending = Sending(tmp_path / "spool", peer.url, create=wanted, heartbeat_seconds=60.0)
    sending.has("loss")
    sending.sender.ending = {"state": "SUCCEEDED"}
    sending.sender._beat_at = 0.0
    sending.work()
    assert [one["idempotencyKey"] for one in made] == ["k"] and finished == [{"state": "SUCCEEDED"}]
    assert sending.sender.run_id == objects.RUN
    kept = (tmp_path / "spool" / sender.ABOUT).read_text()
    assert "of the run" in kept and TOKEN not in kept


def test_a_heartbeat_tells_that_the_run_should_stop(peer: Peer, tmp_path: Path) -> None:
    peer.fields["heartbeat"] = {"cancelRequested": True, "errors": []}
    sending = Sending(tmp_path / "spool", peer.url, heartbeat_seconds=60.0)
    sending.work()
    assert sending.sender.cancel_requested and len(peer.operations) == 1


def test_a_job_that_is_launched_here_needs_no_heartbeat(peer: Peer, tmp_path: Path) -> None:
    peer.fields["heartbeat"] = objects.refusal("INVALID", "this job is launched here", "input", "job")
    kept = keeping(peer)
    sending = Sending(tmp_path / "spool", peer.url, heartbeat_seconds=0.0)
    sending.has("loss")
    sending.has("loss")
    sending.work()
    assert [field for field, _ in peer.operations].count("heartbeat") == 1 and len(kept) == 2
