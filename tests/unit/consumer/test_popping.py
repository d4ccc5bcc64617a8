"""A push consumer that pops: sharing out, popping, consuming, acknowledging."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, time
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq.client.pop_api import PopStatus
from grocketmq.consumer import pop_acks, pop_consume, pop_service
from grocketmq.consumer.allocate import AllocateConsistentHash
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.listener import adapt_listener
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.pop_acks import AckService, PopAcks
from grocketmq.consumer.pop_consume import RETRY_DELAYS, PopConsumeService, retry_delay
from grocketmq.consumer.pop_queue import BrokerClocks, PopQueue
from grocketmq.consumer.pop_rebalance import PopRebalance
from grocketmq.consumer.pop_service import MAX_UNACKED, PopService
from grocketmq.consumer.popper import Popped
from grocketmq.consumer.push import PushConsumer
from grocketmq.consumer.stats import StatsRecorder
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import (
    BrokerSystemError,
    ConfigError,
    FlowControlError,
    GroupNotExistError,
    InvalidParameterError,
    RequestTimeout,
    UnsupportedRequestError,
)
from grocketmq.model.message import MessageExt
from grocketmq.model.results import ConsumeResult, ConsumeStatus
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere, MessageModel
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.bodies import BatchAck, MessageQueueAssignment, MessageRequestMode
from grocketmq.wire.headers import ChangeInvisibleTimeResponseHeader
from grocketmq.wire.pop_info import decode_pop_ck
from tests.helpers import wait_for
from tests.unit.client.fakes import NAMESRV, Answer, FakeAPI, FakeInstance, give, route
from tests.unit.consumer.fakes import FakeSendBack

ANY = MessageQueue("T", "a", -1)
OWN_RETRY = MessageQueue("%RETRY%g", "a", -1)
UNSUPPORTED = UnsupportedRequestError(3, "request type not supported", "a:10911")
TIMEOUT = RequestTimeout("no answer")
POP_TIME = int(time() * 1000)


def popped(
    *offsets: int, start: int | None = None, age: float = 0.0, retry: str = "0", topic: str = "T", **options: Any
) -> list[MessageExt]:
    """Messages as a pop gave them, ``age`` seconds ago, for 60 s."""
    begin = offsets[0] if start is None else start
    pop_time = POP_TIME - int(age * 1000)
    return [
        MessageExt(
            topic,
            b"x",
            properties={"POP_CK": f"{begin} {pop_time} 60000 3 {retry} a 0 {offset}"},
            queue_offset=offset,
            broker_name="a",
            **options,
        )
        for offset in offsets
    ]


class Popping:
    """A consume service for popped messages, over calls that are noted."""

    def __init__(self, listener: Any, send_back: FakeSendBack, answers: dict[str, Answer], settings: dict[str, Any]) -> None:
        changed = ChangeInvisibleTimeResponseHeader(pop_time=POP_TIME, invisible_time=10_000, revive_qid=4)
        self.api = FakeAPI(**{"change_invisible": changed, **answers})
        self.instance = FakeInstance(self.api, **{"T": route("a"), "%RETRY%g": route("a")})
        self.clocks = BrokerClocks()
        self.clocks.note("a", POP_TIME)
        self.acks = PopAcks("g", self.instance, self.api, self.clocks)  # type: ignore[arg-type]
        self.send_back = send_back
        self.tasks = TaskGroup("test")
        self.stats = StatsRecorder()
        self.held = PopQueue(0.0)
        self.ack_service = AckService(self.acks, self.tasks)
        config = PushConsumerConfig(pop=True, **settings)
        self.service = PopConsumeService(
            Membership("g", self.instance, config, Subscriptions(), self.tasks, self.stats),  # type: ignore[arg-type]
            adapt_listener(listener),
            self.acks,
            self.ack_service,
            send_back,  # type: ignore[arg-type]
        )

    def submit(self, messages: list[MessageExt], queue: MessageQueue = ANY) -> None:
        self.held.hold(messages)
        self.service.submit(queue, self.held, messages)

    def done(self) -> None:
        wait_for(lambda: not self.held.count)
        assert self.held.size_bytes == 0

    def acked(self) -> list[int]:
        """The offsets acknowledged, alone or together, sorted."""
        alone = [header.offset for _, header in self.api.named("ack")]
        for _, _, acks in self.api.named("batch_ack"):
            for one in acks:
                alone += [one.start_offset + bit for bit in range(one.bit_set.bit_length()) if one.bit_set >> bit & 1]
        return sorted(alone)

    def put_off(self) -> list[tuple[int, int]]:
        """Offsets, and ms for which they were put off."""
        return [(header.offset, header.invisible_time) for _, header in self.api.named("change_invisible")]


@contextmanager
def popping(
    listener: Any = lambda msgs: None,
    send_back: FakeSendBack | None = None,
    answers: dict[str, Answer] | None = None,
    **settings: Any,
) -> Iterator[Popping]:
    made = Popping(listener, send_back or FakeSendBack(), answers or {}, settings)
    try:
        yield made
    finally:
        made.service.stop(Deadline(0.5))
        made.tasks.kill()


def fail(msgs: list[MessageExt]) -> None:
    raise ValueError("as the test wants it")


# -- what becomes of messages ------------------------------------------------------------------------------------------------


def test_what_was_consumed_is_acknowledged() -> None:
    with popping(consume_batch_size=4) as bench:
        bench.submit(popped(5, 6, 9))
        bench.done()
        assert bench.acked() == [5, 6, 9]
        assert bench.put_off() == []


def test_an_acknowledgement_names_topic_and_check_point() -> None:
    with popping() as bench:
        (message,) = popped(5, start=3, retry="1")
        bench.submit([message])
        bench.done()
        ((address, header),) = bench.api.named("ack")
    assert address == "a:10911"
    assert (header.topic, header.queue_id, header.offset, header.extra_info, header.bname) == (
        "%RETRY%g_T", 0, 5, message.properties["POP_CK"], "a",
    )  # fmt: skip


def test_what_comes_together_is_acknowledged_in_one_request() -> None:
    """Given a first acknowledgement under way, when others come, then they wait and go out together."""
    release = Event()
    with popping(answers={"ack": lambda *_: release.wait(5)}) as bench:
        bench.ack_service.put("T", bench.held, popped(1))
        wait_for(lambda: bench.api.named("ack"))
        bench.held.hold(popped(1, 2, 4, 70, 8))
        bench.ack_service.put("T", bench.held, [*popped(2, 4, 70), *popped(8, retry="2")])
        release.set()
        bench.done()
        ((address, broker_name, acks),) = bench.api.named("batch_ack")
    assert (address, broker_name) == ("a:10911", "a")
    assert acks == [
        BatchAck("g", "T", "0", 2, 0, 3, POP_TIME, 60_000, 1 | 1 << 2 | 1 << 68),
        BatchAck("g", "%RETRY%g+T", "0", 8, 0, 3, POP_TIME, 60_000, 1),
    ]


@pytest.mark.parametrize("strange", [3, 1 << 40])
def test_an_offset_far_from_its_check_point_is_acknowledged_alone(strange: int) -> None:
    """No check point makes a bit set of gigabytes, or one of negative bits."""
    with popping() as bench:
        bench.acks.ack_together("a", [("T", one) for one in popped(5, strange, start=5)])
        assert [header.offset for _, header in bench.api.named("ack")] == [strange]
        assert bench.acked() == sorted([5, strange])


def test_a_broker_without_batches_gets_one_request_a_message() -> None:
    with popping(answers={"batch_ack": UNSUPPORTED}, consume_batch_size=8) as bench:
        for first in (1, 4):
            bench.submit(popped(first, first + 1, first + 2))
            bench.done()
        assert [header.offset for _, header in bench.api.named("ack")] == [1, 2, 3, 4, 5, 6]
        assert len(bench.api.named("batch_ack")) == 1


def test_what_failed_is_put_off_longer_each_time() -> None:
    with popping(fail) as bench:
        for tries in (0, 1, 2, 15):
            bench.submit(popped(tries, reconsume_times=tries))
            bench.done()
        assert bench.put_off() == [(0, 10_000), (1, 30_000), (2, 60_000), (15, 7_200_000)]
        assert bench.acked() == []
        assert bench.stats.topic("T").failed == 4


def test_a_message_that_was_put_off_has_a_new_check_point() -> None:
    with popping() as bench:
        (message,) = popped(5, start=3)
        bench.acks.change_invisible("T", message, 10.0)
        assert message.properties["POP_CK"] == f"5 {POP_TIME} 10000 4 0 a 0 5"


def test_a_listener_may_choose_the_delay() -> None:
    def listener(msgs: list[MessageExt], context: Any) -> ConsumeResult:
        context.delay_level_when_next_consume = 3
        return ConsumeResult(ConsumeStatus.SUCCESS, ack_index=0)

    with popping(listener, consume_batch_size=3) as bench:
        bench.submit(popped(1, 2, 3))
        bench.done()
        assert bench.acked() == [1]
        assert bench.put_off() == [(2, 120_000), (3, 120_000)]


@pytest.mark.parametrize(("level", "tries", "seconds"), [(0, 0, 10), (0, 99, 7200), (1, 9, 30), (18, 0, 7200)])
def test_delays(level: int, tries: int, seconds: int) -> None:
    assert retry_delay(level, tries) == seconds
    assert list(RETRY_DELAYS) == sorted(RETRY_DELAYS)


def test_after_its_last_try_a_message_goes_to_the_dead_letters() -> None:
    with popping(fail, max_reconsume_times=2) as bench:
        bench.submit(popped(1, reconsume_times=1))
        bench.submit(popped(2, reconsume_times=2))
        bench.done()
        assert bench.put_off() == [(1, 30_000)]
        assert bench.send_back.sent == [(2, -1)]
        assert bench.acked() == [2]


def test_the_dead_letters_at_once() -> None:
    with popping(fail, delay_level_when_next_consume=-1) as bench:
        bench.submit(popped(1))
        bench.done()
        assert bench.send_back.sent == [(1, -1)]
        assert bench.acked() == [1]


def test_a_message_that_kills_its_consumer_each_time_is_not_given_to_the_listener() -> None:
    seen: list[MessageExt] = []
    with popping(seen.extend, max_reconsume_times=2) as bench:
        bench.submit(popped(1, reconsume_times=3))
        bench.done()
        assert seen == []
        assert bench.send_back.sent == [(1, -1)]


def test_a_message_that_the_dead_letters_do_not_take_stays() -> None:
    with popping(fail, FakeSendBack(False), max_reconsume_times=0) as bench:
        bench.submit(popped(1))
        bench.done()
        assert bench.acked() == []
        assert bench.put_off() == [(1, 10_000)]


def test_what_waited_too_long_is_neither_consumed_nor_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[MessageExt] = []
    with popping(seen.extend) as bench:
        bench.submit(popped(1, age=61))
        bench.done()
        assert (seen, bench.acked(), bench.put_off()) == ([], [], [])
        assert bench.stats.topic("T").expired == 1
    assert "has waited for the listener" in caplog.text


@pytest.mark.parametrize("listener", [None, fail])
def test_what_expired_with_the_listener_is_left_alone(listener: Callable[..., None] | None) -> None:
    def slow(msgs: list[MessageExt]) -> None:
        bench.clocks.note("a", POP_TIME + 60_000)
        if listener is not None:
            listener(msgs)

    with popping(slow) as bench:
        bench.submit(popped(1))
        bench.done()
        assert (bench.acked(), bench.put_off()) == ([], [])


def test_clocks_may_differ() -> None:
    """Given a broker whose clock is an hour behind, then its messages do not look old; one that never told is believed."""
    clocks = BrokerClocks()
    clocks.note("late", POP_TIME - 3_600_000)
    assert not clocks.expired(decode_pop_ck(f"0 {POP_TIME - 3_600_000} 60000 3 0 late 0 0"))
    assert clocks.expired(decode_pop_ck(f"0 {POP_TIME - 3_661_000} 60000 3 0 late 0 0"))
    assert clocks.expired(decode_pop_ck(f"0 {POP_TIME - 3_600_000} 60000 3 0 unknown 0 0"))


def test_a_failed_acknowledgement_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pop_acks, "_ACK_AGAIN", 0.01)
    answers = iter([TIMEOUT, BrokerSystemError(1, None, "a:10911"), None])
    with popping(answers={"ack": lambda *_: give(next(answers))}) as bench:
        bench.submit(popped(1))
        bench.done()
        assert bench.acked() == [1, 1, 1]


def test_a_refused_acknowledgement_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with popping(answers={"ack": InvalidParameterError(29, None, "a:10911")}) as bench:
        bench.submit(popped(1))
        bench.done()
        assert bench.acked() == [1]
    assert "will be delivered again" in caplog.text


def test_an_acknowledgement_that_fails_in_this_library_holds_nothing_back(caplog: pytest.LogCaptureFixture) -> None:
    with popping(answers={"ack": ZeroDivisionError()}) as bench:
        bench.submit(popped(1))
        bench.done()
    assert "ZeroDivisionError" in caplog.text


def test_a_message_that_cannot_be_put_off_comes_again_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    with popping(fail, answers={"change_invisible": TIMEOUT}) as bench:
        bench.submit(popped(1))
        bench.done()
    assert "comes again when its invisible time is over" in caplog.text


def test_messages_of_the_groups_own_retry_topic() -> None:
    """They were sent back while the group pulled: they have their topic again, and are acknowledged where they lie."""
    seen: list[str] = []

    def listener(msgs: list[MessageExt]) -> None:
        seen.extend(message.topic for message in msgs)

    with popping(listener) as bench:
        bench.submit(popped(1, retry="1", topic="%RETRY%g", reconsume_times=1), OWN_RETRY)
        bench.done()
        assert [header.topic for _, header in bench.api.named("ack")] == ["%RETRY%g"]
    assert seen == ["%RETRY%g"]


@pytest.mark.parametrize("where", ["_listener", "_pool.admit"])
def test_messages_of_a_listener_greenlet_that_is_ended_go_to_another_one(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would count as not acknowledged for ever, and in the end nothing would be popped any more."""
    monkeypatch.setattr(pop_consume, "CONSUME_AGAIN_PAUSE", 0.01)
    seen: list[MessageExt] = []
    with popping(seen.extend, listener_concurrency=1) as bench:
        owner = bench.service if where == "_listener" else bench.service._pool
        name = where.rpartition(".")[2]
        meant = getattr(owner, name)

        def once(*_: Any) -> None:
            setattr(owner, name, meant)
            raise gevent.GreenletExit

        setattr(owner, name, once)
        bench.submit(popped(1, 2, 3))
        bench.done()
        assert sorted(message.queue_offset for message in seen) == bench.acked() == [1, 2, 3]


def test_stop_waits_for_listener_and_acknowledgement() -> None:
    at_work = Event()

    def listener(msgs: list[MessageExt]) -> None:
        at_work.set()
        gevent.sleep(0.05)

    with popping(listener, answers={"ack": lambda *_: gevent.sleep(0.05)}) as bench:
        bench.submit(popped(1))
        assert at_work.wait(5)
        bench.service.stop(Deadline(5))
        assert bench.held.count == 0
        assert bench.acked() == [1]


def test_stop_does_not_wait_for_ever() -> None:
    with popping(answers={"ack": lambda *_: gevent.sleep(30)}) as bench:
        bench.submit(popped(1))
        wait_for(lambda: bench.api.named("ack"))
        began = monotonic()
        bench.service.stop(Deadline(0.1))
        assert monotonic() - began < 2


# -- popping -----------------------------------------------------------------------------------------------------------------


class Pops:
    """A pop service over a popper that is a list of answers; it stands still behind the last."""

    def __init__(self, answers: list[Any], settings: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[Any, ...]] = []
        self.submitted: list[list[int]] = []
        self.refused: list[int] = []
        self.unwanted: list[int] = []
        self.instance = FakeInstance(FakeAPI(), T=route("a"))
        self.tasks = TaskGroup("test")
        self.stats = StatsRecorder()
        self.subscriptions = Subscriptions()
        self.subscriptions.add("T", "*")
        self.held = PopQueue(0.0)
        config = PushConsumerConfig(pop=True, **settings)
        self.service = PopService(
            Membership("g", self.instance, config, self.subscriptions, self.tasks, self.stats),  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
        )

    def pop(self, *asked: Any) -> Popped:
        self.asked.append(asked)
        if not self.answers:
            Event().wait(30)
        return give(self.answers.pop(0))

    def submit(self, queue: MessageQueue, held: PopQueue, messages: list[MessageExt]) -> None:
        self.submitted.append([message.queue_offset for message in messages])

    def failed(self, queue: MessageQueue, held: PopQueue, messages: list[MessageExt]) -> None:
        self.refused += [message.queue_offset for message in messages]

    def put(self, topic: str, held: PopQueue, messages: list[MessageExt]) -> None:
        self.unwanted += [message.queue_offset for message in messages]

    def begin(self) -> None:
        self.service.begin(ANY, self.held)


@contextmanager
def pops(*answers: Any, **settings: Any) -> Iterator[Pops]:
    made = Pops(list(answers), settings)
    try:
        yield made
    finally:
        made.service.stop()
        made.tasks.kill()


def found(*offsets: int, **options: Any) -> Popped:
    return Popped(PopStatus.FOUND, popped(*offsets) if offsets else [], **options)


def test_each_answer_is_handed_on_and_the_next_pop_follows() -> None:
    answers = [found(1, 2, rest=7), Popped(PopStatus.NOT_FOUND), found(3)]
    with pops(*answers, pop_batch_size=8, pop_invisible_time=20.0) as bench:
        bench.begin()
        wait_for(lambda: len(bench.asked) == 4)
        assert bench.submitted == [[1, 2], [3]]
        assert bench.held.count == 3
        queue, subscription, *how = bench.asked[0]
        assert (queue, subscription.topic, how) == (ANY, "T", [8, 20.0, 15.0])
        assert bench.stats.topic("T").pulled == 3


def test_unwanted_and_broken_messages() -> None:
    with pops(found(1, unwanted=popped(2), broken=popped(3))) as bench:
        bench.begin()
        wait_for(lambda: len(bench.asked) == 2)
        assert (bench.submitted, bench.unwanted, bench.refused) == ([[1]], [2], [3])
        assert bench.held.count == 3


def test_popping_waits_while_too_much_is_not_acknowledged() -> None:
    with pops(found(), found()) as bench:
        bench.held.count = MAX_UNACKED + 1
        bench.begin()
        wait_for(lambda: bench.stats.flow_controlled > 1)
        assert bench.asked == []
        bench.held.count = MAX_UNACKED
        wait_for(lambda: bench.asked)


def test_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pop_service, "WHILE_PAUSED", 0.01)
    with pops(found()) as bench:
        bench.service.paused = True
        bench.begin()
        gevent.sleep(0.05)
        assert bench.asked == []
        bench.service.paused = False
        wait_for(lambda: bench.asked)


@pytest.mark.parametrize(
    ("answer", "events"),
    [
        (TIMEOUT, []),
        (GroupNotExistError(26, None, "a:10911"), ["heartbeat_soon"]),
        (FlowControlError(215, None, "a:10911"), []),
        (Popped(PopStatus.POLLING_FULL), []),
    ],
)
def test_after_an_error_it_pops_again(answer: Any, events: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pop_service, "AFTER_ERROR", 0.01)
    with pops(answer, answer, found(1)) as bench:
        bench.begin()
        wait_for(lambda: bench.submitted)
        assert bench.instance.events == events * 2


def test_a_series_of_errors_is_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(pop_service, "AFTER_ERROR", 0.001)
    with pops(*[TIMEOUT] * 5, found(1), TIMEOUT) as bench:
        bench.begin()
        wait_for(lambda: len(bench.asked) == 8)
    assert [record.levelno for record in caplog.records if "popping" in record.getMessage()] == [logging.WARNING] * 2


def test_what_comes_after_the_queue_was_dropped_is_consumed_all_the_same() -> None:
    """Nobody else has it."""

    def drop_then_find() -> Popped:
        bench.held.dropped = True
        return found(1)

    with pops(drop_then_find) as bench:
        bench.begin()
        wait_for(lambda: not bench.tasks.names())
        assert bench.submitted == [[1]]
        assert len(bench.asked) == 1


@pytest.mark.parametrize("end", ["stop", "unsubscribe"])
def test_the_loop_ends(end: str) -> None:
    with pops(Popped(PopStatus.NOT_FOUND)) as bench:
        if end == "stop":
            bench.service.stop()
        else:
            bench.subscriptions.remove("T")
        bench.begin()
        wait_for(lambda: not bench.tasks.names())
        assert bench.asked == []


# -- sharing out -------------------------------------------------------------------------------------------------------------


def shares(*queues: MessageQueue, mode: MessageRequestMode = MessageRequestMode.POP) -> tuple[MessageQueueAssignment, ...]:
    return tuple(MessageQueueAssignment(queue, mode) for queue in queues)


class Sharing:
    """A rebalance of group "g", whose topic lies at two brokers; ``answer`` is what every broker answers."""

    def __init__(self, answer: Answer) -> None:
        self.api = FakeAPI(query_assignment=answer)
        self.instance = FakeInstance(self.api, **{"T": route("a", "b"), "%RETRY%g": route("a", queues=1)})
        self.subscriptions = Subscriptions()
        self.subscriptions.add("T", "*")
        self.begun: list[MessageQueue] = []
        self.rebalance = PopRebalance(
            "g",
            self.instance,  # type: ignore[arg-type]
            self.api,  # type: ignore[arg-type]
            {},
            self.subscriptions,
            "AVG",
            lambda queue, held: self.begun.append(queue),
        )

    @property
    def queues(self) -> list[tuple[str, int]]:
        return sorted((queue.broker_name, queue.queue_id) for queue in self.rebalance.queues)


ANY_B = MessageQueue("T", "b", -1)


def test_assigned_queues_are_popped() -> None:
    bench = Sharing(shares(ANY, ANY_B))
    bench.rebalance.prepare()
    assert bench.rebalance.run()
    assert bench.begun == [ANY, ANY_B]
    assert bench.rebalance.run()
    assert bench.begun == [ANY, ANY_B]


def test_before_the_start_nothing_is_taken() -> None:
    bench = Sharing(shares(ANY))
    assert bench.rebalance.run()
    assert (bench.begun, bench.api.calls) == ([], [])


@pytest.mark.parametrize("answer", [None, (), shares(ANY, mode=MessageRequestMode.PULL)])
def test_brokers_that_do_not_share_out_by_popping_are_told_to(answer: Any) -> None:
    bench = Sharing(answer)
    bench.rebalance.prepare()
    bench.rebalance.run()
    assert bench.api.named("set_request_mode") == [
        (address, "T", "g", MessageRequestMode.POP) for address in ("a:10911", "b:10911")
    ]


def test_what_an_operator_has_set_stays() -> None:
    bench = Sharing(shares(ANY))
    bench.rebalance.prepare()
    assert bench.api.named("set_request_mode") == []


def test_queues_no_longer_assigned_are_dropped() -> None:
    bench = Sharing(shares(ANY, ANY_B))
    bench.rebalance.prepare()
    bench.rebalance.run()
    held = bench.rebalance.queues[ANY_B]
    bench.api.answers["query_assignment"] = shares(ANY)
    assert bench.rebalance.run()
    assert (bench.queues, held.dropped) == ([("a", -1)], True)


@pytest.mark.parametrize("answer", [None, TIMEOUT, GroupNotExistError(26, None, "a:10911")])
def test_without_an_answer_everything_stays_as_it_is(answer: Answer) -> None:
    bench = Sharing(shares(ANY))
    bench.rebalance.prepare()
    bench.rebalance.run()
    bench.api.answers["query_assignment"] = answer
    assert not bench.rebalance.run()
    assert bench.queues == [("a", -1)]
    assert "heartbeat_soon" in bench.instance.events


def test_an_empty_share_is_an_answer() -> None:
    bench = Sharing(shares(ANY))
    bench.rebalance.prepare()
    bench.rebalance.run()
    bench.api.answers["query_assignment"] = ()
    assert bench.rebalance.run()
    assert bench.queues == []


def test_the_next_broker_is_asked() -> None:
    bench = Sharing(shares(ANY))
    bench.rebalance.prepare()
    bench.api.answers["query_assignment"] = lambda address, *_: give(TIMEOUT if address == "a:10911" else shares(ANY_B))
    assert bench.rebalance.run()
    assert bench.queues == [("b", -1)]


def test_an_old_broker_is_a_clear_error() -> None:
    bench = Sharing(UNSUPPORTED)
    with pytest.raises(ConfigError, match=r"a:10911 is too old for POP.*5\.0"):
        bench.rebalance.prepare()


def test_the_groups_own_retry_topic_is_popped_from_every_broker() -> None:
    bench = Sharing(shares())
    bench.subscriptions.add("%RETRY%g", "*")
    bench.rebalance.prepare()
    bench.rebalance.run()
    assert list(bench.rebalance.queues) == [OWN_RETRY]
    assert {topic for _, topic, *_ in bench.api.named("query_assignment")} == {"T"}


def test_an_unsubscribed_topic_is_dropped() -> None:
    bench = Sharing(shares(ANY))
    bench.rebalance.prepare()
    bench.rebalance.run()
    bench.subscriptions.remove("T")
    bench.rebalance.run()
    assert bench.queues == []


def test_a_queue_that_is_not_popped_any_more_is_built_anew() -> None:
    bench = Sharing(shares(ANY))
    bench.rebalance.prepare()
    bench.rebalance.run()
    bench.rebalance.queues[ANY].last_pop = monotonic() - 121
    bench.rebalance.run()
    assert bench.begun == [ANY, ANY]


def test_after_the_stop_nothing_is_taken() -> None:
    bench = Sharing(shares(ANY))
    bench.rebalance.prepare()
    bench.rebalance.stop()
    bench.rebalance.run()
    assert bench.begun == []


# -- settings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"model": MessageModel.BROADCASTING},
        {"consume_from": ConsumeFromWhere.TIMESTAMP},
        {"allocate_strategy": AllocateConsistentHash()},
        {"pop_invisible_time": 4.0},
        {"pop_invisible_time": 301.0},
        {"pop_batch_size": 33},
    ],
)
def test_settings_that_do_not_go_with_popping(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PushConsumerConfig(pop=True, **options)


def test_an_orderly_listener_does_not_go_with_popping() -> None:
    consumer = PushConsumer("g", namesrv=NAMESRV, pop=True)
    with pytest.raises(ConfigError, match="keeps no order"):
        consumer.register_listener(lambda msgs: None, orderly=True)
