"""The push consumer against real brokers."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq import (
    ConfigError,
    ConsumeContext,
    ConsumeFromWhere,
    ConsumeResult,
    ConsumeStatus,
    Message,
    MessageExt,
    MessageQueue,
    Producer,
)
from tests.conftest import running_greenlets
from tests.helpers import wait_for

from .clients import (
    ARRIVAL,
    Inbox,
    all_queues,
    assigned,
    consuming,
    new_consumer,
    numbered,
    producing,
    send_bodies,
    store_offset,
    stored_offset,
)
from .cluster import RealCluster
from .conftest import Pair

#: Seconds in which what is wrong would show.
QUIET = 1.0

LARGE = 64 * 1024


class Gate:
    """Holds a listener until it is opened; knows how many calls wait."""

    def __init__(self) -> None:
        self.entered = 0
        self._open = Event()

    def __call__(self, message: MessageExt) -> None:
        self.entered += 1
        assert self._open.wait(ARRIVAL)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def producer(real_cluster: RealCluster) -> Iterator[Producer]:
    with producing(real_cluster) as producer:
        yield producer


# -- where a group begins


@pytest.fixture(scope="module")
def old_topic(small_cluster: RealCluster, unique_name: Callable[[str], str]) -> str:
    """A topic of two queues whose first messages have been deleted, as retention does in production.

    A broker tells a new group to begin at 0 while a queue has all its messages and they are in memory, whatever the
    client wants.
    """
    topic = unique_name("old")
    small_cluster.create_topic(topic, queues=2)
    with producing(small_cluster) as producer:
        for number in range(40):
            producer.send(Message(topic, f"{number} ".encode() + random.Random(number).randbytes(100_000)))
    (broker,) = small_cluster.broker_names
    small_cluster.kill_broker(broker)
    files = sorted((small_cluster.root / broker / "store" / "commitlog").iterdir())
    assert len(files) >= 4
    for file in files[:-2]:
        file.unlink()
    small_cluster.start_broker(broker)
    with producing(small_cluster) as producer:
        for queue in producer.fetch_publish_queues(topic):
            assert 0 < producer.min_offset(queue) < producer.max_offset(queue) == 20
    return topic


def kept(cluster: RealCluster, topic: str) -> int:
    """How many messages a topic still has."""
    with producing(cluster) as producer:
        return sum(producer.max_offset(queue) - producer.min_offset(queue) for queue in producer.fetch_publish_queues(topic))


def test_first_offset_is_the_first_that_is_left(small_cluster: RealCluster, old_topic: str, group_name: str) -> None:
    inbox, expected = Inbox(), kept(small_cluster, old_topic)
    with consuming(small_cluster, group_name, old_topic, inbox, consume_from=ConsumeFromWhere.FIRST_OFFSET):
        inbox.wait(expected)
    assert len(set(inbox.bodies)) == len(inbox.bodies) == expected


def test_last_offset_skips_what_is_there(small_cluster: RealCluster, old_topic: str, group_name: str) -> None:
    inbox, new = Inbox(), numbered(group_name, 10)
    with (
        producing(small_cluster) as producer,
        consuming(small_cluster, group_name, old_topic, inbox, consume_from=ConsumeFromWhere.LAST_OFFSET),
    ):
        send_bodies(producer, old_topic, new)
        inbox.wait(10)
    assert sorted(inbox.bodies) == sorted(new)


@pytest.mark.parametrize("kind", ["datetime", "text"])
def test_timestamp_begins_at_a_time(small_cluster: RealCluster, old_topic: str, group_name: str, kind: str) -> None:
    inbox, older, newer = Inbox(), numbered(f"{group_name} older", 4), numbered(f"{group_name} newer", 4)
    with producing(small_cluster) as producer:
        send_bodies(producer, old_topic, older)
        gevent.sleep(1.0 - time.time() % 1.0 + 0.05)  # the text has seconds only
        moment = datetime.fromtimestamp(int(time.time()))
        send_bodies(producer, old_topic, newer)
    options: dict[str, Any] = {"consume_timestamp": moment if kind == "datetime" else f"{moment:%Y%m%d%H%M%S}"}
    with consuming(small_cluster, group_name, old_topic, inbox, consume_from=ConsumeFromWhere.TIMESTAMP, **options):
        inbox.wait(4)
    assert sorted(inbox.bodies) == sorted(newer)


def test_last_offset_in_a_young_queue_is_as_javas(pair: Pair, topic_name: str, unique_name: Callable[[str], str]) -> None:
    pair.cluster.create_topic(topic_name)
    inbox = Inbox()
    with producing(pair.cluster) as producer:
        send_bodies(producer, topic_name, numbered("young", 16))
    with (
        pair.java.consume(unique_name("group"), topic_name, consume_from="last") as consumer,
        consuming(pair.cluster, unique_name("group"), topic_name, inbox, consume_from=ConsumeFromWhere.LAST_OFFSET),
    ):
        consumer.wait(16)
        inbox.wait(16)


@pytest.mark.parametrize("offset", [0, 1_000_000])
def test_an_offset_out_of_range_recovers(small_cluster: RealCluster, old_topic: str, group_name: str, offset: int) -> None:
    """Code 21: what is too small goes on at the first that is left, what is too large where the broker says."""
    inbox, new = Inbox(), numbered(f"{group_name} new", 10)
    with producing(small_cluster) as producer:
        queues = producer.fetch_publish_queues(old_topic)
        with consuming(small_cluster, group_name, old_topic, inbox, consume_from=ConsumeFromWhere.LAST_OFFSET) as consumer:
            wait_for(lambda: set(queues) <= set(consumer.queues()), ARRIVAL)  # the broker refuses offsets of unknown groups
        for queue in queues:
            store_offset(producer, group_name, queue, offset)
        before = kept(small_cluster, old_topic)
        with consuming(small_cluster, group_name, old_topic, inbox, consume_from=ConsumeFromWhere.LAST_OFFSET) as consumer:
            if offset == 0:
                inbox.wait(before)
                consumer.persist_offsets()
            wait_for(lambda: all(is_valid(producer, group_name, queue) for queue in queues), ARRIVAL, "offsets are valid")
            send_bodies(producer, old_topic, new)
            inbox.wait_for_bodies(new)
            consumer.persist_offsets()
            assert [stored_offset(consumer, group_name, queue) for queue in queues] == [
                producer.max_offset(queue) for queue in queues
            ]


def is_valid(producer: Producer, group: str, queue: MessageQueue) -> bool:
    """Whether the offset that a broker has for a group is one of the queue's."""
    offset = stored_offset(producer, group, queue)
    return offset is not None and producer.min_offset(queue) <= offset <= producer.max_offset(queue)


# -- what it gets


def test_tag_filters(real_cluster: RealCluster, producer: Producer, topic_name: str, unique_name: Callable[[str], str]) -> None:
    real_cluster.create_topic(topic_name)
    for tag in ("red", "green", "blue", "Aa", "BB", None, "红"):
        producer.send(Message(topic_name, str(tag).encode(), tags=tag))
    # "Aa" and "BB" have the same hash, which is all that brokers look at.
    for expression, wanted in {
        "red || blue": ["red", "blue"],
        "Aa": ["Aa"],
        "红||none": ["红"],
        "*": ["red", "green", "blue", "Aa", "BB", "None", "红"],
    }.items():
        inbox = Inbox()
        with consuming(real_cluster, unique_name("group"), topic_name, inbox, expression=expression) as consumer:
            inbox.wait(len(wanted))
            wait_for(lambda: len(consumer.queues()) >= 8, ARRIVAL)
            consumer.persist_offsets()
        assert sorted(inbox.bodies) == sorted(tag.encode() for tag in wanted), expression


def test_topics_come_and_go_while_it_runs(
    real_cluster: RealCluster, producer: Producer, group_name: str, unique_name: Callable[[str], str]
) -> None:
    stays, goes = unique_name("topic"), unique_name("topic")
    for topic in (stays, goes):
        real_cluster.create_topic(topic)
    inbox = Inbox()
    with consuming(real_cluster, group_name, stays, inbox) as consumer:
        consumer.subscribe(goes)
        first = numbered("first", 16)
        send_bodies(producer, goes, first)
        inbox.wait_for_bodies(first)
        consumer.unsubscribe(goes)
        assert not {queue for queue in assigned(consumer) if queue[0] == goes}
        while_away, others = numbered("while away", 16), numbered("others", 16)
        send_bodies(producer, goes, while_away)
        send_bodies(producer, stays, others)
        inbox.wait_for_bodies(others)
        assert not set(inbox.bodies) & set(while_away)
        consumer.subscribe(goes)
        inbox.wait_for_bodies(while_away)
    assert Counter(inbox.bodies) == Counter(first + while_away + others)  # it went on where it had stopped


def test_suspend_and_resume(real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    inbox = Inbox()
    with consuming(real_cluster, group_name, topic_name, inbox) as consumer:
        wait_for(lambda: all_queues(real_cluster, topic_name) <= assigned(consumer), ARRIVAL)
        consumer.suspend()
        gevent.sleep(QUIET)  # pulls that are put off now, and those that brokers hold:
        send_bodies(producer, topic_name, numbered("ends the pulls under way", 64))
        gevent.sleep(QUIET)
        pulled = consumer.stats().pulled
        held = numbered("held", 64)
        send_bodies(producer, topic_name, held)
        gevent.sleep(QUIET)
        assert consumer.stats().pulled == pulled
        assert not set(inbox.bodies) & set(held)
        consumer.resume()
        inbox.wait_for_bodies(held)
        inbox.wait(128)
    assert len(inbox.messages) == len(set(inbox.bodies)) == 128


# -- an operator resets offsets


def reset(cluster: RealCluster, group: str, topic: str, to: str) -> None:
    cluster.mqadmin("resetOffsetByTime", "-g", group, "-t", topic, "-s", to)


def committed(consumer: Any, producer: Producer, group: str, topic: str) -> list[int | None]:
    """What brokers have of a group, after the consumer has told them."""
    consumer.persist_offsets()
    return [stored_offset(producer, group, queue) for queue in producer.fetch_publish_queues(topic)]


def ends(producer: Producer, topic: str) -> list[int]:
    return [producer.max_offset(queue) for queue in producer.fetch_publish_queues(topic)]


def test_reset_back_is_not_undone_by_late_listeners(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    real_cluster.create_topic(topic_name)
    older, newer, in_hand, wake = (numbered(name, 16) for name in ("older", "newer", "in hand", "wake"))
    late, again = Gate(), Gate()
    seen: Counter[bytes] = Counter()

    def hold(message: MessageExt) -> None:
        seen[message.body] += 1
        if seen[message.body] > 1:
            again(message)
        elif message.body in in_hand:
            late(message)

    inbox = Inbox(before=hold)
    with consuming(real_cluster, group_name, topic_name, inbox, listener_concurrency=100) as consumer:
        send_bodies(producer, topic_name, older)
        inbox.wait_for_bodies(older)
        gevent.sleep(0.1)
        moment = str(round(time.time() * 1000))
        gevent.sleep(0.1)
        send_bodies(producer, topic_name, newer)
        inbox.wait_for_bodies(newer)
        assert committed(consumer, producer, group_name, topic_name) == [4] * 8
        send_bodies(producer, topic_name, in_hand)
        wait_for(lambda: late.entered == 16, ARRIVAL, "listeners are at work")
        reset(real_cluster, group_name, topic_name, moment)
        send_bodies(producer, topic_name, wake)  # ends the pulls that brokers hold
        wait_for(lambda: again.entered >= 32, ARRIVAL, "the newer ones come again")
        late.open()
        wait_for(lambda: not set(in_hand) - set(inbox.bodies), ARRIVAL, "the late listeners are done")
        assert set(committed(consumer, producer, group_name, topic_name)) <= {2, None}
        again.open()
        wait_for(
            lambda: committed(consumer, producer, group_name, topic_name) == ends(producer, topic_name), ARRIVAL, "all is done"
        )
    counts = Counter(inbox.bodies)
    assert {counts[body] for body in older} == {1}
    assert {counts[body] for body in newer + in_hand} == {2}
    assert set(wake) <= counts.keys()


def test_reset_forward_skips(real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    skipped, after = numbered("skipped", 400), numbered("after", 40)
    gate = Gate()
    inbox = Inbox(before=gate)
    options: dict[str, Any] = {"listener_concurrency": 8, "max_cached_messages_per_queue": 5, "pull_batch_size": 5}
    with consuming(real_cluster, group_name, topic_name, inbox, **options) as consumer:
        send_bodies(producer, topic_name, skipped)
        wait_for(lambda: gate.entered == 8 and consumer.stats().flow_controlled > 50, ARRIVAL, "every cache is full")
        reset(real_cluster, group_name, topic_name, "now")
        gate.open()
        wait_for(
            lambda: committed(consumer, producer, group_name, topic_name) == ends(producer, topic_name), ARRIVAL, "all skipped"
        )
        assert len(set(inbox.bodies)) < 200
        send_bodies(producer, topic_name, after)
        inbox.wait_for_bodies(after)
        wait_for(
            lambda: committed(consumer, producer, group_name, topic_name) == ends(producer, topic_name), ARRIVAL, "all is done"
        )
    counts = Counter(inbox.bodies)
    assert {counts[body] for body in after} == {1}


# -- flow control


def one_queue(cluster: RealCluster, topic: str) -> MessageQueue:
    cluster.create_topic(topic)
    return MessageQueue(topic, cluster.broker_names[0], 0)


@pytest.mark.parametrize(
    ("options", "body_bytes", "most"),
    [
        ({"max_cached_messages_per_queue": 40, "pull_batch_size": 10}, 10, 50),
        ({"max_cached_messages": 40, "pull_batch_size": 10}, 10, 50),
        # A pull brings at most 256 KiB.
        ({"max_cached_mib_per_queue": 1}, LARGE, 16 + 4 + 1),
    ],
    ids=["count", "count over all queues", "size"],
)
def test_a_slow_listener_bounds_the_cache(
    real_cluster: RealCluster,
    producer: Producer,
    topic_name: str,
    group_name: str,
    options: dict[str, Any],
    body_bytes: int,
    most: int,
) -> None:
    queue = one_queue(real_cluster, topic_name)
    noise = random.Random(body_bytes).randbytes(body_bytes)
    bodies = [str(number).encode() + noise for number in range(100)]
    send_bodies(producer, topic_name, bodies, queue)
    gate = Gate()
    inbox = Inbox(before=gate)
    with consuming(real_cluster, group_name, topic_name, inbox, listener_concurrency=2, **options) as consumer:
        wait_for(lambda: consumer.stats().flow_controlled > 3, ARRIVAL, "pulls are put off")
        assert consumer.stats().pulled <= most
        gate.open()
        inbox.wait(100)
    assert sorted(inbox.bodies) == sorted(bodies)


def test_a_slow_listener_bounds_the_span(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    queue = one_queue(real_cluster, topic_name)
    bodies = numbered("span", 400)
    send_bodies(producer, topic_name, bodies, queue)
    gate = Gate()
    inbox = Inbox(before=gate)
    with consuming(real_cluster, group_name, topic_name, inbox, max_span_concurrently=100, pull_batch_size=16) as consumer:
        wait_for(lambda: consumer.stats().flow_controlled > 3, ARRIVAL, "pulls are put off")
        assert 100 < consumer.stats().pulled <= 100 + 16 + 1
        consumer.persist_offsets()
        assert stored_offset(producer, group_name, queue) in (0, None)
        gate.open()
        inbox.wait(400)
    assert sorted(inbox.bodies) == sorted(bodies)
    assert stored_offset(producer, group_name, queue) == 400


# -- messages that are not done


def test_a_message_held_too_long_comes_again(small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    small_cluster.create_topic(topic_name)
    small_cluster.create_topic(f"%RETRY%{group_name}", queues=1)
    gate = Gate()
    inbox = Inbox(before=lambda message: gate(message) if (message.body, message.reconsume_times) == (b"slow", 0) else None)
    with (
        producing(small_cluster) as producer,
        consuming(small_cluster, group_name, topic_name, inbox, consume_timeout=1.0) as consumer,
    ):
        sent = producer.send(Message(topic_name, b"slow"))
        (again,) = inbox.wait(1)
        assert (again.msg_id, again.reconsume_times, again.topic) == (sent.msg_id, 1, topic_name)
        # The first try is still at work, and no longer holds the offset.
        assert gate.entered == consumer.stats().expired == 1
        producer.send(Message(topic_name, b"next"), queue=sent.message_queue)
        wait_for(lambda: stored_after(consumer, group_name, sent.message_queue) == 2, ARRIVAL, "the offset has moved")
        gate.open()
        inbox.wait(3)
    assert inbox.bodies.count(b"slow") == 2


def stored_after(consumer: Any, group: str, queue: MessageQueue) -> int | None:
    consumer.persist_offsets()
    return stored_offset(consumer, group, queue)


@pytest.mark.parametrize("way", ["context", "result"])
def test_a_part_of_a_batch_is_acknowledged(small_cluster: RealCluster, topic_name: str, group_name: str, way: str) -> None:
    small_cluster.create_topic(topic_name)
    small_cluster.create_topic(f"%RETRY%{group_name}", queues=1)
    batches: list[list[tuple[bytes, int]]] = []

    def listen(msgs: list[MessageExt], context: ConsumeContext) -> object:
        batches.append([(message.body, message.reconsume_times) for message in msgs])
        if len(msgs) < 10:
            return None
        if way == "result":
            return ConsumeResult(ConsumeStatus.SUCCESS, ack_index=5)
        context.ack_index = 5
        return ConsumeStatus.SUCCESS

    bodies = numbered("part", 10)
    with producing(small_cluster) as producer:
        producer.send_batch([Message(topic_name, body) for body in bodies])
    with consuming(small_cluster, group_name, topic_name, listen, consume_batch_size=10):
        wait_for(lambda: sum(map(len, batches)) >= 14, ARRIVAL, "the rest has come again")
    assert batches[0] == [(body, 0) for body in bodies]
    assert sorted(one for batch in batches[1:] for one in batch) == [(body, 1) for body in bodies[6:]]


# -- instances


def test_two_instances_in_one_process_share_the_queues(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    real_cluster.create_topic(topic_name)
    bodies = numbered("shared", 80)
    inboxes = [Inbox(), Inbox()]
    with (
        consuming(real_cluster, group_name, topic_name, inboxes[0], instance_name="one") as one,
        consuming(real_cluster, group_name, topic_name, inboxes[1], instance_name="two") as two,
    ):
        assert one.client_id != two.client_id
        wait_for(
            lambda: sorted(producer.consumer_ids(group_name, topic_name)) == sorted([one.client_id, two.client_id]), ARRIVAL
        )

        def shares() -> list[set[tuple[str, str, int]]]:
            return [{queue for queue in assigned(consumer) if queue[0] == topic_name} for consumer in (one, two)]

        wait_for(lambda: [len(share) for share in shares()] == [4, 4], ARRIVAL, "four queues each")
        assert set.union(*shares()) == all_queues(real_cluster, topic_name)
        send_bodies(producer, topic_name, bodies)
        wait_for(lambda: sum(len(inbox.messages) for inbox in inboxes) >= 80, ARRIVAL)
    assert sorted(inboxes[0].bodies + inboxes[1].bodies) == sorted(bodies)
    assert all(len(inbox.messages) == 40 for inbox in inboxes)


def test_a_group_twice_in_one_instance_is_refused(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    real_cluster.create_topic(topic_name)
    inbox = Inbox()
    with consuming(real_cluster, group_name, topic_name, inbox, instance_name="same"):
        second = new_consumer(real_cluster, group_name, topic_name, Inbox(), instance_name="same")
        with pytest.raises(ConfigError, match="instance_name"):
            second.start()
        second.shutdown()
        producer.send(Message(topic_name, b"the first one works on"))
        inbox.wait(1)


def test_starts_and_stops_leave_nothing(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)

    def cycle() -> None:
        inbox = Inbox()
        with consuming(real_cluster, group_name, topic_name, inbox), producing(real_cluster) as producer:
            producer.send(Message(topic_name, b"x"))
            inbox.wait(1)

    cycle()
    greenlets, files = len(running_greenlets()), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        cycle()
    wait_for(lambda: len(running_greenlets()) <= greenlets, 5.0, "no more greenlets than before")
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= files, 5.0, "no more files than before")
