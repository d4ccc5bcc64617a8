"""Finding stored messages."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from grocketmq import GRocketMQError, Message, MessageError, Producer, RouteNotFoundError
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import drop, fail
from grocketmq.errors import BrokerError, QueryNotFoundError, RequestTimeout
from tests.helpers import wait_for


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        for topic in ("T", "U"):
            cluster.create_topic(topic, queues=2)
        yield cluster


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    with Producer("senders", namesrv=cluster.namesrv, request_timeout=2.0) as producer:
        yield producer


def test_by_the_place_by_the_unique_id_and_as_java_tells_them_apart(producer: Producer) -> None:
    results = [producer.send(Message("T", b"%d" % number)) for number in range(8)]
    assert {result.message_queue.broker_name for result in results} == {"broker-a", "broker-b"}
    for number, result in enumerate(results):
        for found in (
            producer.view_message(result.offset_msg_id),
            producer.view_message(result.offset_msg_id, "T"),
            producer.view_message(result.msg_id, "T"),
        ):
            assert (found.body, found.msg_id, found.offset_msg_id) == (b"%d" % number, result.msg_id, result.offset_msg_id)


def test_a_large_body_comes_unpacked(producer: Producer) -> None:
    result = producer.send(Message("T", b"x" * 100_000))
    assert producer.view_message(result.msg_id, "T").body == b"x" * 100_000


def test_by_key_from_all_brokers_oldest_first(producer: Producer) -> None:
    for number in range(10):
        producer.send(Message("T", b"%d" % number, keys=["all", f"own-{number}"]))
    producer.send(Message("T", b"allows", keys="allows"))
    producer.send(Message("U", b"elsewhere", keys="all"))
    found = producer.query_message("T", "all")
    assert sorted(message.body for message in found) == [b"%d" % number for number in range(10)]
    assert (times := [message.store_timestamp for message in found]) == sorted(times)
    assert [message.body for message in producer.query_message("T", "own-3")] == [b"3"]
    assert [message.broker_name for message in found] == [message.message_queue.broker_name for message in found]
    assert len(producer.query_message("T", "all", 3)) == 3
    assert producer.query_message("T", "all", begin_ms=found[-1].store_timestamp + 1) == []
    assert producer.query_message("T", "all", end_ms=found[0].store_timestamp - 1) == []
    assert producer.query_message("T", "none") == []
    assert [one.body for one in producer.query_message("T", found[4].msg_id)] == [found[4].body]


def test_what_is_not_there(producer: Producer) -> None:
    stored = producer.send(Message("T", b"x"))
    with pytest.raises(QueryNotFoundError, match="no message"):
        producer.view_message("0" * 32, "T")
    with pytest.raises(QueryNotFoundError):
        producer.view_message(stored.msg_id, "U")
    with pytest.raises(BrokerError):
        producer.view_message(stored.offset_msg_id[:-2] + "FF")
    with pytest.raises(RouteNotFoundError):
        producer.view_message(stored.msg_id, "Unknown")
    with pytest.raises(RouteNotFoundError):
        producer.query_message("Unknown", "key")


@pytest.mark.parametrize("msg_id", ["", "text", "12", "G" * 32])
def test_an_id_that_is_none(producer: Producer, msg_id: str) -> None:
    with pytest.raises(MessageError, match="no offset message id"):
        producer.view_message(msg_id)


def test_a_query_without_a_key(producer: Producer) -> None:
    with pytest.raises(MessageError, match="needs a key"):
        producer.query_message("T", "")


def test_a_broker_that_fails_is_told_when_nothing_else_was_found(cluster: EmbeddedCluster, producer: Producer) -> None:
    result = producer.send(Message("T", b"x", keys="k"))
    here = result.message_queue.broker_name
    elsewhere = next(name for name in cluster.broker_names if name != here)
    cluster.control(RequestCode.QUERY_MESSAGE, fail(), times=None, at=elsewhere)
    assert [one.body for one in producer.query_message("T", "k")] == [b"x"]
    with pytest.raises(GRocketMQError, match="a fault that the test asked for"):
        producer.query_message("T", "none")


def test_a_broker_that_does_not_answer_is_told_too(
    cluster: EmbeddedCluster, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is not "no message": the caller would take what is only out of reach for lost."""
    monkeypatch.setattr("grocketmq.client.queries.QUERY_MESSAGE_TIMEOUT", 0.1)
    cluster.control(RequestCode.QUERY_MESSAGE, drop, times=None, at=cluster.broker_names[0])
    with pytest.raises(RequestTimeout):
        producer.query_message("T", "none")


def test_a_query_that_is_cut_off_leaves_nothing_behind(cluster: EmbeddedCluster, producer: Producer) -> None:
    producer.fetch_publish_queues("T")
    cluster.control(RequestCode.QUERY_MESSAGE, drop, times=None)
    with gevent.Timeout(0.1, False):
        producer.query_message("T", "key")
    wait_for(lambda: not [name for name in producer._instance.tasks.names() if "query" in name])
