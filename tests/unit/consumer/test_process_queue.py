"""The process queue, against a naive model and in the cases that hurt when they go wrong."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from grocketmq.consumer.process_queue import LOCK_LIFE, NO_OFFSET, PULL_IDLE_LIMIT, ProcessQueue
from grocketmq.model.message import MessageExt


def message(offset: int) -> MessageExt:
    return MessageExt("T", b"x" * (offset % 7), queue_offset=offset)


def messages(*offsets: int) -> list[MessageExt]:
    return [message(offset) for offset in offsets]


class ConcurrentModel(RuleBasedStateMachine):
    """Pulls, listener calls that end in any order, expiry and resets; the model is a dict that is sorted each time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ProcessQueue(now=0.0)
        self.held: dict[int, MessageExt] = {}
        self.started: dict[int, float] = {}
        self.last_put = 0
        self.now = 0.0

    @rule(gaps=st.lists(st.integers(1, 4), min_size=1, max_size=40))
    def put_more(self, gaps: list[int]) -> None:
        offset, batch = max(self.held, default=self.last_put), []
        for gap in gaps:
            offset += gap
            batch.append(message(offset))
        self.put(batch)

    @rule(offsets=st.lists(st.integers(0, 60), max_size=10))
    def put_anything(self, offsets: list[int]) -> None:
        self.put(messages(*offsets))

    def put(self, batch: list[MessageExt]) -> None:
        self.queue.put(batch)
        for one in batch:
            if one.queue_offset not in self.held:
                self.held[one.queue_offset] = one
                self.last_put = one.queue_offset

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def remove_some(self, data: st.DataObject) -> None:
        self.remove(data.draw(st.lists(st.sampled_from(sorted(self.held)), max_size=8)))

    @rule(offset=st.integers(0, 80))
    def remove_anything(self, offset: int) -> None:
        self.remove([offset])

    def remove(self, offsets: list[int]) -> None:
        had_some = bool(self.held)
        for offset in offsets:
            self.held.pop(offset, None)
            self.started.pop(offset, None)
        expected = min(self.held, default=self.last_put + 1) if had_some else NO_OFFSET
        assert self.queue.remove(messages(*offsets)) == expected

    @rule(offsets=st.lists(st.integers(0, 80), max_size=5))
    def start(self, offsets: list[int]) -> None:
        self.now += 1.0
        self.queue.mark_started(messages(*offsets), self.now)
        self.started.update((offset, self.now) for offset in offsets if offset in self.held)

    @rule(timeout=st.floats(0.0, 5.0), limit=st.integers(0, 4))
    def expire(self, timeout: float, limit: int) -> None:
        expected = []
        for offset in sorted(self.held):
            if len(expected) == limit or self.now - self.started.get(offset, self.now) <= timeout:
                break
            expected.append(offset)
        assert [one.queue_offset for one in self.queue.expired(self.now, timeout, limit)] == expected

    @rule()
    def clear(self) -> None:
        self.queue.clear()
        self.held.clear()
        self.started.clear()
        self.last_put = 0

    @invariant()
    def agrees(self) -> None:
        assert self.queue.offsets() == sorted(self.held)
        assert self.queue.count == len(self.held)
        assert self.queue.has_messages == bool(self.held)
        assert self.queue.size_bytes == sum(len(one.body) for one in self.held.values())
        assert self.queue.span == (max(self.held) - min(self.held) if self.held else 0)


class OrderlyModel(RuleBasedStateMachine):
    """Takes in order, commits, rollbacks and messages put back."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ProcessQueue(now=0.0)
        self.waiting: set[int] = set()
        self.taken: set[int] = set()
        self.next_offset = 0
        self.at_work = False

    @rule(count=st.integers(0, 20))
    def put(self, count: int) -> None:
        offsets = range(self.next_offset, self.next_offset + count)
        self.next_offset += count
        self.waiting.update(offsets)
        assert self.queue.put(messages(*offsets)) == (bool(self.waiting) and not self.at_work)
        self.at_work = self.at_work or bool(self.waiting)

    @rule(limit=st.integers(1, 8))
    def take(self, limit: int) -> None:
        expected = sorted(self.waiting)[:limit]
        assert [one.queue_offset for one in self.queue.take(limit)] == expected
        self.waiting.difference_update(expected)
        self.taken.update(expected)
        self.at_work = self.at_work and bool(expected)

    @rule()
    def commit(self) -> None:
        assert self.queue.commit() == max(self.taken, default=NO_OFFSET - 1) + 1
        self.taken.clear()

    @rule()
    def rollback(self) -> None:
        self.queue.rollback()
        self.waiting |= self.taken
        self.taken.clear()

    @precondition(lambda self: self.next_offset)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        offsets = data.draw(st.lists(st.integers(0, self.next_offset), max_size=5))
        self.queue.put_back(messages(*offsets))
        back = self.taken.intersection(offsets)
        self.taken -= back
        self.waiting |= back

    @invariant()
    def agrees(self) -> None:
        assert self.queue.offsets() == sorted(self.waiting)
        assert self.queue.taken_offsets() == sorted(self.taken)
        assert self.queue.count == len(self.waiting) + len(self.taken)
        assert self.queue.size_bytes == sum(offset % 7 for offset in self.waiting | self.taken)
        assert self.queue.span == (max(self.waiting) - min(self.waiting) if self.waiting else 0)


TestConcurrentModel = ConcurrentModel.TestCase
TestOrderlyModel = OrderlyModel.TestCase


def test_a_slow_message_holds_the_offset_back() -> None:
    queue = ProcessQueue(now=0.0)
    queue.put(messages(*range(100)))
    assert {queue.remove([message(offset)]) for offset in range(1, 100)} == {0}
    assert queue.span == 0
    assert queue.remove([message(0)]) == 100


def test_the_first_copy_of_a_message_stays() -> None:
    queue = ProcessQueue(now=0.0)
    first, again = message(5), message(5)
    queue.put([first])
    queue.put([again])
    assert queue.take(1)[0] is first


def test_expired_messages_are_only_looked_for_at_the_head() -> None:
    queue = ProcessQueue(now=0.0)
    queue.put(messages(1, 2, 3))
    queue.mark_started(messages(1), 100.0)
    queue.mark_started(messages(2, 3), 10.0)
    assert queue.expired(now=110.0, timeout=15.0) == []
    queue.remove(messages(1))
    assert [one.queue_offset for one in queue.expired(now=110.0, timeout=15.0)] == [2, 3]


def test_a_message_that_waits_for_a_listener_never_expires() -> None:
    queue = ProcessQueue(now=0.0)
    queue.put(messages(1))
    assert queue.expired(now=1e9, timeout=1.0) == []


def test_one_round_of_expiry_is_bounded() -> None:
    queue = ProcessQueue(now=0.0)
    queue.put(messages(*range(40)))
    queue.mark_started(messages(*range(40)), 0.0)
    assert len(queue.expired(now=10.0, timeout=1.0)) == 16


def test_a_message_started_anew_gets_its_time_anew() -> None:
    queue = ProcessQueue(now=0.0)
    queue.put(messages(1))
    queue.mark_started(messages(1), 0.0)
    queue.mark_started(messages(1), 50.0)
    assert queue.expired(now=60.0, timeout=30.0) == []


def test_starting_what_has_gone_leaves_nothing_behind() -> None:
    queue = ProcessQueue(now=0.0)
    queue.put(messages(1))
    queue.remove(messages(1))
    queue.mark_started(messages(1), 0.0)
    queue.put(messages(1))
    assert queue.expired(now=100.0, timeout=1.0) == []


@pytest.mark.parametrize("idle", [0.0, PULL_IDLE_LIMIT, PULL_IDLE_LIMIT + 0.1])
def test_a_queue_nobody_pulls_is_found(idle: float) -> None:
    queue = ProcessQueue(now=1000.0)
    assert queue.pull_expired(1000.0 + idle) is (idle > PULL_IDLE_LIMIT)


@pytest.mark.parametrize("age", [0.0, LOCK_LIFE, LOCK_LIFE + 0.1])
def test_an_old_lock_is_not_trusted(age: float) -> None:
    queue = ProcessQueue(now=0.0)
    queue.last_lock = 50.0
    assert queue.lock_expired(50.0 + age) is (age > LOCK_LIFE)


def test_a_stuck_head_does_not_let_the_memory_of_removed_messages_grow() -> None:
    queue = ProcessQueue(now=0.0)
    queue.put(messages(0))
    for offset in range(1, 10_000):
        queue.put(messages(offset))
        queue.remove(messages(offset))
    assert len(queue._order) < 2_000
    assert queue.remove(messages(0)) == 10_000
    assert queue.offsets() == []
