"""A queue, against a model that keeps every message in a list."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from effort import effort
from eventually import eventually_async
from heliometer.core.errors import Code, HeliometerError
from heliometer.feed.model import Chunk, Position
from heliometer.feed.queue import Message, Queue

EMPTY = Position(0, 0, 0, 0)
LIMIT = 20


class Reader:
    """Takes as many as it was told to."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.left = room
        self.taken: list[Message] = []

    def room(self) -> int:
        return self.left

    def take(self, messages: Sequence[Message]) -> None:
        assert 0 < len(messages) <= self.left
        self.left -= len(messages)
        self.taken += messages


def chunk(first: int, number: int) -> Chunk:
    return Chunk("p", first, 0, [b"%d" % n for n in range(first, first + number)])


def queue_of(number: int, limit: int = 1000) -> Queue:
    queue = Queue("p", EMPTY, None, limit)
    queue.publish(chunk(0, number))
    return queue


def numbers(reader: Reader) -> list[int]:
    return [m.number for m in reader.taken]


def test_messages_come_in_order_and_once() -> None:
    queue, reader = queue_of(3), Reader()
    queue.attach(reader)
    queue.publish(chunk(3, 2))
    assert [(m.number, m.body, m.redelivered) for m in reader.taken] == [
        (n, b"%d" % n, False) for n in range(5)
    ]


def test_consumers_share_a_queue() -> None:
    queue = queue_of(600)
    one, two = Reader(), Reader(100)
    queue.attach(two)
    queue.attach(one)
    assert len(two.taken) == 100
    assert sorted(numbers(one) + numbers(two)) == list(range(600))


def test_a_consumer_gets_no_more_than_it_has_room_for() -> None:
    queue, reader = queue_of(10), Reader(4)
    queue.attach(reader)
    assert numbers(reader) == [0, 1, 2, 3]
    reader.left = 1
    queue.pump()
    assert numbers(reader) == [0, 1, 2, 3, 4]


def test_what_is_given_back_comes_again_first_and_flagged() -> None:
    queue, reader = queue_of(4), Reader(2)
    queue.attach(reader)
    queue.detach(reader)
    queue.give_back([1, 0])
    other = Reader()
    queue.attach(other)
    assert [(m.number, m.redelivered) for m in other.taken] == [
        (0, True),
        (1, True),
        (2, False),
        (3, False),
    ]


@pytest.mark.reliability(11)
def test_beyond_its_limit_the_oldest_are_dropped_and_counted() -> None:
    queue = queue_of(25, limit=20)
    usage = queue.usage()
    assert (usage.published, usage.queued, usage.dropped) == (25, 20, 5)
    reader = Reader()
    queue.attach(reader)
    assert numbers(reader) == list(range(5, 25))


@pytest.mark.reliability(11)
def test_what_is_out_is_not_dropped_until_it_comes_back() -> None:
    queue, reader = queue_of(10, limit=20), Reader(10)
    queue.attach(reader)
    queue.publish(chunk(10, 20))
    assert queue.usage().dropped == 0
    queue.acknowledge(range(5))
    queue.give_back(range(5, 10))
    usage = queue.usage()
    assert (usage.delivered, usage.dropped, usage.queued) == (5, 5, 20)


def test_a_later_process_goes_on_where_this_one_was_and_flags_what_was_seen() -> None:
    queue, reader = queue_of(10), Reader(6)
    queue.attach(reader)
    queue.acknowledge([0, 1, 4])
    assert queue.position() == Position(first=2, next=10, delivered=2, dropped=0, seen=6)


def test_a_consumer_that_acknowledges_while_it_takes_does_not_recurse() -> None:
    queue = queue_of(5000, limit=10_000)

    class Eager(Reader):
        def take(self, messages: Sequence[Message]) -> None:
            super().take(messages)
            queue.acknowledge([m.number for m in messages])

    eager = Eager()
    queue.attach(eager)
    assert len(eager.taken) == 5000
    assert queue.usage().queued == 0


def test_large_messages_do_not_come_many_at_once() -> None:
    queue = Queue("p", EMPTY, None, 1000)
    sizes: list[int] = []

    class Sizes(Reader):
        def take(self, messages: Sequence[Message]) -> None:
            sizes.append(sum(len(m.body) for m in messages))

    queue.attach(Sizes())
    queue.publish(Chunk("p", 0, 0, [bytes(100_000)] * 100))
    assert max(sizes) <= 1 << 18
    assert sum(sizes) == 100 * 100_000


class Model(RuleBasedStateMachine):
    """What a queue promises, whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue("p", EMPTY, None, LIMIT)
        self.readers = [Reader(0), Reader(0)]
        self.out: list[int] = []
        self.ended: set[int] = set()
        self.seen: set[int] = set()
        for reader in self.readers:
            self.queue.attach(reader)

    def collect(self) -> None:
        for reader in self.readers:
            for message in reader.taken:
                assert message.number not in self.ended, "acknowledged, and delivered again"
                assert message.number not in self.out, "with two consumers at once"
                assert message.redelivered == (message.number in self.seen)
                self.seen.add(message.number)
                self.out.append(message.number)
            reader.taken.clear()

    @rule(number=st.integers(1, 15))
    def publish(self, number: int) -> None:
        self.queue.publish(chunk(self.queue.next, number))
        self.collect()

    @rule(which=st.integers(0, 1), room=st.integers(0, 12))
    def make_room(self, which: int, room: int) -> None:
        self.readers[which].left = room
        self.queue.pump()
        self.collect()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.out), unique=True))
        self.out = [n for n in self.out if n not in some]
        self.ended.update(some)
        self.queue.acknowledge(some)
        self.collect()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(self.out), unique=True))
        self.out = [n for n in self.out if n not in some]
        self.queue.give_back(some)
        self.collect()

    @rule(ahead=st.integers(0, 10))
    def drop(self, ahead: int) -> None:
        self.queue.drop_to(self.queue.position().first + ahead)
        self.collect()

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        usage, position = self.queue.usage(), self.queue.position()
        assert usage.published == usage.queued + usage.delivered + usage.dropped
        assert usage.delivered == len(self.ended)
        assert usage.queued == self.queue.ready + len(self.out)
        assert self.queue.ready <= LIMIT
        assert position.first == position.delivered + position.dropped
        assert position.delivered >= 0


TestModel = pytest.mark.reliability(11)(Model.TestCase)
TestModel.settings = settings(max_examples=effort(30, 1200), stateful_step_count=40, deadline=None)


class Pages:
    """A store whose pages cannot be read at first."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)

    async def read(self, project_id: str, number: int) -> Chunk:
        if self.failures:
            raise self.failures.pop(0)
        return chunk(0, 3)


@pytest.mark.parametrize(
    "failure",
    [HeliometerError(Code.UNAVAILABLE, "away"), ValueError("odd"), asyncio.CancelledError()],
)
async def test_a_page_that_cannot_be_read_is_read_again(
    failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliometer.feed.queue.RETRY_S", 0.001)
    queue = Queue("p", Position(0, 3, 0, 0), Pages(failure), LIMIT)  # type: ignore[arg-type]
    reader = Reader()
    queue.attach(reader)
    await eventually_async(lambda: numbers(reader) == [0, 1, 2])
