"""The official Java clients and tools at work on ``grocketmq serve``."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer
from grocketmq.wire.bodies import MessageRequestMode
from tests.cli.test_serve import Served
from tests.embedded.raw import RawClient
from tests.embedded.test_pop import set_mode
from tests.helpers import wait_for

from .clients import Inbox, java_ends_transactions
from .cluster import Unavailable, jars, mqadmin
from .java_driver import JavaDriver

pytestmark = pytest.mark.leaves("greenlets", "sockets", reason="one program and one JVM for all")

#: Seconds; a Java consumer whose first heartbeat crosses its first rebalance gets code 25 until its next one, 30 s later.
PATIENCE = 45.0


@pytest.fixture(scope="module")
def served(broker_version: str) -> Iterator[Served]:
    try:
        jars(broker_version)
    except Unavailable as reason:
        if os.environ.get("GROCKETMQ_REQUIRE_BROKER") == "1":
            pytest.fail(f"the Java client is required: {reason}", pytrace=False)
        pytest.skip(f"no Java client: {reason}")
    transactions = ("--transaction-timeout", "4", "--transaction-check-interval", "1")
    served = Served("--namesrv-port", "0", "--brokers", "2", *transactions)
    yield served
    status, stdout, stderr = served.end(signal.SIGINT)
    assert (status, stdout) == (0, "stopped\n")
    assert "Traceback" not in stderr, stderr


@pytest.fixture(scope="module")
def namesrv(served: Served) -> str:
    return served.address("name server")


@pytest.fixture(scope="module")
def java(namesrv: str, broker_version: str) -> Iterator[JavaDriver]:
    with JavaDriver(broker_version, namesrv) as driver:
        yield driver


@pytest.fixture(scope="module")
def producer(namesrv: str) -> Iterator[Producer]:
    with Producer("ours", namesrv=namesrv) as producer:
        yield producer


def test_each_way_of_consuming(
    java: JavaDriver, producer: Producer, served: Served, topic_name: str, unique_name: Callable[[str], str]
) -> None:
    """All of them at once: concurrently, in order, all messages to each, by SQL, polled, popped."""
    producer.create_topic(topic_name, 2)
    kinds = {kind: unique_name(kind) for kind in ("concurrent", "orderly", "broadcast", "sql", "polled", "popped")}
    for name in ("broker-a", "broker-b"):
        raw = RawClient(served.address(name))
        assert set_mode(raw, MessageRequestMode.POP, topic=topic_name, group=kinds["popped"]) == "SUCCESS"
        raw.close()
    consumers = {
        "concurrent": java.consume(kinds["concurrent"], topic_name),
        "orderly": java.consume(kinds["orderly"], topic_name, orderly=True),
        "broadcast": java.consume(kinds["broadcast"], topic_name, broadcasting=True),
        "broadcast too": java.consume(kinds["broadcast"], topic_name, broadcasting=True),
        "sql": java.consume(kinds["sql"], topic_name, sql="number BETWEEN 10 AND 19"),
        "polled": java.poll(kinds["polled"], topic_name),
        "popped": java.consume(kinds["popped"], topic_name, pop=True),
    }
    bodies = [b"%03d" % number for number in range(60)]
    try:
        for number, body in enumerate(bodies):
            java.send(topic_name, body, hash_key=str(number % 3), properties={"number": str(number)})
        for kind, consumer in consumers.items():
            expected = bodies[10:20] if kind == "sql" else bodies
            wait_for(lambda consumer=consumer, expected=expected: set(expected) <= set(consumer.bodies), PATIENCE, kind)
            assert Counter(consumer.bodies) == Counter(expected), kind
        for key in range(3):
            of_key = [body for body in consumers["orderly"].bodies if int(body) % 3 == key]
            assert of_key == sorted(of_key)
        assert any("POP_CK" in message.properties for message in consumers["popped"].messages)
    finally:
        for consumer in consumers.values():
            consumer.stop()


def test_transactions(java: JavaDriver, producer: Producer, namesrv: str, topic_name: str, group_name: str) -> None:
    producer.create_topic(topic_name, 2)
    java_ends_transactions(java, namesrv, group_name, topic_name)


def test_java_asks_and_java_replies(java: JavaDriver, producer: Producer, topic_name: str, group_name: str) -> None:
    """Small ones and packed ones."""
    producer.create_topic(topic_name, 2)
    with java.consume(group_name, topic_name, reply=b"Java says "):
        for body in (b"0123456789", b"0123456789" * 5_000):
            assert java.request(topic_name, body).body == b"Java says " + body
            assert producer.request(Message(topic_name, body), PATIENCE).body == b"Java says " + body


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_mqadmin(
    namesrv: str, producer: Producer, broker_version: str, tmp_path: Path, topic_name: str, group_name: str, served: Served
) -> None:
    """What a developer asks it daily."""
    sent = [producer.send(Message(topic_name, b"body %d" % number, keys=f"key-{number}")) for number in range(20)]
    inbox = Inbox()

    def consumer() -> PushConsumer:
        made = PushConsumer(group_name, namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, instance_name="admin")
        made.subscribe(topic_name)
        made.register_listener(inbox)
        return made

    with consumer():  # stores its offsets when it ends
        inbox.wait(20)
    with consumer() as member:
        wait_for(lambda: len(member.queues()) >= 8, PATIENCE)
        found = mqadmin(
            broker_version,
            namesrv,
            tmp_path / "mqadmin",
            ("clusterList",),
            ("topicList",),
            ("topicRoute", "-t", topic_name),
            ("topicStatus", "-t", topic_name),
            ("updateTopic", "-c", "DefaultCluster", "-t", topic_name + "_new", "-r", "3", "-w", "3"),
            ("consumerProgress", "-g", group_name),
            ("consumerConnection", "-g", group_name),
            ("consumerStatus", "-g", group_name),
            ("queryMsgByKey", "-t", topic_name, "-k", "key-7"),
            ("queryMsgById", "-t", topic_name, "-i", sent[7].offset_msg_id),
            ("printMsg", "-t", topic_name),
            ("resetOffsetByTime", "-g", group_name, "-t", topic_name, "-s", "0"),
            ("updateSubGroup", "-c", "DefaultCluster", "-g", group_name + "_new"),
            ("deleteTopic", "-c", "DefaultCluster", "-t", topic_name + "_new"),
        )
        assert len(found) == 14, found
        for queue in producer.fetch_publish_queues(topic_name):  # ends the pull that waits there; the next one is told
            producer.send(Message(topic_name, b"after"), queue=queue)
        bodies = [b"body %d" % number for number in range(20)]
        wait_for(lambda: all(inbox.bodies.count(body) == 2 for body in bodies), PATIENCE, "the group was moved back")
    clusters, topics, route, status, created, progress, connection, running, by_key, by_id, printed, reset, group, deleted = (
        found
    )
    listed = {row[1]: row[3] for row in rows(clusters) if row[0] == "DefaultCluster"}
    assert listed == {name: served.address(name) for name in ("broker-a", "broker-b")}
    assert {topic_name, "TBW102"} <= set(topics.split())
    assert all(served.address(name) in route for name in ("broker-a", "broker-b"))
    assert sum(int(row[3]) for row in rows(status) if row[0].startswith("broker-")) == 20, status
    assert "create topic to" in created, created
    assert "readQueueNums=3" in created
    of_topic = [row for row in rows(progress) if row and row[0] == topic_name]
    assert len(of_topic) == 8, progress
    assert "Consume Diff Total: 0" in progress
    assert member.client_id in connection, connection
    assert topic_name in connection
    assert member.client_id in running, running
    assert sent[7].msg_id in by_key, by_key
    assert "key-7" in by_id, by_id
    assert printed.count("BODY: body ") == 20, printed
    assert len(rows(reset)) >= 8, reset
    assert "create subscription group to" in group, group
    assert "success" in deleted, deleted
