"""Running a concurrent listener."""

from __future__ import annotations

import logging
from itertools import pairwise
from time import monotonic, perf_counter
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq.consumer import concurrently
from grocketmq.consumer.listener import ConsumeContext
from grocketmq.model.message import MessageExt
from grocketmq.model.results import ConsumeResult, ConsumeStatus
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import MessageModel
from grocketmq.runtime.deadline import Deadline
from tests.helpers import wait_for
from tests.unit.consumer.fakes import QUEUE, FakeSendBack, consuming

RETRY = MessageQueue("%RETRY%g", "a", 0)


def offsets(msgs: list[MessageExt]) -> list[int]:
    return [message.queue_offset for message in msgs]


# -- handing out -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "calls"), [(1, 10), (4, 3), (32, 1)])
def test_messages_come_in_batches(size: int, calls: int) -> None:
    seen: list[list[int]] = []
    with consuming(lambda msgs: seen.append(offsets(msgs)), consume_batch_size=size) as bench:
        bench.submit(*range(10))
        assert bench.done() == 10
        assert len(seen) == bench.counts.listener_calls == calls
        assert sorted(offset for batch in seen for offset in batch) == list(range(10))
        assert (bench.counts.consumed, bench.counts.failed) == (10, 0)


def test_one_pull_is_shared_by_several_listeners() -> None:
    """Given one request of 32, when the listener is slow, then as many work on it as there are, and no more."""
    at_work, most = 0, 0

    def listener(msgs: list[MessageExt]) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        gevent.sleep(0.005)
        at_work -= 1

    with consuming(listener, listener_concurrency=8) as bench:
        bench.submit(*range(32))
        bench.done()
    assert most == 8


def test_a_listener_that_keeps_its_list_harms_nobody() -> None:
    with consuming(lambda msgs: msgs.clear(), consume_batch_size=4) as bench:
        bench.submit(1, 2, 3, 4)
        assert bench.done() == 5


def test_a_listener_may_take_a_context() -> None:
    seen: list[ConsumeContext] = []
    with consuming(lambda msgs, context: seen.append(context), delay_level_when_next_consume=5) as bench:
        bench.submit(1)
        bench.done()
    assert (seen[0].message_queue, seen[0].ack_index, seen[0].delay_level_when_next_consume) == (QUEUE, None, 5)


def test_retried_messages_have_their_own_topic_again() -> None:
    seen: list[str] = []
    with consuming(lambda msgs: seen.extend(message.topic for message in msgs)) as bench:
        bench.submit(1, queue=RETRY, topic=RETRY.topic, properties={"RETRY_TOPIC": "T"})
        bench.submit(2, queue=RETRY, topic=RETRY.topic)
        wait_for(lambda: not bench.held.count)
    assert sorted(seen) == ["%RETRY%g", "T"]


# -- offsets -----------------------------------------------------------------------------------------------------------------


def test_the_offset_waits_for_the_slowest() -> None:
    """Given that later messages are done first, when the first is done, then the offset jumps over all of them."""
    release = Event()

    def listener(msgs: list[MessageExt]) -> None:
        if offsets(msgs) == [0]:
            release.wait()

    with consuming(listener) as bench:
        bench.submit(*range(10))
        wait_for(lambda: bench.held.count == 1)
        assert bench.offset == 0
        release.set()
        assert bench.done() == 10
        assert all(call[3] for call in bench.store.calls), "an offset may only increase"


def test_a_queue_dropped_meanwhile_moves_no_offset_and_gives_nothing_back() -> None:
    """Its next owner gets the messages again from the stored offset; a copy in the retry topic would come on top."""
    started, release = Event(), Event()

    def listener(msgs: list[MessageExt]) -> ConsumeStatus:
        started.set()
        release.wait()
        return ConsumeStatus.RECONSUME_LATER

    with consuming(listener, listener_concurrency=1) as bench:
        bench.submit(1, 2, 3)
        started.wait(2)
        bench.held.dropped = True
        release.set()
        wait_for(lambda: bench.counts.listener_calls == 1)
        gevent.sleep(0.01)
        assert bench.counts.listener_calls == 1
        assert (bench.store.calls, bench.send_back.sent) == ([], [])


# -- failures ----------------------------------------------------------------------------------------------------------------


def fail(msgs: list[MessageExt]) -> None:
    raise ZeroDivisionError


def leak(msgs: list[MessageExt]) -> None:
    with gevent.Timeout(0.001):
        gevent.sleep(1)


def ack_by_context(msgs: list[MessageExt], context: ConsumeContext) -> None:
    context.ack_index = 1


def own_level(msgs: list[MessageExt], context: ConsumeContext) -> ConsumeStatus:
    context.delay_level_when_next_consume = -1
    return ConsumeStatus.RECONSUME_LATER


@pytest.mark.parametrize(
    ("listener", "sent"),
    [
        (lambda msgs: ConsumeStatus.SUCCESS, []),
        (lambda msgs: ConsumeStatus.RECONSUME_LATER, [(1, 0), (2, 0), (3, 0), (4, 0)]),
        (lambda msgs: ConsumeResult(ConsumeStatus.SUCCESS, ack_index=2), [(4, 0)]),
        (lambda msgs: ConsumeResult(ConsumeStatus.SUCCESS, ack_index=-1), [(1, 0), (2, 0), (3, 0), (4, 0)]),
        (ack_by_context, [(3, 0), (4, 0)]),
        (own_level, [(1, -1), (2, -1), (3, -1), (4, -1)]),
        (fail, [(1, 0), (2, 0), (3, 0), (4, 0)]),
        (leak, [(1, 0), (2, 0), (3, 0), (4, 0)]),
        (lambda msgs: True, [(1, 0), (2, 0), (3, 0), (4, 0)]),
    ],
    ids=["success", "later", "ack_index", "none", "context", "level", "exception", "timeout", "no answer"],
)
def test_what_is_not_consumed_is_sent_back(listener: Any, sent: list[tuple[int, int]]) -> None:
    with consuming(listener, consume_batch_size=4) as bench:
        bench.submit(1, 2, 3, 4)
        assert bench.done() == 5
        assert bench.send_back.sent == sent
        assert (bench.counts.failed, bench.counts.sent_back) == (len(sent), len(sent))
        assert bench.counts.consumed == 4 - len(sent)


def test_the_listener_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Given a listener that always fails, then it is logged with its traceback, and not once a message."""
    with consuming(fail, listener_concurrency=2) as bench:
        bench.submit(*range(50))
        bench.done()
        assert bench.counts.listener_calls == 50
        assert bench.tasks.failures == {}
    lines = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert 1 <= len(lines) <= 2
    assert "ZeroDivisionError" in caplog.text


def test_a_listener_that_ends_its_greenlets_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    called = []

    def leave(msgs: list[MessageExt]) -> None:
        called.extend(msgs)
        raise gevent.GreenletExit

    with consuming(leave, listener_concurrency=2) as bench:
        bench.submit(*range(50))
        wait_for(lambda: len(called) == 50)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert 1 <= len(lines) <= 5
    assert f"of {bench.tasks.owner} was ended by" in lines[0]


def test_what_nobody_takes_back_is_consumed_again_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given that no broker takes it back, then the listener gets it again after a pause, one more time counted."""
    monkeypatch.setattr(concurrently, "CONSUME_AGAIN_PAUSE", 0.05)
    seen: list[tuple[list[int], list[int]]] = []

    def listener(msgs: list[MessageExt]) -> ConsumeStatus:
        seen.append((offsets(msgs), [message.reconsume_times for message in msgs]))
        return ConsumeStatus.RECONSUME_LATER if len(seen) == 1 else ConsumeStatus.SUCCESS

    with consuming(listener, FakeSendBack(True, False, True, False), consume_batch_size=4) as bench:
        began = monotonic()
        bench.submit(1, 2, 3, 4)
        wait_for(lambda: bench.offset == 2)
        assert bench.held.offsets() == [2, 4]
        assert bench.done() == 5
        assert monotonic() - began >= 0.05
    assert seen == [([1, 2, 3, 4], [0, 0, 0, 0]), ([2, 4], [1, 1])]


def test_in_broadcasting_nothing_is_sent_back(caplog: pytest.LogCaptureFixture) -> None:
    with consuming(fail, model=MessageModel.BROADCASTING) as bench:
        bench.submit(1, 2)
        assert bench.done() == 3
        assert bench.send_back.sent == []
    assert "in broadcasting they are not delivered again" in caplog.text
    assert "come again" not in caplog.text


# -- expired messages --------------------------------------------------------------------------------------------------------


def test_one_hanging_listener_holds_up_its_own_messages_only() -> None:
    """Given that all others are busy when it begins, when they are idle again, then they take what it left of its pull."""
    release, busy = Event(), Event()

    def listener(msgs: list[MessageExt]) -> None:
        first = offsets(msgs)[0]
        if first == 0:
            busy.wait()
        elif first == 10:
            release.wait()

    with consuming(listener, listener_concurrency=2) as bench:
        bench.submit(0)
        bench.submit(*range(10, 20))
        gevent.sleep(0.01)
        busy.set()
        wait_for(lambda: bench.held.offsets() == [10])
        release.set()
        assert bench.done() == 20


def test_what_is_held_too_long_is_sent_back_once() -> None:
    """Given a listener that hangs, when the time is over, then its message goes back, and not again when it fails at last."""
    release = Event()

    def listener(msgs: list[MessageExt]) -> ConsumeStatus:
        if offsets(msgs) == [1]:
            release.wait()
            return ConsumeStatus.RECONSUME_LATER
        return ConsumeStatus.SUCCESS

    with consuming(listener, consume_timeout=0.01) as bench:
        bench.submit(1, 2)
        wait_for(lambda: bench.held.count == 1)
        gevent.sleep(0.02)
        bench.service.clean_expired(QUEUE, bench.held)
        assert bench.send_back.sent == [(1, concurrently.FIRST_RETRY_LEVEL)]
        assert (bench.held.count, bench.counts.expired) == (0, 1)
        release.set()
        wait_for(lambda: bench.counts.listener_calls == 2)
        gevent.sleep(0.01)
        assert len(bench.send_back.sent) == 1


def test_an_expired_message_that_nobody_takes_stays() -> None:
    release = Event()
    with consuming(lambda msgs: release.wait(), FakeSendBack(False), consume_timeout=0.01) as bench:
        bench.submit(1)
        gevent.sleep(0.02)
        bench.service.clean_expired(QUEUE, bench.held)
        assert (bench.held.count, bench.counts.expired) == (1, 0)
        release.set()
        assert bench.done() == 2


def test_a_message_that_only_waits_is_not_expired() -> None:
    release = Event()
    with consuming(lambda msgs: release.wait(), listener_concurrency=1, consume_timeout=0.01) as bench:
        bench.submit(1)
        bench.submit(2)
        gevent.sleep(0.02)
        bench.service.clean_expired(QUEUE, bench.held)
        assert bench.send_back.sent == [(1, concurrently.FIRST_RETRY_LEVEL)]
        release.set()
        bench.done()


# -- the end -----------------------------------------------------------------------------------------------------------------


def test_stop_waits_for_listeners_and_hands_out_nothing_more() -> None:
    """Given two at work and more in line, when it stops, then the two end and count, and the rest stays for the group."""
    seen: list[int] = []

    def listener(msgs: list[MessageExt]) -> None:
        gevent.sleep(0.05)
        seen.extend(offsets(msgs))

    with consuming(listener, listener_concurrency=2) as bench:
        bench.submit(*range(20))
        gevent.sleep(0.01)
        bench.service.stop(Deadline(2))
        assert sorted(seen) == [0, 1]
        assert bench.offset == 2
        assert bench.tasks.names() == []


def test_stop_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    with consuming(lambda msgs: gevent.sleep(30)) as bench:
        bench.submit(1)
        gevent.sleep(0.01)
        began = monotonic()
        bench.service.stop(Deadline(0.05))
        assert monotonic() - began < 1
        wait_for(lambda: not bench.tasks.names())
        assert bench.offset is None
    assert "did not end in time" in caplog.text


def test_a_listener_may_stop_its_own_consumer() -> None:
    stopped = Event()

    def listener(msgs: list[MessageExt]) -> None:
        bench.service.stop(Deadline(2))
        stopped.set()

    with consuming(listener, listener_concurrency=3) as bench:
        bench.submit(1)
        assert stopped.wait(1)
        assert bench.done() == 2


# -- fairness ----------------------------------------------------------------------------------------------------------------


def test_a_listener_that_burns_cpu_starves_nobody() -> None:
    """Given listeners of 2 ms of CPU each, then timers (and so heartbeats and answers) come between every few of them."""

    def listener(msgs: list[MessageExt]) -> None:
        end = perf_counter() + 0.002
        while perf_counter() < end:
            pass

    calls_at_tick: list[int] = []
    with consuming(listener) as bench:

        def tick() -> None:
            while True:
                calls_at_tick.append(bench.counts.listener_calls)
                gevent.sleep(0.001)

        ticker = gevent.spawn(tick)
        bench.submit(*range(200))
        bench.done()
        ticker.kill()
    calls_at_tick.append(200)
    assert max(after - before for before, after in pairwise(calls_at_tick)) <= 10
