"""`rungraph run logs`: whole logs, their last lines, and what is said of lines that are no longer kept."""

import json
from typing import Any

from tests.client import objects
from tests.client.conftest import Command
from tests.client.peer import Peer


def test_logs_are_read_to_their_last_page(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run(jobs=[objects.job("split"), objects.job("train")])
    pages = [objects.connection([objects.line("a")], "1"), objects.connection([objects.line("b")])]
    peer.fields["job"] = lambda id: {"logs": lambda info, **page: pages.pop(0)}
    assert command("run", "logs", objects.RUN, "--step", "train").stdout == "train │ a\ntrain │ b\n"


def test_logs_as_json_are_one_document(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run()
    peer.fields["job"] = {"logs": objects.connection([objects.line("a")])}
    (line,) = json.loads(command("run", "logs", objects.RUN, "--json").stdout)
    assert (line["step"], line["text"], line["stream"]) == ("train", "a", "STDOUT")


def test_following_logs_replays_them_and_goes_on(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run(jobs=[objects.job("split"), objects.job("train")])
    lines = [("LinesAdded", {"step": step, "lines": [objects.line(step)]}) for step in ("split", "train")]
    peer.feeds["run"] = objects.events(*lines, first=1)
    assert command("run", "logs", objects.RUN, "-f").stdout == "split │ split\ntrain │ train\n"
    told = command("run", "logs", objects.RUN, "-f", "--step", "train", "--json").stdout
    assert json.loads(told)["text"] == "train"


def test_of_several_workers_each_line_names_its_own(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run(jobs=[objects.job("split"), objects.job("train", workers=2)])
    lines = [objects.line("a", rank=1), objects.line("b"), objects.line("c", number=9, rank=1)]
    gap = {"fromLine": 2, "toLine": 8, "sizeBytes": 1, "attempt": 1, "rank": 1}
    peer.feeds["run"] = objects.events(
        ("LinesAdded", {"step": "split", "lines": [objects.line("x")]}),
        ("LinesAdded", {"step": "train", "lines": lines[:2]}),
        ("LinesDropped", {"step": "train", "gap": gap}),
        ("LinesAdded", {"step": "train", "lines": lines[2:]}),
    )
    peer.fields["job"] = {"logs": objects.connection(lines)}
    whole = command("run", "logs", objects.RUN, "--step", "train")
    followed = command("run", "logs", objects.RUN, "-f")
    watched = command("run", "watch", objects.RUN)
    assert whole.stdout == "train[1] │ a\ntrain[0] │ b\ntrain[1] │ c\n"
    assert followed.stdout == f"split │ x\n{whole.stdout}" and followed.stdout in watched.stdout
    for each in (whole, followed, watched):
        assert "train[1]: lines 2 to 8 are no longer kept" in each.stderr


def _tail(nodes: list[objects.Json], cursor: str | None) -> objects.Json:
    return {"nodes": nodes, "pageInfo": {"hasPreviousPage": cursor is not None, "startCursor": cursor}}


def test_the_last_lines_are_read_backward(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run()
    asked: list[dict[str, Any]] = []
    lines = [objects.line(str(number), number=number) for number in range(1000, 1650)]

    def page(info: object, **page: Any) -> objects.Json:
        asked.append({name: page[name] for name in ("last", "before")})
        end = 650 if page["before"] is None else int(page["before"])
        return _tail(lines[end - page["last"] : end], str(end - page["last"]))

    peer.fields["job"] = lambda id: {"logs": page}
    told = command("run", "logs", objects.RUN, "--last", "620").stdout
    assert told.split() == [word for n in range(1030, 1650) for word in ("train", "│", str(n))]
    assert asked == [{"last": 500, "before": None}, {"last": 120, "before": "150"}]


def test_lines_that_are_missing_are_said(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run()
    kept = [objects.line("a"), objects.line("b", number=5001)]
    peer.fields["job"] = {"logs": objects.connection(kept)}
    result = command("run", "logs", objects.RUN)
    assert result.stdout == "train │ a\ntrain │ b\n"
    assert "train: lines 2 to 5,000 are no longer kept" in result.stderr


def test_following_from_the_last_lines_tells_each_once(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run(seq=5)
    peer.fields["job"] = {"logs": _tail([objects.line("seven", number=7)], None)}
    gap = {"fromLine": 8, "toLine": 90, "sizeBytes": 1, "attempt": 1, "rank": 0}
    peer.feeds["run"] = objects.events(
        ("LinesAdded", {"step": "train", "lines": [objects.line("six", number=6)]}),
        ("LinesAdded", {"step": "train", "lines": [objects.line("seven", number=7)]}),
        ("LinesDropped", {"step": "train", "gap": gap}),
        ("LinesAdded", {"step": "train", "lines": [objects.line("last", number=91)]}),
        first=6,
    )
    result = command("run", "logs", objects.RUN, "-f", "--last", "1")
    assert result.stdout == "train │ seven\ntrain │ last\n"
    assert "train: lines 8 to 90 are no longer kept" in result.stderr


def test_lines_are_chosen_by_conditions(peer: Peer, command: Command) -> None:
    peer.fields["run"] = objects.run()
    asked: list[Any] = []

    def page(info: Any, **given: Any) -> objects.Json:
        asked.append(given["filter"])
        return objects.connection([objects.line("seven", number=7)])

    peer.fields["job"] = lambda id: {"logs": page}
    options = ("--grep", "^s", "--level", "warning", "--stream", "stderr", "--rank", "0", "--rank", "2", "-i")
    result = command("run", "logs", objects.RUN, *options)
    assert result.stdout == "train │ seven\n" and "no longer kept" not in result.stderr
    wanted = {"matches": "^s", "level": "WARNING", "stream": "STDERR", "ranks": [0, 2], "ignoreCase": True}
    assert {
        name: getattr(value, "name", value) for name, value in asked[0].items() if value is not None
    } == wanted


def test_lines_that_are_followed_are_not_chosen(command: Command) -> None:
    result = command("run", "logs", objects.RUN, "-f", "--contains", "x")
    assert result.exit_code == 2 and "--follow" in result.stderr
