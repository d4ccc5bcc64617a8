"""The official ``mqadmin`` on our consumers, as on Java's."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import gevent

from grocketmq import ConsumeStatus, Message, MessageExt, MessageQueue
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, consuming, numbered, producing, send_bodies, stored_offset
from .conftest import Pair


def test_consumer_status(pair: Pair, topic_name: str, group_name: str) -> None:
    """A member of ours beside one of Java's: what both tell fits together, and ours tells what it does at this moment."""
    cluster = pair.cluster
    cluster.create_topic(topic_name, queues=2)
    inbox = Inbox()
    with (
        producing(cluster) as producer,
        pair.java.consume(group_name, topic_name) as java,
        consuming(cluster, group_name, topic_name, inbox) as consumer,
    ):
        wait_for(lambda: len([queue for queue in consumer.queues() if queue.topic == topic_name]) == 2, ARRIVAL)
        wait_for(lambda: len([queue for queue in java.assigned() if queue[0] == topic_name]) == 2, ARRIVAL)
        send_bodies(producer, topic_name, numbered("m", 40))
        wait_for(lambda: len(inbox.bodies) + len(java.bodies) == 40, ARRIVAL, "every message")
        together = cluster.mqadmin("consumerStatus", "-g", group_name)
        assert "Same subscription in the same group of consumer" in together
        assert "Rebalance OK" in together
        assert consumer.client_id in together
        alone = cluster.mqadmin("consumerStatus", "-g", group_name, "-i", str(consumer.client_id), "-s")
    for line in (
        r"PROP_CONSUME_TYPE\s*:\s*CONSUME_PASSIVELY",
        r"PROP_CONSUMEORDERLY\s*:\s*false",
        rf"Topic: {topic_name}\s+ClassFilter: false\s+SubExpression: \*",
        rf"{topic_name}\s+broker-[ab]\s+[01]\s+10\s",  # ten of each queue's messages are done
        rf"{topic_name}\s+[\d.]+\s+[\d.]+\s+[\d.]+\s+[\d.]+\s+0.00\s+0\b",
    ):
        assert re.search(line, alone), f"{line} is not in\n{alone}"
    assert "pull service" in alone, "the greenlets stand where Java has threads"


def test_offsets_are_reset(pair: Pair, topic_name: str, group_name: str) -> None:
    """Back to a time: what was sent since comes again, and nothing else.  Brokers of release 4 ask the consumer to do it."""
    cluster = pair.cluster
    cluster.create_topic(topic_name, queues=2)
    older, newer = numbered("older", 16), numbered("newer", 16)
    asked: list[Mapping[MessageQueue, int]] = []
    inbox = Inbox()
    with producing(cluster) as producer, consuming(cluster, group_name, topic_name, inbox) as consumer:
        do_reset = consumer.reset_offsets

        def reset(offsets: Mapping[MessageQueue, int]) -> None:
            asked.append(offsets)
            do_reset(offsets)

        consumer.reset_offsets = reset  # type: ignore[method-assign]
        send_bodies(producer, topic_name, older)
        inbox.wait_for_bodies(older)
        gevent.sleep(1.0)
        moment = str(round(time.time() * 1000))  # brokers of release 4 take the message that is nearest
        send_bodies(producer, topic_name, newer)
        inbox.wait_for_bodies(newer)
        consumer.persist_offsets()
        cluster.mqadmin("resetOffsetByTime", "-g", group_name, "-t", topic_name, "-s", moment)
        send_bodies(producer, topic_name, numbered("wake", 16))  # ends the pulls that brokers hold
        wait_for(lambda: all(count == 2 for count in counts(inbox, newer)), ARRIVAL, "the newer ones come again")
        inbox.wait_for_bodies(numbered("wake", 16))
        assert counts(inbox, older) == [1] * 16

        def stored() -> bool:
            consumer.persist_offsets()
            return [stored_offset(producer, group_name, queue) for queue in producer.fetch_publish_queues(topic_name)] == [
                12
            ] * 4

        wait_for(stored, ARRIVAL, "all is done")
    if cluster.version.startswith("4."):
        assert asked, "the broker told the consumer, by request 220"
        assert {offset for offsets in asked for offset in offsets.values()} == {4}


def counts(inbox: Inbox, bodies: list[bytes]) -> list[int]:
    came = Counter(inbox.bodies)
    return [came[body] for body in bodies]


def test_a_message_is_consumed_directly(pair: Pair, topic_name: str, group_name: str) -> None:
    """The listener gets one message more, and the operator what it says; no offset moves."""
    cluster = pair.cluster
    cluster.create_topic(topic_name, queues=1)
    answers: list[Any] = [None, None, ConsumeStatus.RECONSUME_LATER, RuntimeError("the listener does not like it")]
    got: list[bytes] = []

    def listener(msgs: list[MessageExt]) -> Any:
        answer = answers[len(got)]
        got.append(msgs[0].body)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with producing(cluster) as producer, consuming(cluster, group_name, topic_name, listener) as consumer:
        sent = producer.send(Message(topic_name, b"consume me", tags="a"))
        wait_for(lambda: consumer.stats().consumed == 1, ARRIVAL, "it was consumed as usual")
        member = ("-g", group_name, "-d", str(consumer.client_id))
        topic = ("-t", topic_name)
        by_place = ("queryMsgById", *member, "-i", str(sent.offset_msg_id))
        by_unique_id = ("queryMsgByUniqueKey", *topic, *member, "-i", sent.msg_id)
        assert "CR_SUCCESS" in cluster.mqadmin(*by_place, *(() if cluster.version.startswith("4.") else topic))
        assert "CR_LATER" in cluster.mqadmin(*by_unique_id)
        told = cluster.mqadmin(*by_unique_id)
        assert "CR_THROW_EXCEPTION" in told
        assert "the listener does not like it" in told
        assert consumer.stats().listener_calls == 1
    assert got == [b"consume me"] * 4
