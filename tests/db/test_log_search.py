"""Searching logs: every page is what going through all the lines would give, whatever is searched for."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import errors, feeds, lines, log_search, logs
from db.claims import Launch
from db.database import Database
from db.lines import Line
from db.log_levels import LogLevel, level_of
from db.log_search import Search, Wanted, containing, matching
from db.logs import Placed
from db.paging import Page
from tests.db.world import World, few

texts = st.lists(
    st.sampled_from(["loss", "ERROR: ", " ", "a", "A", "é", "\x1b[31m", "\x1b[0m", "0.5", "$", "\\"]),
    max_size=4,
).map("".join)
printed = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.integers(0, 1),
        st.lists(st.tuples(st.integers(0, 9), st.integers(1, 2), texts), min_size=1, max_size=6),
    ),
    max_size=6,
)
EXPRESSIONS = ("a$", "^$", "lo+s", r"\d\.\d", "(?i)A", "^ERROR", "[^a]", "", "é|A", r"\s")


async def _launched(world: World) -> Launch:
    run_id = await world.start({"a": ()})
    return (await world.claim_all())[run_id, "a"]


async def _print(world: World, launch: Launch, batches: Any) -> list[Placed]:
    """Store what workers print, a chunk each; the lines where they stand."""
    whole: list[Placed] = []
    for attempt, rank, told in batches:
        async with world.database.begin() as session:
            head = await feeds.lock(session, launch.feed_id)
            before = sum((p.attempt, p.rank) == (attempt, rank) for p in whole)
            printer = logs.Printer(launch.job_id, attempt, rank, before, 0)
            block = lines.blocks_of([Line(*fields) for fields in told])
            await logs.append(session, head, lines.pack(block), printer)
            whole += [
                Placed(head.seq, at, attempt, rank, before + at + 1, Line(*fields))
                for at, fields in enumerate(told)
            ]
    return whole


async def _walk(world: World, launch: Launch, wanted: Wanted, size: int, *, backward: bool) -> list[Placed]:
    walked: list[Placed] = []
    page = Page(size, backward=backward)
    while True:
        search = Search(wanted, page)
        while not search.done:
            async with world.database.read() as session:
                batches, more = await log_search.chunks(session, launch.job_id, search)
            search.add(batches, more=more)
        part = search.slice()
        walked = [*part.rows, *walked] if backward else [*walked, *part.rows]
        if not (part.has_previous if backward else part.has_next):
            return walked
        if part.resume is not None:
            at = part.resume
        else:
            assert part.rows
            at = (edge := part.rows[0 if backward else -1]).seq, edge.position
        page = Page(size, before=at, backward=True) if backward else Page(size, after=at)


@few
@given(
    batches=printed,
    size=st.integers(1, 5),
    backward=st.booleans(),
    attempt=st.none() | st.integers(1, 2),
    ranks=st.none() | st.frozensets(st.integers(0, 1)),
    stream=st.none() | st.integers(1, 2),
    level=st.none() | st.sampled_from(LogLevel),
    since=st.none() | st.integers(0, 9),
    until=st.none() | st.integers(0, 9),
    text=st.none() | texts.filter(bool).filter(lambda text: "\x1b" not in text),
    expression=st.none() | st.sampled_from(EXPRESSIONS),
    ignore_case=st.booleans(),
    most=st.sampled_from([1, 20, 1 << 20]),
    seconds=st.sampled_from([0.0, 2.0]),
)
async def test_pages_of_a_search_make_what_going_through_all_lines_gives(
    database: Database,
    batches: Any,
    size: int,
    backward: bool,
    attempt: int | None,
    ranks: frozenset[int] | None,
    stream: int | None,
    level: LogLevel | None,
    since: int | None,
    until: int | None,
    text: str | None,
    expression: str | None,
    ignore_case: bool,
    most: int,
    seconds: float,
) -> None:
    world = await World.make(database)
    launch = await _launched(world)
    whole = await _print(world, launch, batches)
    patterns = [containing(text, ignore_case=ignore_case)] if text else []
    patterns += [matching(expression, ignore_case=ignore_case)] if expression else []
    wanted = Wanted(attempt, ranks, stream, level, since, until, tuple(patterns))

    def is_wanted(placed: Placed) -> bool:
        shown = re.sub(r"\x1b\[\d+m", "", placed.line.text)
        case = re.IGNORECASE if ignore_case else re.NOFLAG
        return (
            (attempt is None or placed.attempt == attempt)
            and (ranks is None or placed.rank in ranks)
            and (stream is None or placed.line.stream == stream)
            and (level is None or (level_of(placed.line.text) or 0) >= level)
            and (since is None or placed.line.time_us >= since)
            and (until is None or placed.line.time_us < until)
            and (not text or re.search(re.escape(text), shown, case) is not None)
            and (not expression or re.search(expression, shown, case) is not None)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_search, "MOST_SEARCHED_BYTES", most)
        patch.setattr(log_search, "MOST_SECONDS", seconds)
        patch.setattr(log_search, "_BYTES_AT_ONCE", most // 2 + 1)
        found = await _walk(world, launch, wanted, size, backward=backward)
    assert found == [placed for placed in whole if is_wanted(placed)]
    await world.end(launch)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("(", "missing"),
        ("a)(b", "unexpected"),
        ("(?=a)", "perl operator"),
        ("a" * 1001, "1 to 1000 characters"),
        ("", "1 to 1000 characters"),
        ("a\nb", "line breaks"),
        (r"\Aa", "ends are"),
        ("(?-m)^a", "ends are"),
        ("((a{500}){500}){500}", "repetition"),
    ],
)
def test_an_expression_that_cannot_be_meant_says_what_is_wrong(wrong: str, words: str) -> None:
    with pytest.raises(errors.Invalid, match=words) as refused:
        matching(wrong)
    assert refused.value.problems[0].path == ("matches",)


def test_an_escaped_backslash_before_a_letter_is_no_end_of_the_text() -> None:
    assert matching(r"\\Az") is not None


def test_a_pattern_that_others_backtrack_over_takes_no_time() -> None:
    packed = lines.pack([lines.Block(0, 1, b"a" * 100_000)])[0]
    batch = logs.Batch(1, b"", 1, 0, 1, 1, packed.size, 0, packed.data)
    assert log_search.sift(batch, Wanted(patterns=(matching("(a*)*(a*)*b$"),))) == []
