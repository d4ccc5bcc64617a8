"""Single messages that travel together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import gevent
import pytest

from grocketmq import (
    AutoBatch,
    ClientStateError,
    ConfigError,
    Message,
    MessageError,
    MessageIllegalError,
    Producer,
    PullConsumer,
    RequestTimeout,
    SendResult,
    TooManyRequestsError,
)
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import Intercepted, answer, drop, fail
from grocketmq.errors import GRocketMQError
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.message_codec import decode_batch
from tests.helpers import wait_for

BATCH, SINGLE = RequestCode.SEND_BATCH_MESSAGE, RequestCode.SEND_MESSAGE_V2


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        for topic in ("T", "U"):
            cluster.create_topic(topic, queues=2)
        yield cluster


class Counter:
    """Counts the sends that reach brokers."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.requests: list[tuple[int, str, int]] = []
        cluster.control(None, self._see, times=None, matches=lambda request: request.code in (BATCH, SINGLE))

    def _see(self, taken: Intercepted) -> None:
        request: RemotingCommand = taken.request
        count = len(decode_batch(request.body or b"")) if request.code == BATCH else 1
        self.requests.append((request.code, (request.ext_fields or {})["b"] or "", count))
        taken.serve()


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run each in a greenlet of its own; their results, or errors."""

    def run(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except GRocketMQError as error:
            return error

    greenlets = [gevent.spawn(run, call) for call in calls]
    gevent.joinall(greenlets, timeout=10, raise_error=True)
    return [greenlet.value for greenlet in greenlets]


def producing(cluster: EmbeddedCluster, auto_batch: AutoBatch | bool = True, **options: Any) -> Producer:
    return Producer("senders", namesrv=cluster.namesrv, auto_batch=auto_batch, **options)


def body_at(cluster: EmbeddedCluster, result: SendResult) -> bytes:
    with PullConsumer("readers", namesrv=cluster.namesrv) as consumer:
        return consumer.pull(result.message_queue, "*", result.queue_offset).messages[0].body


def test_each_caller_gets_its_own_result(cluster: EmbeddedCluster) -> None:
    counter = Counter(cluster)
    with producing(cluster) as producer:
        messages = [Message("T", b"%d" % number, tags="a", keys=f"k{number}") for number in range(50)]
        results = at_once([lambda one=one: producer.send(one) for one in messages])
        for message, result in zip(messages, results, strict=True):
            assert result.msg_id == message.properties["UNIQ_KEY"]
            found = producer.view_message(result.offset_msg_id)
            assert (found.body, found.msg_id, found.queue_offset) == (message.body, result.msg_id, result.queue_offset)
            assert (found.tags, found.keys) == ("a", message.keys)
        assert body_at(cluster, results[7]) == b"7"
    assert counter.requests == [(BATCH, "T", 50)]


def test_async_and_ordered_sends_are_gathered_by_queue(cluster: EmbeddedCluster) -> None:
    counter = Counter(cluster)
    with producing(cluster) as producer:
        pending = [producer.send_async(Message("T", b"x")) for _ in range(20)]
        assert len({one.get(timeout=5).offset_msg_id for one in pending}) == 20
        counter.requests.clear()
        keys = [f"key-{number % 4}" for number in range(40)]
        results = at_once([lambda key=key: producer.send_orderly(Message("T", key), key) for key in keys])
        places = {(key, result.message_queue) for key, result in zip(keys, results, strict=True)}
        assert len(places) == 4
    assert sum(count for _, _, count in counter.requests) == 40
    assert len(counter.requests) == len({queue for _, queue in places})


def test_topics_are_kept_apart_and_so_are_waiting_for_the_store(cluster: EmbeddedCluster) -> None:
    counter = Counter(cluster)
    with producing(cluster) as producer:
        messages = [Message(topic, b"x", wait_store_ok=wait) for topic in "TU" for wait in (True, False) for _ in range(5)]
        at_once([lambda one=one: producer.send(one) for one in messages])
    assert sorted(topic for _, topic, _ in counter.requests) == ["T", "T", "U", "U"]
    assert {count for _, _, count in counter.requests} == {5}


def test_a_full_batch_goes_at_once_and_a_large_message_alone(cluster: EmbeddedCluster) -> None:
    counter = Counter(cluster)
    with producing(cluster, AutoBatch(max_delay=0.3, max_bytes=2000)) as producer:
        producer.fetch_publish_queues("T")
        began = monotonic()
        assert producer.send(Message("T", bytes(3000))).queue_offset == 0
        assert monotonic() - began < 0.25
        at_once([lambda: producer.send(Message("T", bytes(300))) for _ in range(20)])
    assert counter.requests[0] == (SINGLE, "T", 1)
    batches = [count for code, _, count in counter.requests if code == BATCH]
    assert (sum(batches), max(batches) <= 5, len(batches) >= 4) == (20, True, True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Message("T", b"x", delay_level=1),
        lambda: Message("T", b"x", delay=0.1),
        lambda: Message("T", b"x" * 5000),
        lambda: Message("%RETRY%g", b"x"),
    ],
    ids=["level", "timer", "packed", "retry topic"],
)
def test_what_cannot_travel_with_others_goes_alone(cluster: EmbeddedCluster, make: Callable[[], Message]) -> None:
    cluster.create_topic("%RETRY%g", queues=1)
    counter = Counter(cluster)
    with producing(cluster) as producer:
        producer.send(make())
        producer.send_oneway(Message("T", b"x"))
        wait_for(lambda: len(counter.requests) == 2)
    assert [code for code, _, _ in counter.requests] == [SINGLE, SINGLE]


def test_a_bad_message_harms_only_its_sender(cluster: EmbeddedCluster) -> None:
    with producing(cluster) as producer:
        bad = Message("T", b"x")
        bad.properties["own"] = "a\x02b\x01c"
        results = at_once([lambda one=one: producer.send(one) for one in (Message("T", b"1"), bad, Message("T", b"2"))])
    assert [type(result) for result in results] == [SendResult, MessageError, SendResult]


def test_when_the_broker_dislikes_one_the_others_are_stored(cluster: EmbeddedCluster) -> None:
    """Given a batch that is refused as illegal, then each message is tried alone, and each caller learns its own fate."""
    refuse = answer(ResponseCode.MESSAGE_ILLEGAL, "no")
    cluster.control(BATCH, refuse, times=None, matches=lambda request: b"bad" in (request.body or b""))
    with producing(cluster) as producer:
        results = at_once([lambda body=body: producer.send(Message("T", body)) for body in (b"1", b"bad", b"2")])
    assert [type(result) for result in results] == [SendResult, MessageIllegalError, SendResult]


def test_an_error_reaches_all(cluster: EmbeddedCluster) -> None:
    cluster.control(BATCH, fail(), times=None)
    with producing(cluster, retries=1) as producer:
        results = at_once([lambda: producer.send(Message("T", b"x")) for _ in range(3)])
    assert all("a fault that the test asked for" in str(result) for result in results)


def test_callers_have_deadlines_of_their_own_and_may_be_killed(cluster: EmbeddedCluster) -> None:
    fault = cluster.control(BATCH, drop)
    with producing(cluster, try_timeout=0.4) as producer:
        producer.fetch_publish_queues("T")
        patient = gevent.spawn(producer.send, Message("T", b"patient"), timeout=5.0)
        killed = gevent.spawn(producer.send, Message("T", b"killed"))
        gevent.sleep(0)
        with pytest.raises(RequestTimeout, match="no answer in time for the batch"):
            producer.send(Message("T", b"hasty"), timeout=0.1)
        killed.kill()
        assert patient.get(timeout=5).queue_offset >= 0
    assert fault.taken == 1


def test_too_much_at_once(cluster: EmbeddedCluster) -> None:
    cluster.control(BATCH, drop, times=None)
    with producing(cluster, AutoBatch(max_pending_bytes=1000)) as producer:
        timeouts = (1.5, 1.5, 0.2, 0.2, 0.2)  # those that wait for room give up while the others are still under way
        results = at_once([partial(producer.send, Message("T", bytes(300)), timeout=each) for each in timeouts])
    assert [isinstance(result, GRocketMQError) for result in results] == [True] * 5
    assert [isinstance(result, TooManyRequestsError) for result in results] == [False, False, True, True, True]


def test_a_shutdown_sends_what_was_gathered(cluster: EmbeddedCluster) -> None:
    producer = producing(cluster, AutoBatch(max_delay=0.2))
    producer.start()
    pending = [producer.send_async(Message("T", b"x")) for _ in range(10)]
    producer.shutdown()
    assert len({one.get(timeout=0).offset_msg_id for one in pending}) == 10


def test_a_shutdown_that_has_no_time_tells_those_whose_messages_wait(cluster: EmbeddedCluster) -> None:
    producer = producing(cluster, AutoBatch(max_delay=30.0), send_timeout=30.0)
    producer.start()
    sending = gevent.spawn(at_once, [lambda: producer.send(Message("T", b"x"))])
    wait_for(lambda: producer._accumulator is not None and bool(producer._accumulator._gatherings))
    accumulator = producer._accumulator
    producer.shutdown(0)
    (result,) = sending.get(timeout=5)
    assert isinstance(result, ClientStateError)
    assert accumulator is not None
    assert accumulator._room.messages == 0


@pytest.mark.parametrize("options", [{"max_delay": -1.0}, {"max_bytes": 0}, {"max_pending_bytes": 0}])
def test_settings_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AutoBatch(**options)
