"""The state machine against a small model: what a graph with given outcomes must end as, in any order."""

import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.states import (
    ACTIVE_JOB,
    JOB_MOVES,
    REOPENED,
    TERMINAL_JOB,
    TERMINAL_RUN,
    EndReason,
    JobState,
    RunState,
    Standing,
    advance,
    derive,
)

S = JobState
LAUNCHED = {S.STARTING, S.RUNNING, S.CANCELLING}
OUTCOMES = (S.SUCCEEDED, S.FAILED, S.CANCELLED)
Graph = list[tuple[tuple[int, ...], JobState]]
PAIRS = list(itertools.product(JobState, JobState))
Pick = Callable[[Sequence[int]], int]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """What each job needs, all of it earlier, and how it ends if it is launched."""
    size = draw(st.integers(1, 8))
    needs = [draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set() for i in range(size)]
    return [(tuple(sorted(wanted)), draw(st.sampled_from(OUTCOMES))) for wanted in needs]


class Play:
    """A run that is played through: whoever picks decides which job moves next."""

    def __init__(self, graph: Graph, *, fail_fast: bool = False) -> None:
        self.graph = graph
        self.fail_fast = fail_fast
        self.cancelling = False
        self.states = [S.WAITING] * len(graph)
        self.launched: list[int] = []

    def settle(self) -> None:
        standings = [Standing(i, s, self.graph[i][0]) for i, s in enumerate(self.states)]
        moves = advance(standings, fail_fast=self.fail_fast, cancelling=self.cancelling)
        for position, to in moves.items():
            self.move(position, to)
        again = [Standing(i, s, self.graph[i][0]) for i, s in enumerate(self.states)]
        assert not advance(again, fail_fast=self.fail_fast, cancelling=self.cancelling), "one pass is enough"

    def move(self, position: int, to: JobState) -> None:
        assert to in JOB_MOVES[self.states[position]]
        self.states[position] = to
        if to is S.STARTING:
            self.launched.append(position)

    def step(self, pick: Pick) -> bool:
        """One job further; False when none can be."""
        self.settle()
        ready = [i for i, state in enumerate(self.states) if state in LAUNCHED | {S.QUEUED}]
        if not ready:
            return False
        position = pick(ready)
        onward = {S.QUEUED: S.STARTING, S.STARTING: S.RUNNING}
        self.move(position, onward.get(self.states[position], self.graph[position][1]))
        return True

    @property
    def state(self) -> RunState:
        return derive(self.states, cancelling=self.cancelling)


def expected(graph: Graph) -> list[JobState]:
    """How the jobs end when every branch goes on: the model."""
    ends: list[JobState] = []
    for needs, outcome in graph:
        ends.append(outcome if all(ends[need] is S.SUCCEEDED for need in needs) else S.SKIPPED)
    return ends


@pytest.mark.parametrize(("was", "to"), PAIRS)
def test_a_job_moves_only_onward_and_never_out_of_its_end(was: JobState, to: JobState) -> None:
    order = [S.WAITING, S.QUEUED, S.STARTING, S.RUNNING, S.CANCELLING]
    legal = to in JOB_MOVES[was]
    if was in TERMINAL_JOB:
        assert not legal
    elif was is S.CANCELLING:
        assert legal is (to is S.CANCELLED)
    elif to in TERMINAL_JOB:
        never = {S.SKIPPED} if was in ACTIVE_JOB else {S.SUCCEEDED} if was is S.QUEUED else set()
        assert legal is (to not in never)
    elif to is S.QUEUED:
        assert legal is (was in (S.WAITING, S.STARTING, S.RUNNING))
    else:
        direct = order.index(to) == order.index(was) + 1 or (was, to) == (S.STARTING, S.CANCELLING)
        assert legal is (direct and to is not S.WAITING)


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("cancelling", [False, True])
def test_a_run_is_terminal_iff_its_jobs_are(one: JobState, other: JobState, cancelling: bool) -> None:
    state = derive([one, other], cancelling=cancelling)
    assert (state in TERMINAL_RUN) is ({one, other} <= TERMINAL_JOB)
    assert state is derive([other, one], cancelling=cancelling)
    if state is RunState.SUCCEEDED:
        assert not {one, other} & {S.FAILED, S.CANCELLED}
    if state is RunState.FAILED:
        assert S.FAILED in (one, other)


@given(graphs(), st.data())
def test_jobs_end_as_the_graph_says_in_whatever_order_they_run(graph: Graph, data: st.DataObject) -> None:
    play = Play(graph)
    while play.step(lambda ready: data.draw(st.sampled_from(ready))):
        assert (play.state in TERMINAL_RUN) is all(state in TERMINAL_JOB for state in play.states)
    assert play.states == expected(graph)
    assert play.state in TERMINAL_RUN
    assert sorted(play.launched) == [i for i, state in enumerate(play.states) if state is not S.SKIPPED]


@given(graphs(), st.data())
def test_nothing_is_launched_before_what_it_needs_has_succeeded(graph: Graph, data: st.DataObject) -> None:
    play = Play(graph)
    while play.step(lambda ready: data.draw(st.sampled_from(ready))):
        for position in play.launched:
            assert all(play.states[need] is S.SUCCEEDED for need in graph[position][0])


@given(graphs(), st.data())
def test_a_fail_fast_run_launches_nothing_after_its_first_failure(graph: Graph, data: st.DataObject) -> None:
    play = Play(graph, fail_fast=True)
    launched: int | None = None
    while play.step(lambda ready: data.draw(st.sampled_from(ready))):
        if launched is not None:
            assert len(play.launched) == launched
        elif S.FAILED in play.states:
            launched = len(play.launched)
    ends = expected(graph)
    assert all(state in (S.SKIPPED, ends[i]) for i, state in enumerate(play.states))
    assert play.state in TERMINAL_RUN


@given(graphs(), st.integers(0, 12), st.data())
def test_a_cancelled_run_launches_nothing_more_and_ends(
    graph: Graph, after: int, data: st.DataObject
) -> None:
    play = Play(graph)
    for _ in range(after):
        play.step(lambda ready: data.draw(st.sampled_from(ready)))
    play.settle()
    ended, launched = play.state in TERMINAL_RUN, len(play.launched)
    was = play.state
    play.cancelling = not ended
    while play.step(lambda ready: data.draw(st.sampled_from(ready))):
        assert play.state in TERMINAL_RUN | {RunState.CANCELLING}
    assert len(play.launched) == launched
    if not ended:
        assert play.state is RunState.CANCELLED or S.CANCELLED not in play.states
    else:
        assert play.state is was


def test_a_run_is_queued_until_a_job_of_it_is_launched() -> None:
    assert derive([S.WAITING, S.QUEUED], cancelling=False) is RunState.QUEUED
    assert derive([S.WAITING, S.STARTING], cancelling=False) is RunState.RUNNING
    assert derive([S.SUCCEEDED, S.WAITING], cancelling=False) is RunState.RUNNING


def test_a_run_whose_jobs_ended_by_themselves_is_not_cancelled_by_a_late_request() -> None:
    assert derive([S.SUCCEEDED, S.SKIPPED], cancelling=True) is RunState.SUCCEEDED
    assert derive([S.FAILED, S.SKIPPED], cancelling=True) is RunState.FAILED
    assert derive([S.FAILED, S.CANCELLED], cancelling=True) is RunState.CANCELLED


def test_one_move_leads_out_of_an_end_and_only_from_what_was_lost() -> None:
    was, reason, to = REOPENED
    assert (was, reason, to) == (S.FAILED, EndReason.LOST, S.RUNNING)
    assert to not in JOB_MOVES[was], "no job of ours ever takes it"
    assert derive([to], cancelling=False) is RunState.RUNNING
