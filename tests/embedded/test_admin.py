"""What tools ask the embedded brokers and name server."""

from __future__ import annotations

from typing import Any

import pytest

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import subscription
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import ConsumeType, OffsetWrapper
from grocketmq.wire.command import RemotingCommand
from tests.embedded.raw import GROUP, TOPIC, RawClient, names
from tests.embedded.test_journal import update
from tests.helpers import wait_for

QUEUE = MessageQueue(TOPIC, "broker-a", 0)


def reset(raw: RawClient, **change: Any) -> tuple[str, dict[MessageQueue, int]]:
    header = headers.ResetOffsetRequestHeader(**{"topic": TOPIC, "group": GROUP, "timestamp": 0, "is_force": True, **change})
    answer = raw.call(header, code=RequestCode.INVOKE_BROKER_TO_RESET_OFFSET)
    return names(answer), bodies.RESET_OFFSET.decode(answer.body) if answer.body else {}


def test_how_topics_and_groups_stand(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC, queues=2)
    cluster.create_topic("other")
    for _ in range(5):
        raw.send()
    raw.send(topic="other")
    raw.heartbeat("client", subscription(TOPIC, "a || b", 5))
    update(raw, 3)
    topic = bodies.TOPIC_STATS.decode(raw.call(headers.GetTopicStatsInfoRequestHeader(topic=TOPIC)).body).offset_table
    assert [(queue.queue_id, one.min_offset, one.max_offset) for queue, one in sorted(topic.items())] == [(0, 0, 5), (1, 0, 0)]
    assert topic[QUEUE].last_update_timestamp >= raw.messages()[-1].store_timestamp > 0
    stats = bodies.CONSUME_STATS.decode(raw.call(headers.GetConsumeStatsRequestHeader(consumer_group=GROUP)).body).offset_table
    assert stats[QUEUE] == OffsetWrapper(5, 3, 3, raw.messages()[2].store_timestamp)
    assert len(stats) == 2
    listed = headers.GetConsumeStatsRequestHeader(consumer_group=GROUP, topic_list="other;unknown;")
    assert len(bodies.CONSUME_STATS.decode(raw.call(listed).body).offset_table) == 4
    who = raw.call(headers.QueryTopicConsumeByWhoRequestHeader(topic=TOPIC))
    assert bodies.GROUP_LIST.decode(who.body) == (GROUP,)
    mine = raw.call(headers.QuerySubscriptionByConsumerRequestHeader(group=GROUP, topic=TOPIC))
    assert bodies.GROUP_SUBSCRIPTION.decode(mine.body).tags == ("a", "b")
    unknown = raw.call(headers.GetTopicStatsInfoRequestHeader(topic="unknown"))
    assert names(unknown) == "TOPIC_NOT_EXIST"


def test_who_is_connected(raw: RawClient) -> None:
    consumers = headers.GetConsumerConnectionListRequestHeader(consumer_group=GROUP)
    producers = headers.GetProducerConnectionListRequestHeader(producer_group="producers")
    assert names(raw.call(consumers)) == "CONSUMER_NOT_ONLINE"
    assert names(raw.call(producers)) == "SYSTEM_ERROR"
    raw.heartbeat("client", subscription(TOPIC, "*", 5))
    found = bodies.CONSUMER_CONNECTION.decode(raw.call(consumers).body)
    assert [(one.client_id, one.language) for one in found.connection_set] == [("client", "PYTHON")]
    assert found.connection_set[0].version > 0
    assert found.consume_type is ConsumeType.PASSIVELY
    assert found.subscription_table[TOPIC].sub_version == 5
    assert [one.client_id for one in bodies.PRODUCER_CONNECTION.decode(raw.call(producers).body)] == ["client"]


def test_a_group_is_moved(raw: RawClient) -> None:
    assert reset(raw)[0] == "TOPIC_NOT_EXIST"
    for _ in range(5):
        raw.send()
    assert reset(raw)[0] == "SUBSCRIPTION_GROUP_NOT_EXIST"
    raw.heartbeat()
    update(raw, 5)
    assert reset(raw) == ("SUCCESS", {QUEUE: 0, **{MessageQueue(TOPIC, "broker-a", number): 0 for number in (1, 2, 3)}})
    moved = raw.pull(5, expression=None, sub_version=1)
    assert (names(moved), (moved.ext_fields or {})["nextBeginOffset"]) == ("PULL_OFFSET_MOVED", "0")
    assert names(raw.pull(5, expression=None, sub_version=1)) == "PULL_NOT_FOUND", "it is told once"
    assert reset(raw, queue_id=0, offset=4)[1] == {QUEUE: 4}
    assert reset(raw, queue_id=0, offset=9)[0] == "SYSTEM_ERROR"
    assert reset(raw, queue_id=0, timestamp=-1)[1] == {QUEUE: 5}


def test_offsets_are_cloned(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send()
    raw.heartbeat()
    update(raw, 1)
    clone = RemotingCommand(RequestCode.CLONE_GROUP_OFFSET, ext_fields={"srcGroup": GROUP, "destGroup": "twin"})
    assert names(raw.remoting.invoke(raw.broker, clone, 3.0)) == "SUCCESS"
    assert cluster.brokers["broker-a"].offsets.offsets["twin", TOPIC, 0] == 1
    bad = RemotingCommand(RequestCode.CLONE_GROUP_OFFSET, ext_fields={"srcGroup": GROUP})
    assert names(raw.remoting.invoke(raw.broker, bad, 3.0)) == "SYSTEM_ERROR"


def test_settings_and_figures(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send()
    raw.heartbeat()
    call = raw.call
    asking = headers.HeartbeatRequestHeader()
    topics = bodies.TOPIC_CONFIGS.decode(call(asking, code=RequestCode.GET_ALL_TOPIC_CONFIG).body)
    assert topics[TOPIC].read_queue_nums == 4
    groups = bodies.GROUP_CONFIGS.decode(call(asking, code=RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG).body)
    assert groups[GROUP].consume_enable
    figures = bodies.KV_TABLE.decode(call(asking, code=RequestCode.GET_BROKER_RUNTIME_INFO).body)
    assert figures["msgPutTotalTodayNow"] == "1"
    update(raw, 1)
    assert names(call(headers.DeleteSubscriptionGroupRequestHeader(group_name=GROUP, clean_offset=True))) == "SUCCESS"
    assert not cluster.brokers["broker-a"].offsets.topics_of(GROUP)
    call(headers.PutKVConfigRequestHeader(namespace="n", key="k", value="v"), at=cluster.namesrv)
    kv = headers.PutKVConfigRequestHeader(namespace="n", key="", value="")
    listed = call(kv, code=RequestCode.GET_KVLIST_BY_NAMESPACE, at=cluster.namesrv)
    assert bodies.KV_TABLE.decode(listed.body) == {"k": "v"}


def test_questions_that_consumers_answer(raw: RawClient, cluster: EmbeddedCluster) -> None:
    seen: list[bytes] = []
    with Producer("p", namesrv=cluster.namesrv) as producer:
        sent = producer.send(Message("T", b"x"))
    consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe("T")
    consumer.register_listener(lambda msgs: seen.extend(one.body for one in msgs))
    with consumer:
        wait_for(lambda: seen == [b"x"], timeout=10)
        info = headers.GetConsumerRunningInfoRequestHeader(consumer_group="g", client_id=consumer.client_id)
        running = bodies.RUNNING_INFO.decode(raw.call(info).body)
        assert "T" in {one.topic for one in running.subscription_set}
        direct = headers.ConsumeMessageDirectlyResultRequestHeader(
            consumer_group="g", client_id=consumer.client_id, msg_id=sent.offset_msg_id
        )
        assert names(raw.call(direct)) == "SUCCESS"
        assert seen == [b"x", b"x"]
        status = headers.GetConsumerStatusRequestHeader(topic="T", group="g")
        told = raw.call(status, code=RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS)
        assert consumer.client_id in bodies.CONSUMER_STATUS.decode(told.body).consumer_table
        unknown = headers.ConsumeMessageDirectlyResultRequestHeader(
            consumer_group="g", client_id=consumer.client_id, msg_id="7F000001000000010000000000009999"
        )
        assert names(raw.call(unknown)) == "SYSTEM_ERROR"
    assert "not online" in (raw.call(info).remark or "")


@pytest.mark.parametrize("code", [RequestCode.GET_CONSUME_STATS, RequestCode.GET_CONSUMER_RUNNING_INFO, 309, 222, 202, 203])
def test_a_question_without_its_fields(raw: RawClient, code: int) -> None:
    assert names(raw.call(headers.HeartbeatRequestHeader(), code=code)) == "SYSTEM_ERROR"
