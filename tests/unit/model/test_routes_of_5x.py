"""Routes as 5.x name servers tell them: static topics, and groups whose master is away."""

from __future__ import annotations

from grocketmq.model.route import (
    BrokerData,
    MessageQueue,
    Permission,
    QueueData,
    TopicQueueMappingInfo,
    TopicRouteData,
    publish_info,
    subscribe_queues,
)
from grocketmq.wire.bodies import TOPIC_ROUTE

BROKERS = tuple(BrokerData(name, {0: f"{name}:1"}) for name in ("a", "b"))


def mapping(bname: str, epoch: int, queues: dict[int, int]) -> TopicQueueMappingInfo:
    return TopicQueueMappingInfo("T", bname=bname, epoch=epoch, curr_id_map=queues)


def static(**mappings: TopicQueueMappingInfo) -> TopicRouteData:
    queues = tuple(QueueData(name, 4, 4, Permission.READ | Permission.WRITE) for name in mappings)
    return TopicRouteData(queues, BROKERS, topic_queue_mapping_by_broker=mappings)


def test_each_queue_of_a_static_topic_is_at_the_broker_that_took_it_last() -> None:
    route = static(
        a=mapping("a", 5, {0: 0, 1: 1, 2: 2}),
        b=mapping("b", 7, {2: 0, 3: 1}),
    )
    assert publish_info("T", route).queues == tuple(MessageQueue("T", name, i) for i, name in enumerate("aabb"))
    assert subscribe_queues("T", route) == publish_info("T", route).queues


def test_a_queue_whose_broker_is_away_is_left_out() -> None:
    route = static(a=mapping("a", 5, {0: 0}), gone=mapping("gone", 5, {1: 0}))
    assert publish_info("T", route).queues == (MessageQueue("T", "a", 0),)


def test_the_mapping_as_a_name_server_writes_it() -> None:
    body = (
        b'{"brokerDatas":[{"brokerAddrs":{0:"a:1"},"brokerName":"a","cluster":"C"}],"queueDatas":[{"brokerName":"a",'
        b'"perm":6,"readQueueNums":2,"topicSysFlag":0,"writeQueueNums":2}],"topicQueueMappingByBroker":{"a":{"bname":"a",'
        b'"currIdMap":{0:0,3:1},"dirty":false,"epoch":1700000000000,"scope":"global","topic":"T","totalQueues":4}}}'
    )
    assert [queue.queue_id for queue in publish_info("T", TOPIC_ROUTE.decode(body)).queues] == [0, 3]


def test_an_acting_master_serves_reads_and_no_sends() -> None:
    """A slave that stands in for its master is told under id 0, its queues without the permission to write."""
    queues = (QueueData("a", 2, 2, Permission.READ), QueueData("b", 2, 2, Permission.READ | Permission.WRITE))
    route = TopicRouteData(queues, (BrokerData("a", {0: "slave:1"}, enable_acting_master=True), BROKERS[1]))
    assert {queue.broker_name for queue in publish_info("T", route).queues} == {"b"}
    assert {queue.broker_name for queue in subscribe_queues("T", route)} == {"a", "b"}
