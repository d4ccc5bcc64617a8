"""Namespaces, shared with the Java client."""

from __future__ import annotations

from typing import Any

import pytest

from grocketmq import LocalTransactionState, Message, MessageExt, TransactionProducer, create_reply
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, consuming, producing
from .cluster import RealCluster
from .conftest import Pair

BODIES = [b"one", b"two", b"three"]


@pytest.mark.parametrize("option", ["namespace", "namespace_v2"])
def test_both_ways_with_java(pair: Pair, topic_name: str, unique_name: Any, option: str) -> None:
    if option == "namespace_v2" and pair.cluster.version.startswith("4."):
        pytest.skip("releases before 5 have none")
    whose = {option: unique_name("INST")}
    inbox = Inbox(fail_times=1)
    with producing(pair.cluster, **whose) as producer:
        producer.create_topic(topic_name, queues=2)
        for body in BODIES:
            assert producer.send(Message(topic_name, body, keys=["k"])).message_queue.topic == topic_name
        pair.java.send(topic_name, BODIES, **whose)
        with (
            consuming(pair.cluster, unique_name("group"), topic_name, inbox, delay_level_when_next_consume=1, **whose),
            pair.java.consume(unique_name("group"), topic_name, **whose) as consumer,
        ):
            theirs = consumer.wait(6)
            ours = inbox.wait(12)  # each failed once, and came again by the retry topic of the namespace
    assert sorted(message.body for message in theirs) == sorted(BODIES * 2)
    assert sorted(message.body for message in ours if message.reconsume_times == 1) == sorted(BODIES * 2)
    assert {message.topic for message in ours} == {topic_name}
    assert {message.topic for message in theirs} == {topic_name}
    if option == "namespace":
        assert {message.properties["INSTANCE_ID"] for message in (*ours, *theirs)} == set(whose.values())


@pytest.mark.slow  # messages that fail come again after 10 s
def test_popped(pair: Pair, topic_name: str, group_name: str, unique_name: Any) -> None:
    if pair.cluster.version.startswith("4."):
        pytest.skip("releases before 5 do not pop")
    namespace = unique_name("INST")
    inbox = Inbox(fail_times=1)
    with producing(pair.cluster, namespace=namespace) as producer:
        producer.create_topic(topic_name, queues=2)
        with consuming(pair.cluster, group_name, topic_name, inbox, namespace=namespace, pop=True):
            for body in BODIES:
                producer.send(Message(topic_name, body))
            inbox.wait(6)
    assert sorted(message.body for message in inbox.messages if message.reconsume_times == 1) == sorted(BODIES)
    assert {message.topic for message in inbox.messages} == {topic_name}


def test_transactions(small_cluster: RealCluster, topic_name: str, unique_name: Any) -> None:
    """Ended by the sender, and by the answer to the broker's question."""
    namespace, asked, inbox = unique_name("INST"), [], Inbox()
    small_cluster.create_topic(f"{namespace}%{topic_name}", queues=1)

    def check(msg: MessageExt) -> LocalTransactionState:
        asked.append((msg.topic, msg.body))
        return LocalTransactionState.COMMIT

    options: dict[str, Any] = {"namespace": namespace, "send_timeout": 20.0}
    with TransactionProducer(
        unique_name("tx"),
        namesrv=small_cluster.namesrv,
        execute=lambda msg, arg: LocalTransactionState[str(arg)],
        check=check,
        **options,
    ) as producer:
        wait_for(lambda: producer._instance.heartbeats.versions, ARRIVAL, "the broker knows the producer")
        with consuming(small_cluster, unique_name("group"), topic_name, inbox, namespace=namespace):
            for state in ("ROLLBACK", "UNKNOWN", "COMMIT"):
                producer.send_in_transaction(Message(topic_name, state), state)
            inbox.wait(2)
    assert [(message.topic, message.body) for message in inbox.messages] == [(topic_name, b"COMMIT"), (topic_name, b"UNKNOWN")]
    assert asked == [(topic_name, b"UNKNOWN")]


def test_requests_and_replies_with_java(pair: Pair, topic_name: str, unique_name: Any) -> None:
    namespace = unique_name("INST")
    theirs = unique_name("theirs")
    with producing(pair.cluster, namespace=namespace) as producer:
        for topic in (topic_name, theirs):
            producer.create_topic(topic, queues=1)

        def reply(msgs: list[MessageExt]) -> None:
            for msg in msgs:
                producer.send(create_reply(msg, msg.body * 2))

        with consuming(pair.cluster, unique_name("group"), topic_name, reply, namespace=namespace):
            assert producer.request(Message(topic_name, b"ab"), ARRIVAL).body == b"abab"
            assert pair.java.request(topic_name, b"cd", namespace=namespace).body == b"cdcd"
        with pair.java.consume(unique_name("group"), theirs, reply=b"Java says ", namespace=namespace):
            assert producer.request(Message(theirs, b"ef"), ARRIVAL).body == b"Java says ef"
