"""The official Java client cannot tell the embedded cluster from a real one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from grocketmq.embedded import EmbeddedCluster

from .cluster import Unavailable, wait_until
from .java_driver import JavaDriver

pytestmark = pytest.mark.leaves("greenlets", "sockets", reason="one cluster for all, which serves the Java client all the time")

#: A Java consumer whose first heartbeat by timer crosses its first rebalance gets code 25 until its next one, 30 s later.
PATIENCE = 45.0
#: Seconds of every delay level here, so that retries come soon.
RETRY_DELAY = 0.3


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(2, delay_levels=(RETRY_DELAY,) * 18) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def java(cluster: EmbeddedCluster, broker_version: str) -> Iterator[JavaDriver]:
    try:
        driver = JavaDriver(broker_version, cluster.namesrv)
    except Unavailable as reason:
        if os.environ.get("GROCKETMQ_REQUIRE_BROKER") == "1":
            pytest.fail(f"the Java client is required: {reason}", pytrace=False)
        pytest.skip(f"no Java client: {reason}")
    with driver:
        yield driver


def members(cluster: EmbeddedCluster, group: str) -> int:
    """How many members a consumer group has, at the broker that knows most."""
    groups = [broker.clients.consumers.get(group) for broker in cluster.brokers.values()]
    return max(len(found.members) if found else 0 for found in groups)


def test_send_and_consume(cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    bodies = [f"message {number} 消息".encode() for number in range(100)]
    results = java.send(topic_name, bodies, tags="TagA", keys=["k1", "k2"], properties={"color": "красный"})
    assert {result.status for result in results} == {"SEND_OK"}
    assert {result.broker_name for result in results} == set(cluster.broker_names)
    with java.consume(group_name, topic_name) as consumer:
        messages = consumer.wait(len(bodies), PATIENCE)
        assert sorted(message.body for message in messages) == sorted(bodies)
        assert {(message.tags, message.keys, message.properties["color"]) for message in messages} == {
            ("TagA", "k1 k2", "красный")
        }
        assert {message.msg_id for message in messages} == {result.msg_id for result in results}
        assert {message.offset_msg_id for message in messages} == {result.offset_msg_id for result in results}


def test_messages_come_while_the_consumer_waits(
    cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str
) -> None:
    cluster.create_topic(topic_name, queues=1)
    with java.consume(group_name, topic_name) as consumer:
        wait_until(lambda: sum(broker.pulls.held() for broker in cluster.brokers.values()) >= 2, PATIENCE, "pulls wait")
        for number in range(3):
            java.send(topic_name, b"%d" % number)
            assert consumer.wait(number + 1, PATIENCE)[-1].body == b"%d" % number


def test_the_topic_is_created_by_the_first_send(
    cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str
) -> None:
    (result,) = java.send(topic_name, b"first")
    with java.consume(group_name, topic_name) as consumer:
        (message,) = consumer.wait(1, PATIENCE)
    assert (message.body, message.broker_name) == (b"first", result.broker_name)


def test_batch_oneway_and_compressed(cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    batch = [b"batch %d" % number for number in range(20)]
    (result,) = java.send(topic_name, batch, batch=True)
    assert len(result.offset_msg_id.split(",")) == len(batch)
    large = b"compress me " * 1000
    java.send(topic_name, large, compress_over=100)
    java.send(topic_name, [b"oneway"], oneway=True)
    with java.consume(group_name, topic_name) as consumer:
        messages = consumer.wait(len(batch) + 2, PATIENCE)
        assert sorted(message.body for message in messages) == sorted([*batch, large, b"oneway"])


def test_tags_are_filtered(cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    for tag in ("a", "b", "c"):
        java.send(topic_name, [tag.encode()] * 5, tags=tag)
    with java.consume(group_name, topic_name, "a || c") as consumer:
        assert sorted(message.body for message in consumer.wait(10, PATIENCE)) == [b"a"] * 5 + [b"c"] * 5


def test_delay_level(cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    with java.consume(group_name, topic_name) as consumer:
        java.send(topic_name, b"late", delay_level=2)
        (message,) = consumer.wait(1, PATIENCE)
        assert message.store_timestamp - message.born_timestamp >= RETRY_DELAY * 1000 - 50


def test_failed_messages_are_retried_and_then_dead(
    cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str
) -> None:
    cluster.create_topic(topic_name)
    cluster.create_topic(f"%RETRY%{group_name}", queues=1)  # else Java learns its route half a minute after it started
    java.send(topic_name, b"try me")
    with java.consume(group_name, topic_name, max_reconsume_times=2, fail_times=99) as consumer:
        messages = consumer.wait(3, PATIENCE)
        assert [message.reconsume_times for message in messages] == [0, 1, 2]
        assert len({message.msg_id for message in messages}) == 1
        dead = [broker.store.queue(f"%DLQ%{group_name}", 0) for broker in cluster.brokers.values()]
        wait_until(lambda: sum(queue.max_offset for queue in dead) == 1, PATIENCE, "the message is among the dead letters")


def test_offsets_are_kept(cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    java.send(topic_name, [b"old"] * 8)
    with java.consume(group_name, topic_name) as consumer:
        consumer.wait(8, PATIENCE)
    wait_until(lambda: members(cluster, group_name) == 0, PATIENCE, "the consumer has left")
    java.send(topic_name, [b"new"] * 8)
    with java.consume(group_name, topic_name) as consumer:
        assert {message.body for message in consumer.wait(8, PATIENCE)} == {b"new"}


def test_two_members_share_the_queues(cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name, queues=4)

    def assigned(consumer: object) -> set[tuple[str, str, int]]:
        return {queue for queue in consumer.assigned() if queue[0] == topic_name}  # type: ignore[attr-defined]

    with java.consume(group_name, topic_name) as first:
        wait_until(lambda: len(assigned(first)) == 8, PATIENCE, "the first has all queues")
        with java.consume(group_name, topic_name) as second:
            wait_until(lambda: len(assigned(first)) == len(assigned(second)) == 4, PATIENCE, "they share the queues")
            assert not assigned(first) & assigned(second)
        wait_until(lambda: len(assigned(first)) == 8, PATIENCE, "the first has all queues again")


def test_orderly(cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    java.send(topic_name, [b"%03d" % number for number in range(50)], hash_key="one key")
    with java.consume(group_name, topic_name, orderly=True) as consumer:
        assert [message.body for message in consumer.wait(50, PATIENCE)] == [b"%03d" % number for number in range(50)]
        assert any(broker.locks.any_held(group_name) for broker in cluster.brokers.values())


def test_a_broker_that_comes_back(
    cluster: EmbeddedCluster, java: JavaDriver, topic_name: str, group_name: str, unique_name: Callable[[str], str]
) -> None:
    cluster.create_topic(topic_name)
    java.send(topic_name, [b"before"] * 20)
    cluster.stop_broker("broker-a")
    results = java.send(topic_name, [b"meanwhile"] * 4)
    assert {result.broker_name for result in results} == {"broker-b"}
    cluster.start_broker("broker-a")
    with java.consume(group_name, topic_name) as consumer:
        assert sorted(message.body for message in consumer.wait(24, PATIENCE)) == [b"before"] * 20 + [b"meanwhile"] * 4
