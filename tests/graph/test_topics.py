"""A topic tells each watcher every answer once, in order, however fast they come and however slow some are."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graph import topics
from graph.sharing import Topics
from graph.topics import FEW, Answer, Tell, Topic, Watcher

Action = tuple[str, int]
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("answers"), st.integers(1, 3 * FEW)),
        st.tuples(st.just("turns"), st.integers(1, 20)),
        st.tuples(st.sampled_from(["comes", "goes", "stalls", "reads"]), st.integers(0, 5)),
    ),
    max_size=30,
)


class Client:
    """One that watches, and may take nothing for a while."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.late: list[int] = []
        """What came after it had gone."""
        self.is_gone = False
        self.reads = asyncio.Event()
        self.reads.set()

    def now(self, answer: Answer) -> bool:
        if self.reads.is_set():
            (self.late if self.is_gone else self.told).append(answer.at)
        return self.reads.is_set()

    async def send(self, answer: Answer) -> None:
        await asyncio.sleep(0)
        await self.reads.wait()
        self.told.append(answer.at)


class Source:
    """The answers of a topic that begins at 0, as they are made."""

    def __init__(self) -> None:
        self.made = self.taken = 0
        self.more = asyncio.Event()
        self.is_over = False

    async def answers(self) -> AsyncGenerator[Answer | int, None]:
        yield 0
        while True:
            while self.taken < self.made:
                self.taken += 1
                yield Answer(self.taken, self.taken, b"%d" % self.taken)
            if self.is_over:
                return
            self.more.clear()
            await self.more.wait()


class Followers(Topics):
    """Whoever is behind the window is told by itself, here without a database."""

    def __init__(self) -> None:
        super().__init__(None, None)  # type: ignore[arg-type]
        self.alone: set[int] = set()

    async def _alone(self, topic: Topic, watcher: Watcher, wanted: Any, context: Any) -> bool:
        self.alone.add(context)
        for at in range(watcher.cursor + 1, topic.head + 1):
            await watcher.tell(Answer(at, at, b""))
        return False


async def play(actions: list[Action]) -> None:
    source, clients = Source(), [Client() for _ in range(6)]
    topic, following = Topic(source.answers()), dict[int, asyncio.Task[None]]()
    begun: dict[int, int] = {}
    followers: Any = Followers()
    slow: set[int] = set()
    await topic.ready.wait()
    for what, number in actions:
        if what == "answers":
            source.made += number
            source.more.set()
        elif what == "turns":
            for _ in range(number):
                await asyncio.sleep(0)
        elif what == "comes" and number not in following:
            begun.setdefault(number, topic.head)
            if topic.head < source.made:
                slow.add(number)  # more may be told before it has begun
            clients[number].is_gone = False
            cursor = clients[number].told[-1] if clients[number].told else begun[number]
            watcher = Watcher(cursor, Tell(clients[number].send, clients[number].now))
            following[number] = asyncio.create_task(followers._follow(topic, watcher, None, number))
        elif what == "goes" and number in following:
            task = following.pop(number)
            task.cancel()
            await asyncio.wait({task})
            clients[number].is_gone = True
            slow.add(number)  # it may come again, further behind
        elif what == "stalls":
            slow.add(number)
            clients[number].reads.clear()
        elif what == "reads":
            clients[number].reads.set()
    for client in clients:
        client.reads.set()
    source.is_over = True
    source.more.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*following.values())
    assert followers.alone <= slow
    assert [client.late for client in clients] == [[]] * 6
    for number, client in enumerate(clients):
        first = begun.get(number, 0)
        assert client.told == list(range(first + 1, first + 1 + len(client.told)))
        assert number not in following or first + len(client.told) == source.made


@pytest.mark.parametrize("window_bytes", [topics.WINDOW_BYTES, 1], ids=["with room", "without"])
@pytest.mark.parametrize("turn_seconds", [0.0, 1.0], ids=["a push a turn", "all in one turn"])
@given(actions=ACTIONS)
@example(actions=[*(("comes", number) for number in range(6)), ("turns", 3), ("answers", 4)])
def test_each_watcher_is_told_every_answer_once_and_in_order(
    turn_seconds: float, window_bytes: int, actions: list[Action]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topics, "_TURN_SECONDS", turn_seconds)
        patch.setattr(topics, "WINDOW_BYTES", window_bytes)
        asyncio.run(play(actions))


async def test_answers_that_come_faster_than_they_can_be_sent_are_sent_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "_TURN_SECONDS", 0.0)
    source, client = Source(), Client()
    topic = Topic(source.answers())
    followers: Any = Followers()
    await topic.ready.wait()
    others = [Client() for _ in range(9)]
    tasks = [
        asyncio.create_task(followers._follow(topic, Watcher(0, Tell(each.send, each.now)), None, None))
        for each in [*others, client]
    ]
    await asyncio.sleep(0)
    source.made = 3 * FEW
    source.more.set()
    rounds: list[int] = []
    while topic.head < source.made or client.told[-1:] != [source.made]:
        told = len(client.told)
        await asyncio.sleep(0)
        assert topic.head - (client.told[-1] if client.told else 0) <= 2 * FEW
        if len(client.told) > told:
            rounds.append(len(client.told) - told)
    assert sum(rounds) == source.made and max(rounds) >= FEW // 2, rounds
    topic.stop()
    for task in tasks:
        task.cancel()
