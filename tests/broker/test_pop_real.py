"""POP against real brokers: the push consumer with ``pop=True``, and the simple consumer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from grocketmq import (
    ConfigError,
    ConsumeFromWhere,
    ConsumeStatus,
    Message,
    MessageError,
    MessageExt,
    MessageQueue,
    PushConsumer,
    SimpleConsumer,
    Sql,
)
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, broker_config, consuming, new_consumer, numbered, producing, send_bodies
from .cluster import RealCluster
from .java_driver import JavaDriver

#: The shortest invisible time, and seconds in which a message that is not acknowledged would have come again: the broker
#: looks for such messages every second, and wakes waiting requests after 15 s at the latest.
INVISIBLE = 5.0
QUIET = 9.0

pytestmark = pytest.mark.slow


@contextmanager
def popping(
    cluster: RealCluster, group: str, topic: str, listener: Callable[..., object], **options: Any
) -> Iterator[PushConsumer]:
    """A running consumer that pops."""
    options.setdefault("pop_invisible_time", INVISIBLE)
    with consuming(cluster, group, topic, listener, pop=True, **options) as consumer:
        yield consumer


@contextmanager
def receiving(cluster: RealCluster, group: str, topic: str, **options: Any) -> Iterator[SimpleConsumer]:
    """A running simple consumer that begins at the first message."""
    options.setdefault("instance_name", f"test-{group}")
    with SimpleConsumer(group, namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, **options) as consumer:
        consumer.subscribe(topic)
        yield consumer


def receive(consumer: SimpleConsumer, count: int, invisible: float = INVISIBLE, **options: Any) -> list[MessageExt]:
    """So many messages."""
    found: list[MessageExt] = []
    deadline = time.monotonic() + ARRIVAL
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages"
        found += consumer.receive(count - len(found), invisible, **{"wait": 5.0, **options})
    return found


# -- the push consumer -------------------------------------------------------------------------------------------------------


def test_everything_is_consumed_once_and_acknowledged(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """Three groups at once: all messages, those of one tag, and those of a condition."""
    real_cluster.create_topic(topic_name)
    everything, tagged, chosen = Inbox(), Inbox(), Inbox()
    bodies = numbered("message", 300)
    with (
        broker_config(real_cluster, "enablePropertyFilter", True, False),
        popping(real_cluster, group_name, topic_name, everything, consume_batch_size=4) as consumer,
        popping(real_cluster, group_name + "t", topic_name, tagged, expression="even || other"),
        popping(real_cluster, group_name + "s", topic_name, chosen, expression=Sql("number < 10")),
        producing(real_cluster) as producer,
    ):
        for number, body in enumerate(bodies):
            tags = "odd" if number % 2 else "even"
            producer.send(Message(topic_name, body, tags=tags, properties={"number": str(number)}))
        everything.wait_for_bodies(bodies)
        tagged.wait_for_bodies(bodies[::2])
        chosen.wait_for_bodies(bodies[:10])
        wait_for(lambda: not consumer.stats().cached_messages, ARRIVAL, "everything is acknowledged")
        gevent.sleep(QUIET)
        assert Counter(everything.bodies) == Counter(bodies)
        assert Counter(tagged.bodies) == Counter(bodies[::2])
        assert Counter(chosen.bodies) == Counter(bodies[:10])
        assert {(queue.broker_name, queue.queue_id) for queue in consumer.queues() if queue.topic == topic_name} == {
            (name, -1) for name in real_cluster.broker_names
        }


def test_shutdown_acknowledges_what_is_done(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """Given a consumer that ends in the midst of its work, when another takes over, then only what was not done comes again."""
    real_cluster.create_topic(topic_name)
    bodies = numbered("message", 60)
    first, second = Inbox(before=lambda message: gevent.sleep(0.02)), Inbox()
    with producing(real_cluster) as producer:
        send_bodies(producer, topic_name, bodies)
    with popping(real_cluster, group_name, topic_name, first, listener_concurrency=2):
        first.wait(10)
    assert len(first.messages) < len(bodies)
    with popping(real_cluster, group_name, topic_name, second):
        wait_for(lambda: len(first.bodies) + len(second.bodies) >= len(bodies), ARRIVAL)
        gevent.sleep(QUIET)
    assert Counter(first.bodies + second.bodies) == Counter(bodies)


def test_a_failed_message_comes_again_later(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    at: list[float] = []
    inbox = Inbox(fail_times=1, before=lambda message: at.append(time.monotonic()))
    with popping(real_cluster, group_name, topic_name, inbox), producing(real_cluster) as producer:
        producer.send(Message(topic_name, b"twice", tags="a", properties={"own": "kept"}))
        first, again = inbox.wait(2)
        assert at[1] - at[0] >= 9.5
        assert (first.reconsume_times, again.reconsume_times) == (0, 1)
        assert (again.topic, again.body, again.tags, again.properties["own"]) == (topic_name, b"twice", "a", "kept")
        assert again.msg_id == first.msg_id
        gevent.sleep(QUIET)
        assert len(inbox.messages) == 2


def test_a_hopeless_message_goes_to_the_dead_letters(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    inbox, buried = Inbox(fail_times=99), Inbox()
    with popping(real_cluster, group_name, topic_name, inbox, max_reconsume_times=0), producing(real_cluster) as producer:
        (queue, *_) = producer.fetch_publish_queues(topic_name)
        producer.send(Message(topic_name, b"hopeless"), queue=queue)
        inbox.wait(1)
        dead = MessageQueue(f"%DLQ%{group_name}", queue.broker_name, 0)
        wait_for(lambda: producer.max_offset(dead) == 1, ARRIVAL, "one dead letter")
        gevent.sleep(QUIET)
        assert inbox.bodies == [b"hopeless"]
        assert producer.max_offset(dead) == 1
    with new_consumer(real_cluster, group_name + "d", dead.topic, buried):
        assert buried.wait(1)[0].body == b"hopeless"


def test_a_listener_that_takes_too_long_has_its_message_delivered_again(
    real_cluster: RealCluster, topic_name: str, group_name: str
) -> None:
    """What it says in the end does not count any more."""
    real_cluster.create_topic(topic_name)

    def slow_at_first(message: MessageExt) -> None:
        if message.reconsume_times == 0:
            gevent.sleep(INVISIBLE + 1)

    inbox = Inbox(before=slow_at_first)
    with popping(real_cluster, group_name, topic_name, inbox) as consumer, producing(real_cluster) as producer:
        producer.send(Message(topic_name, b"slow"))
        wait_for(lambda: any(message.reconsume_times for message in inbox.messages), ARRIVAL, "it comes again")
        assert consumer.stats().expired == 1


def test_members_share_the_messages_of_a_queue(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """More members than queues: with popping, all of them work."""
    real_cluster.create_topic(topic_name, queues=1)
    inboxes = [Inbox(before=lambda message: gevent.sleep(0.02)) for _ in range(4)]
    bodies = numbered("message", 400)
    consumers = [
        new_consumer(real_cluster, group_name, topic_name, inbox, pop=True, pop_batch_size=4, listener_concurrency=2)
        for inbox in inboxes
    ]
    try:
        for consumer in consumers:
            consumer.start()
        with producing(real_cluster) as producer:
            send_bodies(producer, topic_name, bodies)
        wait_for(lambda: sum(len(inbox.messages) for inbox in inboxes) >= len(bodies), ARRIVAL)
        assert Counter(body for inbox in inboxes for body in inbox.bodies) == Counter(bodies)
        assert all(inbox.messages for inbox in inboxes)
    finally:
        for consumer in consumers:
            consumer.shutdown()


def test_members_of_java_and_ours_share_a_topic(
    real_cluster: RealCluster, java: JavaDriver, topic_name: str, group_name: str
) -> None:
    """Each acknowledges what it got, and what one of them fails may come to the other."""
    real_cluster.create_topic(topic_name)
    sent = numbered("message", 200)
    ours = Inbox(before=lambda message: gevent.sleep(0.01))
    with (
        popping(real_cluster, group_name, topic_name, ours, pop_batch_size=4, pop_invisible_time=60.0),
        java.consume(group_name, topic_name, pop=True, pause=0.01) as theirs,
        producing(real_cluster) as producer,
    ):

        def both_work() -> bool:
            sent.append(f"another {len(sent)}".encode())
            send_bodies(producer, topic_name, sent[-1:])
            return bool(ours.messages and theirs.messages)

        wait_for(both_work, ARRIVAL)
        send_bodies(producer, topic_name, sent[:200])
        wait_for(lambda: not set(sent).difference(ours.bodies + theirs.bodies), ARRIVAL)
        assert Counter(ours.bodies + theirs.bodies) == Counter(sent)
        assert any("POP_CK" in message.properties for message in theirs.messages)


def test_a_group_that_pulled_before(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """Its offsets stay, and messages that wait for their next try are not forgotten."""
    real_cluster.create_topic(topic_name)
    pulled, popped = Inbox(fail_times=1), Inbox()
    with producing(real_cluster) as producer:
        with consuming(real_cluster, group_name, topic_name, pulled) as consumer:
            producer.send(Message(topic_name, b"before"))
            pulled.wait(1)
            wait_for(lambda: consumer.stats().sent_back == 1, ARRIVAL)
        with popping(real_cluster, group_name, topic_name, popped):
            producer.send(Message(topic_name, b"after"))
            popped.wait(2)
            gevent.sleep(QUIET)
    assert {(message.topic, message.body, message.reconsume_times) for message in popped.messages} == {
        (topic_name, b"after", 0),
        (topic_name, b"before", 1),
    }
    assert len(popped.messages) == 2


# -- the simple consumer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_only_what_is_not_acknowledged_comes_again(
    version: int, real_cluster: RealCluster, topic_name: str, group_name: str
) -> None:
    """Through either form of retry topic: one is acknowledged, one kept longer, one forgotten."""
    real_cluster.create_topic(topic_name)
    with (
        broker_config(real_cluster, "enableRetryTopicV2", version == 2, False),
        producing(real_cluster) as producer,
        receiving(real_cluster, group_name, topic_name) as consumer,
    ):
        send_bodies(producer, topic_name, [b"acknowledged", b"kept", b"forgotten"])
        received = time.monotonic()
        first = {message.body: message for message in receive(consumer, 3)}
        consumer.ack(first[b"acknowledged"])
        consumer.change_invisible(first[b"kept"], 14.0)
        (forgotten,) = receive(consumer, 1)
        assert forgotten.body == b"forgotten"
        assert time.monotonic() - received >= INVISIBLE - 0.5
        assert (forgotten.topic, forgotten.reconsume_times) == (topic_name, 1)
        assert forgotten.properties["POP_CK"].split()[4] == str(version)
        assert forgotten.properties["1ST_POP_TIME"] == first[b"forgotten"].properties["1ST_POP_TIME"]
        consumer.ack(forgotten)
        (kept,) = receive(consumer, 1)
        assert kept.body == b"kept"
        assert time.monotonic() - received >= 13.0
        consumer.ack(kept)
        assert consumer.receive(wait=QUIET) == []


def test_a_message_can_be_kept_and_then_acknowledged(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    with producing(real_cluster) as producer, receiving(real_cluster, group_name, topic_name) as consumer:
        send_bodies(producer, topic_name, [b"x"])
        (message,) = receive(consumer, 1)
        check_point = message.properties["POP_CK"]
        consumer.change_invisible(message, INVISIBLE)
        assert message.properties["POP_CK"] != check_point
        gevent.sleep(1)
        consumer.ack(message)
        assert consumer.receive(wait=QUIET) == []


def test_a_stale_handle_is_a_clear_error(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    with producing(real_cluster) as producer, receiving(real_cluster, group_name, topic_name) as consumer:
        send_bodies(producer, topic_name, [b"x"])
        (message,) = receive(consumer, 1)
        gevent.sleep(INVISIBLE + 0.2)
        with pytest.raises(MessageError, match="its invisible time is over"):
            consumer.ack(message)
        with pytest.raises(MessageError, match="its invisible time is over"):
            consumer.change_invisible(message, 10.0)
        with pytest.raises(MessageError, match="was not received by popping"):
            consumer.ack(MessageExt(topic_name, b"x"))


def test_receive_returns_as_soon_as_there_is_something(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    with producing(real_cluster) as producer, receiving(real_cluster, group_name, topic_name) as consumer:
        began = time.monotonic()
        assert consumer.receive(wait=0.0) == []
        assert time.monotonic() - began < 1
        assert consumer.receive(wait=1.5) == []
        assert 1.4 <= time.monotonic() - began < 4
        gevent.spawn_later(0.5, send_bodies, producer, topic_name, [b"late"])
        began = time.monotonic()
        (message,) = consumer.receive(wait=15.0)
        assert time.monotonic() - began < 8
        consumer.ack(message)


def test_many_messages_from_all_brokers(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """Two members of a group, each in its own greenlet, get every message once, large ones too."""
    real_cluster.create_topic(topic_name)
    bodies = [*numbered("message", 200), b"large" * 20_000]
    got: list[bytes] = []

    def take(number: int) -> None:
        with receiving(real_cluster, group_name, topic_name, instance_name=f"member-{number}") as consumer:
            while len(got) < len(bodies):
                for message in consumer.receive(50, 30.0, 2.0):
                    consumer.ack(message)
                    got.append(message.body)

    with producing(real_cluster) as producer:
        send_bodies(producer, topic_name, bodies)
    takers = [gevent.spawn(take, number) for number in range(2)]
    gevent.joinall(takers, timeout=ARRIVAL, raise_error=True)
    assert Counter(got) == Counter(bodies)


# -- brokers that know nothing of it -----------------------------------------------------------------------------------------


def test_old_brokers_are_a_clear_error(real_cluster_497: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster_497.create_topic(topic_name)
    consumer = new_consumer(real_cluster_497, group_name, topic_name, lambda msgs: ConsumeStatus.SUCCESS, pop=True)
    with pytest.raises(ConfigError, match=r"too old for POP.*5\.0"):
        consumer.start()
    with (
        receiving(real_cluster_497, group_name + "s", topic_name) as simple,
        pytest.raises(ConfigError, match=r"too old for POP.*5\.0"),
    ):
        simple.receive(wait=1.0)
