"""What brokers are told of a client."""

from __future__ import annotations

from grocketmq.client.heartbeat import heartbeat_body
from grocketmq.model.subscription import ConsumeFromWhere, MessageModel, subscription
from grocketmq.wire.bodies import HEARTBEAT, ConsumerData, ConsumeType, ProducerData
from tests.unit.client.fakes import FakeMember


def test_nobody_to_tell_of() -> None:
    assert heartbeat_body("id", [], []) is None


def test_a_client_that_only_produces_is_told_of() -> None:
    body = heartbeat_body("id", [FakeMember("p2"), FakeMember("p1"), FakeMember("p2")], [])
    data = HEARTBEAT.decode(body)
    assert data.client_id == "id"
    assert data.producers == (ProducerData("p1"), ProducerData("p2"))
    assert data.consumers == ()


def test_a_consumer_is_told_of_with_its_subscriptions() -> None:
    told = ConsumerData(
        "g",
        ConsumeType.PASSIVELY,
        MessageModel.CLUSTERING,
        ConsumeFromWhere.FIRST_OFFSET,
        (subscription("T", "a || b", 17), subscription("%RETRY%g", "*", 18)),
    )
    data = HEARTBEAT.decode(heartbeat_body("id", [], [FakeMember("g", data=told)]))
    assert data.consumers == (told,)
    assert data.producers == ()
