"""What must hold when things go wrong in the middle: nothing is lost, nothing overtakes, nothing stands still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq import (
    Backpressure,
    ConfigError,
    ConsumeFromWhere,
    ConsumeOrderlyStatus,
    Message,
    MessageQueue,
    MQClientManager,
    Producer,
    PullConsumer,
    PushConsumer,
    Sql,
)
from grocketmq.consumer import concurrently
from grocketmq.embedded import EmbeddedCluster
from grocketmq.producer.oneway import PROBE_EVERY
from grocketmq.remoting.connection import MAX_IN_FLIGHT
from tests.helpers import wait_for

FIRST = ConsumeFromWhere.FIRST_OFFSET


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(delay_levels=(0.05,) * 18) as cluster:
        cluster.create_topic("T", queues=1)
        yield cluster


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    with Producer("senders", namesrv=cluster.namesrv) as producer:
        yield producer


def members(cluster: EmbeddedCluster, group: str) -> int:
    return sum(len(broker.clients.consumers.get(group, ())) for broker in cluster.brokers.values())


def test_oneway_messages_of_one_caller_keep_their_order(cluster: EmbeddedCluster, producer: Producer) -> None:
    """Those that ask for an answer, one in 128, too."""
    [queue] = producer.fetch_publish_queues("T")
    for number in range(1000):
        producer.send_oneway(Message("T", b"%d" % number), queue=queue)
    wait_for(lambda: producer.max_offset(queue) == 1000)
    stored: list[int] = []
    with PullConsumer("readers", namesrv=cluster.namesrv) as consumer:
        while len(stored) < 1000:
            stored += [int(one.body) for one in consumer.pull(queue, "*", len(stored)).messages]
    assert stored == list(range(1000))


def test_a_producer_that_ends_at_once_leaves_its_room_to_others(cluster: EmbeddedCluster, producer: Producer) -> None:
    """Given producers that share a connection, when one ends before its oneway probe ran, then its room is given back."""
    producer.send(Message("T", b"x"))
    peers = producer._instance.remoting._peers.values()
    connections = [peer.connection for peer in peers if peer.connection is not None]
    hasty = Producer("hasty", namesrv=cluster.namesrv)
    hasty.start()
    for _ in range(PROBE_EVERY):
        hasty.send_oneway(Message("T", b"x"))
    hasty.shutdown(0)
    wait_for(lambda: [one._permits.counter for one in connections] == [MAX_IN_FLIGHT] * len(connections))


@pytest.mark.parametrize("slip", ["rollback", "raises", "ends its greenlet"])
def test_an_orderly_queue_goes_on_after_any_slip(cluster: EmbeddedCluster, producer: Producer, slip: str) -> None:
    """Given a listener that slips once, then the same message comes again, and the others after it."""
    for number in range(3):
        producer.send(Message("T", b"%d" % number))
    seen: list[bytes] = []
    consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=FIRST, suspend_queue_time=0.02, listener_concurrency=1)
    consumer.subscribe("T")

    @consumer.orderly_listener
    def listen(msgs: list[Message]) -> object:
        seen.append(msgs[0].body)
        if len(seen) > 1:
            return None
        if slip == "rollback":
            return ConsumeOrderlyStatus.ROLLBACK
        raise ValueError("no") if slip == "raises" else gevent.GreenletExit

    with consumer:
        wait_for(lambda: len(seen) >= 4, timeout=10)
    assert seen == [b"0", b"0", b"1", b"2"]


def test_a_wrong_time_to_suspend_does_not_stop_an_orderly_queue(cluster: EmbeddedCluster, producer: Producer) -> None:
    for number in range(3):
        producer.send(Message("T", b"%d" % number))
    seen: list[bytes] = []
    consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=FIRST)
    consumer.subscribe("T")

    @consumer.orderly_listener
    def listen(msgs: list[Message], context: Any) -> None:
        seen.append(msgs[0].body)
        context.suspend_queue_time = None

    with consumer:
        wait_for(lambda: len(seen) >= 3, timeout=10)
    assert seen == [b"0", b"1", b"2"]


def test_a_listener_that_ends_its_greenlet_ends_no_pool(
    cluster: EmbeddedCluster, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given as many such errors as there are listener greenlets, then all messages are consumed all the same."""
    monkeypatch.setattr(concurrently, "CONSUME_AGAIN_PAUSE", 0.05)
    for number in range(6):
        producer.send(Message("T", b"%d" % number))
    thrown: list[bytes] = []
    done: set[bytes] = set()
    consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=FIRST, listener_concurrency=2)
    consumer.subscribe("T")

    @consumer.listener
    def listen(msgs: list[Message]) -> None:
        if len(thrown) < 3:
            thrown.append(msgs[0].body)
            raise gevent.GreenletExit
        done.add(msgs[0].body)

    with consumer:
        wait_for(lambda: len(done) == 6, timeout=10)


def test_where_a_group_began_is_stored_before_anything_is_consumed(cluster: EmbeddedCluster, producer: Producer) -> None:
    """Given a member that began at the end and consumed nothing, when it leaves, then the next one misses nothing."""
    for _ in range(5):
        producer.send(Message("T", b"old"))
    first = PushConsumer("g", namesrv=cluster.namesrv, instance_name="first")
    first.subscribe("T")
    first.register_listener(lambda msgs: 1 / 0)
    with first:
        assert MessageQueue("T", "broker-a", 0) in first.queues()
        first.suspend()
        first.persist_offsets()
    producer.send(Message("T", b"between"))
    seen: list[bytes] = []
    second = PushConsumer("g", namesrv=cluster.namesrv, instance_name="second")
    second.subscribe("T")
    second.register_listener(lambda msgs: seen.extend(one.body for one in msgs))
    with second:
        wait_for(lambda: seen == [b"between"], timeout=10)


def test_a_subscription_that_is_refused_leaves_the_old_one(cluster: EmbeddedCluster, producer: Producer) -> None:
    seen: list[bytes] = []
    consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=FIRST)
    consumer.subscribe("T")
    consumer.register_listener(lambda msgs: seen.extend(one.body for one in msgs))
    with consumer:
        with pytest.raises(ConfigError, match="a >"):
            consumer.subscribe("T", Sql("a >"))
        producer.send(Message("T", b"x"))
        wait_for(lambda: seen == [b"x"], timeout=10)


def test_a_shutdown_that_was_broken_off_can_be_finished(cluster: EmbeddedCluster, producer: Producer) -> None:
    """What the listener ends between the two calls is stored by the second."""
    [queue] = producer.fetch_publish_queues("T")
    producer.send(Message("T", b"x"))
    busy, go_on = Event(), Event()
    ended: list[bool] = []
    consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=FIRST, persist_offset_interval=60.0)
    consumer.subscribe("T")

    @consumer.listener
    def listen(msgs: list[Message]) -> None:
        busy.set()
        ended.append(go_on.wait(5))

    consumer.start()
    assert busy.wait(10)
    with gevent.Timeout(0.05, False):
        consumer.shutdown()
    go_on.set()
    consumer.shutdown()
    assert ended == [True]
    assert members(cluster, "g") == 0
    with PullConsumer("g", namesrv=cluster.namesrv) as reader:
        assert reader.fetch_offset(queue) == 1


def test_clients_of_a_manager_whose_start_failed_can_be_started(cluster: EmbeddedCluster) -> None:
    """Given a manager with a consumer that lacks its listener, when it has got one, then the manager starts them all."""
    got: list[bytes] = []
    manager = MQClientManager(namesrv=cluster.namesrv)
    producer = Producer("senders", namesrv=cluster.namesrv)
    ready = PushConsumer("ready", namesrv=cluster.namesrv, consume_from=FIRST)
    late = PushConsumer("late", namesrv=cluster.namesrv, consume_from=FIRST)
    ready.register_listener(lambda msgs: got.extend(one.body for one in msgs))
    manager.register_producer(producer)
    for consumer in (ready, late):
        consumer.subscribe("T")
        manager.register_consumer(consumer)
    with pytest.raises(ConfigError, match="listener"):
        manager.start()
    assert members(cluster, "ready") == 0
    late.register_listener(lambda msgs: got.extend(one.body for one in msgs))
    with manager:
        producer.send(Message("T", b"x"))
        wait_for(lambda: got == [b"x", b"x"])
    assert members(cluster, "ready") == members(cluster, "late") == 0


def test_a_listener_thrown_out_while_it_waits_loses_no_message(cluster: EmbeddedCluster, producer: Producer) -> None:
    """Its greenlet stands in line for the next call when it is killed."""
    for number in range(5):
        producer.send(Message("T", b"%d" % number))
    consumed: list[int] = []
    consumer = PushConsumer(
        "readers", namesrv=cluster.namesrv, consume_from=FIRST, max_messages_per_second=10, listener_concurrency=1
    )
    consumer.subscribe("T")

    @consumer.listener
    def listener(messages: list[Any]) -> None:
        if not consumed:
            gevent.spawn_later(0.02, gevent.getcurrent().kill, block=False)
        consumed.extend(int(message.body) for message in messages)

    with consumer:
        wait_for(lambda: sorted(set(consumed)) == list(range(5)))
    with PullConsumer("readers", namesrv=cluster.namesrv) as reader:
        assert [reader.fetch_offset(queue) for queue in reader.fetch_subscribe_queues("T")] == [5]


def test_callbacks_of_async_sends_may_send(cluster: EmbeddedCluster) -> None:
    """Even where each of them takes the last room there is."""
    done: list[Any] = []
    with Producer("others", namesrv=cluster.namesrv, backpressure=Backpressure(4, 1 << 30)) as producer:
        for _ in range(4):
            producer.send_async(Message("T", b"first"), lambda _: producer.send_async(Message("T", b"second"), done.append))
        wait_for(lambda: len(done) == 4, timeout=2.0)
