"""Finding messages that real brokers store, and messages whose texts are odd."""

from __future__ import annotations

import pytest

from grocketmq import Message, MessageExt
from grocketmq.errors import QueryNotFoundError
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, consuming, producing
from .conftest import Pair


def test_by_place_by_unique_id_and_by_key(pair: Pair, topic_name: str) -> None:
    cluster = pair.cluster
    cluster.create_topic(topic_name)
    with producing(cluster) as producer:
        results = [producer.send(Message(topic_name, b"%d" % number, keys=["all", f"own-{number}"])) for number in range(8)]
        assert len({result.message_queue.broker_name for result in results}) == 2
        for number, result in enumerate(results):
            assert producer.view_message(result.offset_msg_id).body == b"%d" % number
            assert producer.view_message(result.offset_msg_id, topic_name).body == b"%d" % number

        def found(key: str) -> list[MessageExt]:
            return producer.query_message(topic_name, key)

        wait_for(lambda: len(found("all")) == 8, ARRIVAL, "the index holds all")
        assert {message.msg_id for message in found("all")} == {result.msg_id for result in results}
        assert [message.body for message in found("own-3")] == [b"3"]
        assert producer.view_message(results[5].msg_id, topic_name).body == b"5"
        assert found("none") == []
        with pytest.raises(QueryNotFoundError):
            producer.view_message("0" * 32, topic_name)
        by_java = cluster.mqadmin("queryMsgByKey", "-t", topic_name, "-k", "own-6")
        assert results[6].msg_id in by_java


def test_odd_texts_come_back_and_add_no_property(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name, queues=1)
    value = 'one\ttwo\r\nthree \u0085 \u2028 主题 \U0001f600 \\ " %s {}'
    inbox = Inbox()
    with producing(pair.cluster) as producer:
        sent = Message(topic_name, b"x", properties={"own": value}, tags="主题 a", keys=["\U0001f600", "é%s"])
        producer.send(sent)
    with consuming(pair.cluster, group_name, topic_name, inbox):
        (message,) = inbox.wait(1)
    assert (message.properties["own"], message.tags, message.keys) == (value, "主题 a", "\U0001f600 é%s")
    added = message.properties.keys() - sent.properties.keys()
    assert added <= {"MSG_REGION", "TRACE_ON", "CLUSTER", "MIN_OFFSET", "MAX_OFFSET", "__CRC32#", "INSTANCE_ID"}, added
