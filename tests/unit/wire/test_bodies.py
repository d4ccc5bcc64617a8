"""What bodies refuse, and how they name it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.model.route import BrokerData, MessageQueue, QueueData, TopicRouteData
from grocketmq.wire import bodies
from grocketmq.wire.bodies import (
    BATCH_ACK,
    CONSUME_STATS,
    CONSUMER_LIST,
    HEARTBEAT,
    RESET_OFFSET,
    TOPIC_ROUTE,
    Body,
    ConsumeStats,
    OffsetWrapper,
)
from grocketmq.wire.json_codec import dumps

ALL: list[Body[Any]] = [body for body in vars(bodies).values() if isinstance(body, Body)]
FIELDS = ["topic", "brokerName", "queueId", "offsetTable", "mqTable", "brokerDatas", "brokerAddrs", "queueDatas", "acks"]
FIELDS += ["b", "consumerDataSet", "subscriptionDataSet", "consumeType", "groupName", "clientID", "topicList", "perm"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(FIELDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.integers(-5, 5) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=30,
)


@pytest.mark.parametrize(
    ("body", "text", "message"),
    [
        (TOPIC_ROUTE, '{"queueDatas":[{"perm":"six"}]}', "TopicRouteData: queueDatas.[0].perm: an integer"),
        (TOPIC_ROUTE, '{"queueDatas":{}}', "TopicRouteData: queueDatas: a list expected, found a dict"),
        (TOPIC_ROUTE, '{"brokerDatas":[{"brokerAddrs":{"zero":""}}]}', "brokerDatas.[0].brokerAddrs.['zero']: an integer"),
        (TOPIC_ROUTE, "[]", "TopicRouteData: the body: an object (TopicRouteData) expected, found a list"),
        (TOPIC_ROUTE, "{", "TopicRouteData: key expected at character 1"),
        (RESET_OFFSET, '{"offsetTable":{"a%0%t":10}}', "ResetOffsetBody: offsetTable.['a%0%t']: a queue's JSON expected"),
        (RESET_OFFSET, '{"offsetTable":{{"topic":1}:[]}}', "ResetOffsetBody: offsetTable.[a dict]: an integer"),
        (RESET_OFFSET, '{"offsetTable":{{}:9223372036854775808}}', "an integer of 64 bits expected"),
        (RESET_OFFSET, "[1]", "ResetOffsetBody: the body: an object expected"),
        (CONSUMER_LIST, '{"consumerIdList":[["a"]]}', "consumerIdList.[0]: a text expected, found a list"),
        (CONSUME_STATS, '{"consumeTps":1e999}', "consumeTps: a number expected"),
        (CONSUME_STATS, '{"consumeTps":true}', "consumeTps: a number expected"),
        (HEARTBEAT, '{"withoutSub":"maybe"}', "withoutSub: true or false expected, found 'maybe'"),
        (HEARTBEAT, '{"consumerDataSet":[{"consumeType":9}]}', "consumerDataSet.[0].consumeType: one of"),
        (BATCH_ACK, '{"acks":[{"b":"?"}]}', "acks.[0].b: bits in base 64 expected"),
        (BATCH_ACK, '{"acks":[{"bitSet":7}]}', "acks.[0].b: bits in base 64 expected"),
        (TOPIC_ROUTE, '{"filterServerTable":{"x":' + "[" * 90 + "]" * 90 + "}}", "nested at most"),
    ],
)
def test_wrong_type_is_named(body: Body[Any], text: str, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=re.escape(message)):
        body.decode(text.encode())


@pytest.mark.parametrize("data", [None, b""])
def test_no_body(data: bytes | None) -> None:
    with pytest.raises(RemoteProtocolError, match="TopicRouteData: the frame has no body"):
        TOPIC_ROUTE.decode(data)


@given(st.sampled_from(ALL), JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_json(body: Body[Any], value: Any) -> None:
    try:
        data = dumps(value, object_keys=True)
    except LocalProtocolError:
        return
    refusal = ""
    try:
        body.encode(body.decode(data))
    except RemoteProtocolError as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith(f"{body.name}: ")


@given(st.sampled_from(ALL), st.binary())
def test_any_bytes(body: Body[Any], data: bytes) -> None:
    try:
        body.decode(data)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize("body", ALL, ids=lambda body: body.name)
def test_empty_object_gives_defaults(body: Body[Any]) -> None:
    value = body.decode(b'{"unknown":[{"field":1}]}')
    assert body.decode(body.encode(value)) == value


def test_nulls_and_numbers_as_text() -> None:
    route = TOPIC_ROUTE.decode(
        b'{"brokerDatas":[{"brokerAddrs":{"0":"h:1",1:"h:2"},"brokerName":"b","zoneName":null}],'
        b'"queueDatas":[{"brokerName":"b","readQueueNums":"4","perm":6.0,"writeQueueNums":null}],"orderTopicConf":null}'
    )
    brokers = (BrokerData("b", {0: "h:1", 1: "h:2"}),)
    assert route == TopicRouteData((QueueData("b", 4, 0, 6),), brokers)


@given(
    st.dictionaries(
        st.builds(MessageQueue, st.text(st.characters(codec="utf-8")), st.just("b"), st.integers(0, 9)), st.integers(0, 9)
    )
)
def test_stats_round_trip(offsets: dict[MessageQueue, int]) -> None:
    stats = ConsumeStats({queue: OffsetWrapper(offset, 1, 2, 3) for queue, offset in offsets.items()}, 1.5)
    for object_keys in (False, True):
        assert CONSUME_STATS.decode(CONSUME_STATS.encode(stats, object_keys=object_keys)) == stats


def test_what_cannot_be_written() -> None:
    with pytest.raises(LocalProtocolError, match="GetConsumerListByGroupResponseBody"):
        CONSUMER_LIST.encode(("\ud800",))
