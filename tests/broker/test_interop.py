"""grocketmq and the official Java client understand each other, on both releases."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from grocketmq import Message, MessageExt, Producer, select_queue_by_java_hash
from grocketmq.errors import RouteNotFoundError
from grocketmq.model.properties import RESERVED_NAMES
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, consuming, numbered, producing, send_bodies
from .cluster import RealCluster
from .conftest import Pair
from .java_driver import JavaDriver, JavaMessage

TEXT = "价格 \N{GRINNING FACE} ünï¢ødé"
ODD_TEXT = "a=b;c&d\t<>\"'\\ 縦"
NOISE = random.Random(497).randbytes(6000)

#: What a message may hold beside its topic.
CONTENTS: dict[str, dict[str, Any]] = {
    "body only": {"body": b"plain"},
    "one byte": {"body": b"\x00"},
    "every byte": {"body": bytes(range(256))},
    "tag": {"body": b"tagged", "tags": "TagA"},
    "keys": {"body": b"keyed", "keys": ["k1", "订单-2", "\N{GRINNING FACE}"]},
    "text": {"body": TEXT.encode(), "tags": "标签", "keys": ["键"], "properties": {"名": TEXT, "odd": ODD_TEXT}},
    "many properties": {"body": b"p", "properties": {f"name-{number}": f"value {number}" for number in range(200)}},
    "compressed": {"body": b"again and again " * 1000, "tags": "TagA"},
    "not compressible": {"body": NOISE},
}


def own_properties(properties: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in properties.items() if name not in RESERVED_NAMES}


def java_view(message: MessageExt) -> JavaMessage:
    """One of our messages with the fields and names of Java's."""
    return JavaMessage(
        topic=message.topic,
        msg_id=message.msg_id,
        offset_msg_id=message.offset_msg_id,
        body=message.body,
        tags=message.tags,
        keys=message.keys,
        properties=message.properties,
        broker_name=message.broker_name,
        queue_id=message.queue_id,
        queue_offset=message.queue_offset,
        reconsume_times=message.reconsume_times,
        sys_flag=message.sys_flag,
        born_timestamp=message.born_timestamp,
        store_timestamp=message.store_timestamp,
    )


def comparable(message: JavaMessage) -> dict[str, Any]:
    """All that two consumers must see alike of a message; the end of its queue may have moved meanwhile.

    Only releases from 5 on clear the bit for "compressed" when they have decompressed.
    """
    unequal = {"MIN_OFFSET", "MAX_OFFSET", "CONSUME_START_TIME"}
    fields = {**vars(message), "sys_flag": message.sys_flag & ~1}
    fields["properties"] = {name: value for name, value in message.properties.items() if name not in unequal}
    return fields


# -- messages both ways


def test_java_consumes_what_we_send(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    with producing(pair.cluster) as producer:
        results = {name: producer.send(Message(topic_name, **content)) for name, content in CONTENTS.items()}
    with pair.java.consume(group_name, topic_name) as consumer:
        got = {message.msg_id: message for message in consumer.wait(len(CONTENTS))}
    for name, content in CONTENTS.items():
        result = results[name]
        message = got[result.msg_id]
        assert message.body == content["body"], name
        assert (message.tags, (message.keys or "").split()) == (content.get("tags"), content.get("keys", [])), name
        assert own_properties(message.properties) == content.get("properties", {}), name
        assert message.offset_msg_id == result.offset_msg_id
        queue = result.message_queue
        assert (message.broker_name, message.queue_id) == (queue.broker_name, queue.queue_id)
        assert (message.queue_offset, message.reconsume_times) == (result.queue_offset, 0)
        assert 0 <= message.store_timestamp - message.born_timestamp < 20_000


def test_we_consume_what_java_sends(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    results = {}
    for name, content in CONTENTS.items():
        rest = {key: value for key, value in content.items() if key != "body"}
        (results[name],) = pair.java.send(topic_name, content["body"], **rest)
    inbox = Inbox()
    with consuming(pair.cluster, group_name, topic_name, inbox):
        got = {message.msg_id: message for message in inbox.wait(len(CONTENTS))}
    for name, content in CONTENTS.items():
        result = results[name]
        message = got[result.msg_id]
        assert message.body == content["body"], name
        assert (message.tags, (message.keys or "").split()) == (content.get("tags"), content.get("keys", [])), name
        assert own_properties(message.properties) == content.get("properties", {}), name
        assert (message.topic, message.offset_msg_id) == (topic_name, result.offset_msg_id)
        assert (message.broker_name, message.queue_id) == (result.broker_name, result.queue_id)
        assert (message.queue_offset, message.reconsume_times) == (result.queue_offset, 0)


def test_both_see_one_message_alike(pair: Pair, topic_name: str, unique_name: Callable[[str], str]) -> None:
    pair.cluster.create_topic(topic_name)
    pair.java.send(topic_name, [b"from java", b"z" * 9000], tags="t", keys=["k"], properties={"名": TEXT})
    inbox = Inbox()
    with (
        producing(pair.cluster) as producer,
        pair.java.consume(unique_name("group"), topic_name) as consumer,
        consuming(pair.cluster, unique_name("group"), topic_name, inbox),
    ):
        producer.send(Message(topic_name, b"from us", tags="t", keys=["k"], properties={"名": TEXT}))
        producer.send(Message(topic_name, b"z" * 9000, flag=7))
        seen = {message.msg_id: comparable(message) for message in consumer.wait(4)}
        assert {message.msg_id: comparable(java_view(message)) for message in inbox.wait(4)} == seen


@pytest.mark.parametrize("kind", ["LZ4", "ZSTD", "ZLIB"])
def test_each_compression(real_cluster: RealCluster, java: JavaDriver, topic_name: str, unique_name: Any, kind: Any) -> None:
    if kind != "ZLIB":
        pytest.importorskip({"LZ4": "lz4", "ZSTD": "backports.zstd"}[kind])
    real_cluster.create_topic(topic_name)
    bodies = [b"again and again " * 500, NOISE]
    inbox = Inbox()
    with producing(real_cluster, compression=kind.lower()) as producer:
        send_bodies(producer, topic_name, bodies)
    java.send(topic_name, bodies, compress_type=kind)
    with (
        consuming(real_cluster, unique_name("group"), topic_name, inbox),
        java.consume(unique_name("group"), topic_name) as consumer,
    ):
        assert sorted(message.body for message in consumer.wait(4)) == sorted(bodies * 2)
        assert sorted(message.body for message in inbox.wait(4)) == sorted(bodies * 2)
        flags = {message.msg_id: message.sys_flag for message in consumer.messages}
        assert {message.msg_id: message.sys_flag for message in inbox.messages} == flags


def test_java_consumes_our_batch(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    batch = [
        Message(topic_name, f"{number} {TEXT}".encode(), tags=f"tag-{number % 2}", keys=[str(number)], properties={"n": TEXT})
        for number in range(10)
    ]
    with producing(pair.cluster) as producer:
        result = producer.send_batch(batch)
    with pair.java.consume(group_name, topic_name, "tag-0") as consumer:
        got = sorted(consumer.wait(5), key=lambda message: message.queue_offset)
    assert [message.body for message in got] == [message.body for message in batch[::2]]
    assert [message.msg_id for message in got] == result.msg_id.split(",")[::2]
    assert [message.offset_msg_id for message in got] == result.offset_msg_id.split(",")[::2]
    assert [message.queue_offset for message in got] == [result.queue_offset + number for number in range(0, 10, 2)]
    assert [message.keys for message in got] == [message.keys for message in batch[::2]]
    assert {message.properties["n"] for message in got} == {TEXT}


def test_we_consume_javas_batch(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    bodies = [f"{number} {TEXT}".encode() for number in range(10)]
    (result,) = pair.java.send(topic_name, bodies, batch=True, tags="t", keys=["k"], properties={"n": TEXT})
    inbox = Inbox()
    with consuming(pair.cluster, group_name, topic_name, inbox, expression="t"):
        got = sorted(inbox.wait(10), key=lambda message: message.queue_offset)
    assert [message.body for message in got] == bodies
    assert [message.msg_id for message in got] == result.msg_id.split(",")
    assert [message.offset_msg_id for message in got] == result.offset_msg_id.split(",")
    assert {(message.tags, message.keys, message.properties["n"]) for message in got} == {("t", "k", TEXT)}


def test_delay_levels(pair: Pair, topic_name: str, unique_name: Callable[[str], str]) -> None:
    pair.cluster.create_topic(topic_name)
    inbox = Inbox()
    with (
        producing(pair.cluster) as producer,
        pair.java.consume(unique_name("group"), topic_name) as consumer,
        consuming(pair.cluster, unique_name("group"), topic_name, inbox),
    ):
        producer.send(Message(topic_name, b"ours", delay_level=1, tags="t"))
        pair.java.send(topic_name, b"java's", delay_level=1, tags="t")
        seen = {message.msg_id: comparable(message) for message in consumer.wait(2)}
        assert {message.msg_id: comparable(java_view(message)) for message in inbox.wait(2)} == seen
        assert all(message.store_timestamp - message.born_timestamp >= 900 for message in consumer.messages)


def test_sharding_keys(pair: Pair, topic_name: str, unique_name: Callable[[str], str]) -> None:
    pair.cluster.create_topic(topic_name)
    inbox = Inbox()
    with producing(pair.cluster) as producer:
        results = [producer.send_orderly(Message(topic_name, str(number).encode()), TEXT) for number in range(10)]
    assert len({result.message_queue for result in results}) == 1
    with pair.java.consume(unique_name("group"), topic_name, orderly=True) as consumer:
        got = consumer.wait(10)
        assert [(message.body, message.properties["__SHARDINGKEY"]) for message in got] == [
            (str(number).encode(), TEXT) for number in range(10)
        ]
    pair.java.send(topic_name, b"java's", properties={"__SHARDINGKEY": TEXT}, tags="java")
    with consuming(pair.cluster, unique_name("group"), topic_name, inbox, expression="java"):
        assert inbox.wait(1)[0].sharding_key == TEXT


def test_the_java_hash_selector_takes_javas_queue(pair: Pair, topic_name: str) -> None:
    pair.cluster.create_topic(topic_name, queues=5)
    smallest_hash = "polygenelubricants"  # Integer.MIN_VALUE, which has no absolute value
    with producing(pair.cluster) as producer:
        for key in ("order-1", "order-2", "订单", TEXT, "", "x" * 300, smallest_hash):
            (theirs,) = pair.java.send(topic_name, b"x", hash_key=key)
            ours = producer.send(Message(topic_name, b"x"), selector=select_queue_by_java_hash, arg=key).message_queue
            assert (ours.broker_name, ours.queue_id) == (theirs.broker_name, theirs.queue_id), key


# -- retries and dead letters


def test_retries_and_dead_letters_as_javas(pair: Pair, topic_name: str, unique_name: Callable[[str], str]) -> None:
    """One message, failed by a group of ours and by one of Java's, leaves the same traces."""
    cluster, java = pair.cluster, pair.java
    cluster.create_topic(topic_name)
    our_group, java_group = unique_name("group"), unique_name("group")
    for group in (our_group, java_group):  # else a client may hear of half of it 30 s later
        cluster.create_topic(f"%RETRY%{group}", queues=1)
    inbox = Inbox(fail_times=9)
    with (
        producing(cluster) as producer,
        consuming(cluster, our_group, topic_name, inbox, max_reconsume_times=1),
        java.consume(java_group, topic_name, fail_times=9, max_reconsume_times=1) as consumer,
    ):
        sent = producer.send(Message(topic_name, b"poison", tags="t", keys=["k"], properties={"名": TEXT}))
        theirs, ours = consumer.wait(2), inbox.wait(2)
        assert [message.reconsume_times for message in ours] == [0, 1]
        retried = java_view(ours[1])
        assert (retried.topic, retried.msg_id, retried.body) == (topic_name, sent.msg_id, b"poison")
        assert retried.properties["RETRY_TOPIC"] == topic_name
        assert properties_of(retried, our_group) == properties_of(theirs[1], java_group)
        dead = {group: dead_letter(cluster, producer, group, unique_name("undertaker")) for group in (our_group, java_group)}
    assert len(inbox.messages) == len(consumer.messages) == 2
    assert dead[our_group].body == b"poison"
    assert dead[our_group].reconsume_times == dead[java_group].reconsume_times
    assert dead[our_group].msg_id == dead[java_group].msg_id == sent.msg_id
    assert (
        dead[our_group].properties["ORIGIN_MESSAGE_ID"] == sent.msg_id
        or dead[our_group].properties["ORIGIN_MESSAGE_ID"] == sent.offset_msg_id
    )
    assert properties_of(dead[our_group], our_group) == properties_of(dead[java_group], java_group)


def properties_of(message: JavaMessage, group: str) -> dict[str, str]:
    """What the message carries, the name of the group aside."""
    return {name: value.replace(group, "GROUP") for name, value in comparable(message)["properties"].items()}


def dead_letter(cluster: RealCluster, client: Producer, group: str, undertaker: str) -> JavaMessage:
    """The one message among a group's dead letters."""
    topic = f"%DLQ%{group}"

    def created() -> bool:
        try:
            client.topic_route(topic)
        except RouteNotFoundError:
            return False
        return True

    wait_for(created, ARRIVAL, f"a broker has made {topic}")
    cluster.create_topic(topic, queues=1)  # releases before 5 make it write-only
    inbox = Inbox()
    with consuming(cluster, undertaker, topic, inbox):
        (message,) = inbox.wait(1)
    return java_view(message)


# -- offsets


def test_each_goes_on_where_the_other_stopped(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    rounds = [numbered(f"round {number}", 40) for number in range(4)]
    with producing(pair.cluster) as producer:
        for number, bodies in enumerate(rounds):
            send_bodies(producer, topic_name, bodies)
            if number % 2:
                inbox = Inbox()
                with consuming(pair.cluster, group_name, topic_name, inbox):
                    inbox.wait(40)
                got = inbox.bodies
            else:
                with pair.java.consume(group_name, topic_name) as consumer:
                    consumer.wait(40)
                got = consumer.bodies
            # Every queue has messages of every round, so one that began too early would have given older ones first.
            assert sorted(got) == sorted(bodies), f"round {number}"


# -- what administrators see


def rows(output: str) -> list[list[str]]:
    """The words of each line of an ``mqadmin`` table; lines of its own log have a bar before the level."""
    return [line.split() for line in output.splitlines() if line.strip() and "|-" not in line]


def test_mqadmin_sees_our_consumers_as_javas(pair: Pair, topic_name: str, unique_name: Callable[[str], str]) -> None:
    cluster = pair.cluster
    cluster.create_topic(topic_name, queues=2)
    our_group, java_group = unique_name("group"), unique_name("group")
    inbox = Inbox()
    with producing(cluster) as producer:
        for number in range(12):
            producer.send(Message(topic_name, str(number).encode(), tags="a"))
    with (
        pair.java.consume(java_group, topic_name, "a||b") as consumer,
        consuming(cluster, our_group, topic_name, inbox, expression="a||b") as ours,
    ):
        inbox.wait(12)
        consumer.wait(12)
        connections = {group: cluster.mqadmin("consumerConnection", "-g", group) for group in (our_group, java_group)}
        assert str(ours.client_id) in connections[our_group]
        described = [
            sorted(line.split() for line in text.replace(java_group, our_group).partition("subscription:")[2].splitlines())
            for text in connections.values()
        ]
        assert [topic_name, "a||b"] in described[0]
        assert described[0] == described[1]
    ours_stored, javas_stored = (progress_of(cluster, group, topic_name) for group in (our_group, java_group))
    assert ours_stored == javas_stored
    assert sum(int(row[4]) for row in ours_stored) == 12


def progress_of(cluster: RealCluster, group: str, topic: str) -> list[list[str]]:
    """A group's progress: topic, broker, queue, broker's offset and consumer's offset of each queue."""
    table = rows(cluster.mqadmin("consumerProgress", "-g", group))
    return sorted(row[:5] for row in table if row[0] == topic)


def test_mqadmin_sees_our_producers(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    with producing(pair.cluster, group_name) as producer:
        producer.send(Message(topic_name, b"x"))
        table: list[list[str]] = []

        def known() -> bool:
            table[:] = rows(pair.cluster.mqadmin("producerConnection", "-g", group_name, "-t", topic_name))
            return any(producer.client_id in row for row in table)

        wait_for(known, ARRIVAL, "the heartbeat has come")


def test_mqadmin_finds_our_messages(pair: Pair, topic_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    with producing(pair.cluster) as producer:
        result = producer.send(Message(topic_name, b"find me", keys=["key-1", "订单-2"], tags="TagA"))
    pair.java.send(topic_name, b"java's", keys=["key-1"])
    found: list[list[str]] = []

    def by_key() -> bool:
        found[:] = rows(pair.cluster.mqadmin("queryMsgByKey", "-t", topic_name, "-k", "key-1"))
        return len(found) >= 3  # a title and two messages

    wait_for(by_key, ARRIVAL, "the broker's index has the key")
    queue = result.message_queue
    assert [result.msg_id, str(queue.queue_id), str(result.queue_offset)] in [row[:3] for row in found]
    shown = pair.cluster.mqadmin("queryMsgByUniqueKey", "-t", topic_name, "-i", result.msg_id)
    assert result.msg_id in shown
    assert "TagA" in shown
    assert "key-1" in shown
