"""The parts of a lite pull consumer: the queues with their line for polls, and the pulls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from grocketmq.consumer.config import LitePullConsumerConfig
from grocketmq.consumer.lite_pulls import LitePulls
from grocketmq.consumer.lite_queues import AssignedQueue, AssignedQueues
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_request import PullRequest
from grocketmq.consumer.puller import PullOptions
from grocketmq.consumer.stats import StatsRecorder
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import BrokerError, ClientStateError, ConfigError, FlowControlError, RequestTimeout
from grocketmq.model.message import MessageExt
from grocketmq.model.results import PullResult, PullStatus
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from tests.helpers import wait_for
from tests.unit.client.fakes import Answer, give
from tests.unit.consumer.fakes import messages

QUEUES = [MessageQueue("T", "a", number) for number in range(3)]
QUEUE = QUEUES[0]


def new_queues(**settings: Any) -> AssignedQueues:
    return AssignedQueues(LitePullConsumerConfig(**settings), {})


def request(queue: MessageQueue = QUEUE, offset: int = 0) -> PullRequest:
    return PullRequest(queue, ProcessQueue(0.0), offset)


def put(queues: AssignedQueues, assigned: AssignedQueue, *offsets: int) -> None:
    """What a pull does that found these."""
    assigned.request.next_offset = offsets[-1] + 1
    queues.put(assigned, messages(*offsets), offsets[-1] + 1)


def take(queues: AssignedQueues, limit: int = 10) -> list[int]:
    return [message.queue_offset for message in queues.take(limit, Deadline(0))]


# The queues


class QueuesModel(RuleBasedStateMachine):
    """Pulls, polls, seeks, pauses and rebalances in any order, against one list of waiting offsets a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queues = new_queues()
        self.waiting: dict[MessageQueue, list[int]] = {}
        self.next: dict[MessageQueue, int] = {}
        self.handed_out: dict[MessageQueue, int] = {}
        self.paused: set[MessageQueue] = set()

    def assigned(self, queue: MessageQueue) -> AssignedQueue:
        found = self.queues.get(queue)
        assert found is not None
        return found

    @rule(queue=st.sampled_from(QUEUES), offset=st.integers(0, 50))
    def come_or_go(self, queue: MessageQueue, offset: int) -> None:
        if queue in self.waiting:
            self.assigned(queue).held.dropped = True
            assert self.queues.get(queue) is None
            self.queues.remove(queue)
            del self.waiting[queue]
            self.paused.discard(queue)
        else:
            self.queues.add(request(queue, offset))
            self.waiting[queue] = []
            self.next[queue] = self.handed_out[queue] = offset

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), gaps=st.lists(st.integers(0, 2), max_size=12), tail=st.integers(0, 3))
    def pull(self, data: st.DataObject, gaps: list[int], tail: int) -> None:
        """A pull finds messages, with gaps where the filter left some out."""
        queue = data.draw(st.sampled_from(sorted(self.waiting)))
        found = []
        for gap in gaps:
            self.next[queue] += gap
            found.append(self.next[queue])
            self.next[queue] += 1
        self.next[queue] += tail
        self.assigned(queue).request.next_offset = self.next[queue]
        if found:
            self.queues.put(self.assigned(queue), messages(*found), self.next[queue])
            self.waiting[queue] += found

    @rule(limit=st.integers(1, 5))
    def poll(self, limit: int) -> None:
        batch = self.queues.take(limit, Deadline(-1))
        ready = [queue for queue, offsets in self.waiting.items() if offsets and queue not in self.paused]
        assert bool(batch) == bool(ready)
        if batch:
            offsets = [message.queue_offset for message in batch]
            queue = next(one for one in ready if self.waiting[one][: len(offsets)] == offsets)
            assert len(offsets) == min(limit, len(self.waiting[queue]))
            del self.waiting[queue][: len(offsets)]
            self.handed_out[queue] = offsets[-1] + 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), offset=st.integers(0, 100))
    def seek(self, data: st.DataObject, offset: int) -> None:
        queue = data.draw(st.sampled_from(sorted(self.waiting)))
        before = self.assigned(queue).request
        self.queues.move(self.assigned(queue), offset)
        assert self.assigned(queue).request is not before
        self.waiting[queue] = []
        self.next[queue] = self.handed_out[queue] = offset

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def pause_or_resume(self, data: st.DataObject) -> None:
        queue = data.draw(st.sampled_from(sorted(self.waiting)))
        if queue in self.paused:
            self.queues.resume(self.assigned(queue))
            self.paused.discard(queue)
        else:
            self.assigned(queue).paused = True
            self.paused.add(queue)

    @invariant()
    def totals_are_right(self) -> None:
        assert self.queues.count == sum(map(len, self.waiting.values())) == self.queues.size_bytes

    @invariant()
    def positions_pass_over_nothing_that_waits(self) -> None:
        for queue, offsets in self.waiting.items():
            assert self.assigned(queue).position == (self.handed_out[queue] if offsets else self.next[queue])


TestQueues = QueuesModel.TestCase


def drained(first: AssignedQueues) -> list[int]:
    got: list[int] = []
    while batch := take(first):
        got += batch
    return got


def test_a_queue_stands_in_the_line_once() -> None:
    queues = new_queues()
    assigned = queues.add(request())
    for first in range(0, 30, 3):
        put(queues, assigned, first, first + 1, first + 2)
    assert drained(queues) == list(range(30))
    assert queues._line.qsize() == 0


def test_close_ends_waiting_polls_and_later_ones() -> None:
    queues = new_queues()
    ended: list[int] = []

    def poll(number: int) -> None:
        with pytest.raises(ClientStateError):
            queues.take(10, None)
        ended.append(number)

    polls = [gevent.spawn(poll, number) for number in range(3)]
    gevent.sleep(0)
    queues.close()
    gevent.joinall(polls, timeout=1)
    poll(3)
    assert sorted(ended) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "room"),
    [
        ({}, True),
        ({"max_cached_messages_per_queue": 19}, False),
        ({"max_cached_messages_per_queue": 20}, True),
        ({"max_cached_messages": 19}, False),
        ({"max_cached_messages": None}, True),
        ({"max_span_concurrently": 18}, False),
        ({"max_cached_mib_per_queue": 1}, False),
        ({"max_cached_mib": 1}, False),
        ({"max_cached_mib": 3}, True),
    ],
    ids=str,
)
def test_bounds(settings: dict[str, Any], room: bool) -> None:
    queues = new_queues(**settings)
    assigned = queues.add(request())
    body = b"x" * (100 * 1024)
    queues.put(assigned, [MessageExt("T", body, queue_offset=offset) for offset in range(20)], 20)
    assert queues.has_room(assigned) is room
    drained(queues)
    assert queues.has_room(assigned)


def test_all_queues_are_woken_when_the_cache_is_half_empty() -> None:
    queues = new_queues(max_cached_messages=20)
    first, second = queues.add(request(QUEUES[0])), queues.add(request(QUEUES[1]))
    put(queues, first, *range(30))
    assert not queues.has_room(second)
    second.wake.clear()
    take(queues)
    assert not second.wake.is_set(), "there is a little room, for the one that was polled"
    take(queues)
    assert second.wake.is_set()


def test_of_many_queues_that_wait_for_room_some_are_woken_and_wake_the_others() -> None:
    queues = new_queues(max_cached_messages=20)
    full = queues.add(request(QUEUES[0]))
    waiting = [queues.add(request(MessageQueue("T", "b", number))) for number in range(100)]
    put(queues, full, *range(30))
    for one in waiting:
        assert not queues.has_room(one)
        one.wake.clear()
    queues.remove(waiting[0].queue)
    while queues.count:
        take(queues)
    woken = [one for one in waiting if one.wake.is_set()]
    assert woken
    assert woken[0] is waiting[1]
    assert len(woken) < 99
    for one in waiting[1:]:  # each looks once it is woken
        assert one.wake.is_set()
        assert queues.has_room(one)


@pytest.mark.parametrize("name", ["auto_commit_interval", "pull_batch_size", "max_cached_messages"])
def test_settings_have_ranges(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        LitePullConsumerConfig(**{name: -1})


# The pulls


class FakeLiteInstance:
    def __init__(self) -> None:
        self.events: list[str] = []

    def heartbeat_soon(self) -> None:
        self.events.append("heartbeat")

    def refresh_routes_soon(self) -> None:
        self.events.append("routes")


class Bench:
    """Pulls of one queue over a puller whose answers are handed to it one by one."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.forgotten: list[MessageQueue] = []
        self._answers: list[AsyncResult[Answer]] = []
        self.subscriptions = Subscriptions()
        self.subscriptions.add("T", "*")
        self.queues = new_queues()
        self.instance = FakeLiteInstance()
        self.tasks = TaskGroup("test")
        config, stats = LitePullConsumerConfig(), StatsRecorder()
        self.pulls = LitePulls(
            Membership("g", self.instance, config, self.subscriptions, self.tasks, stats),  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            PullOptions(max_nums=10, hold=20.0, timeout=30.0, send_subscription=True, lite=True),
            self.queues,
        )
        self.pulls.begin(request())

    @property
    def assigned(self) -> AssignedQueue:
        found = self.queues.get(QUEUE)
        assert found is not None
        return found

    def pull(self, queue: MessageQueue, subscription: Any, offset: int, options: PullOptions, reached: None) -> PullResult:
        self.asked.append(offset)
        answer: AsyncResult[Answer] = AsyncResult()
        self._answers.append(answer)
        return give(answer.get())

    def forget(self, queue: MessageQueue) -> None:
        self.forgotten.append(queue)

    def answer(self, number: int, *offsets: int, next_offset: int | None = None, status: Any = None) -> None:
        """Answer the pull with this number, once it was made."""
        self.reply(number, self.result(*offsets, next_offset=next_offset, status=status))

    def reply(self, number: int, answer: Answer) -> None:
        wait_for(lambda: len(self._answers) > number)
        self._answers[number].set(answer)

    def result(self, *offsets: int, next_offset: int | None = None, status: Any = None) -> PullResult:
        after = next_offset if next_offset is not None else offsets[-1] + 1
        found = PullStatus.FOUND if offsets else PullStatus.NO_NEW_MSG
        return PullResult(status or found, messages(*offsets), after, 0, 100)

    def asks(self, *offsets: int) -> None:
        wait_for(lambda: self.asked == list(offsets), message=f"pulls at {offsets}")


@contextmanager
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.tasks.kill()


def test_one_pull_after_the_other() -> None:
    with bench() as it:
        it.answer(0, 0, 1, 2)
        it.answer(1, next_offset=3)
        it.answer(2, 5, 6)
        it.asks(0, 3, 3, 7)
        assert drained(it.queues) == [0, 1, 2, 5, 6]
        assert it.assigned.position == 7


def test_an_answer_from_before_a_seek_is_thrown_away() -> None:
    """Also when it comes in the same turn of the event loop as the seek."""
    with bench() as it:
        it.asks(0)
        it._answers[0].set(it.result(0, 1, 2))
        it.pulls.move(it.assigned, 50)
        it.asks(0, 50)
        assert take(it.queues) == []
        it.answer(1, 50)
        it.asks(0, 50, 51)
        assert take(it.queues) == [50]


def test_a_queue_that_is_released_is_pulled_no_more() -> None:
    with bench() as it:
        it.answer(0, 0)
        it.asks(0, 1)
        it.assigned.held.dropped = True
        it.pulls.release(QUEUE)
        assert it.forgotten == [QUEUE]
        assert take(it.queues) == []
        wait_for(lambda: not it.tasks.names())


def test_a_refused_offset_ahead_only_moves_the_pulls() -> None:
    with bench() as it:
        it.answer(0, 0, 1)
        it.answer(1, next_offset=40, status=PullStatus.OFFSET_ILLEGAL)
        it.asks(0, 2, 40)
        assert it.assigned.position == 0
        assert drained(it.queues) == [0, 1], "they cannot be pulled again"
        assert it.assigned.position == 40


def test_a_refused_offset_behind_starts_over_there() -> None:
    with bench() as it:
        it.answer(0, *range(10))
        it.answer(1, next_offset=4, status=PullStatus.OFFSET_ILLEGAL)
        it.asks(0, 10, 4)
        assert take(it.queues) == [], "they come again"
        assert it.assigned.position == 4


@pytest.mark.parametrize(
    ("error", "events", "again"),
    [
        (FlowControlError(215, "slow", "a"), [], True),
        (BrokerError(1, "broken", "a"), [], False),
        (RequestTimeout("late"), [], False),
    ],
    ids=["flow control", "broker", "timeout"],
)
def test_errors_wait(error: Exception, events: list[str], again: bool) -> None:
    with bench() as it:
        it.reply(0, error)
        gevent.sleep(0.2)
        assert (len(it.asked) == 2) is again
        assert it.instance.events == events
        it.pulls.move(it.assigned, 9)
        wait_for(lambda: it.asked[-1] == 9)


def test_paused_and_resumed() -> None:
    with bench() as it:
        it.asks(0)
        it.assigned.paused = True
        it.answer(0, 0)
        gevent.sleep(0.05)
        it.asks(0)
        assert take(it.queues) == []
        it.queues.resume(it.assigned)
        it.asks(0, 1)
        assert take(it.queues) == [0]
