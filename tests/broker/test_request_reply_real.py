"""Request and reply at real brokers, among grocketmq's clients and across with Java's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from grocketmq import Message, MessageExt, Producer, RequestReplyTimeout, SendError, create_reply

from .clients import ARRIVAL, consuming, producing
from .cluster import RealCluster
from .conftest import Pair


@contextmanager
def replying(cluster: RealCluster, group: str, topic: str, **options: Any) -> Iterator[Producer]:
    """A consumer that replies with twice the body, unless that is ``silence``."""
    with producing(cluster, "repliers", **options) as producer:

        def listen(msgs: list[MessageExt]) -> None:
            for msg in msgs:
                if msg.body != b"silence":
                    producer.send(create_reply(msg, msg.body * 2))

        with consuming(cluster, group, topic, listen, listener_concurrency=100):
            yield producer


def nothing_waits(producer: Producer) -> bool:
    return not producer._instance.replies and not producer._requests._waiting


@pytest.mark.slow
def test_ten_thousand_requests_of_a_thousand_greenlets(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)

    def ask(first: int) -> None:
        for number in range(first, 10_000, 1_000):
            body = b"%d " % number
            assert requester.request(Message(topic_name, body), 90.0).body == body * 2

    with replying(real_cluster, group_name, topic_name), producing(real_cluster) as requester:
        asking = [gevent.spawn(ask, first) for first in range(1_000)]
        gevent.joinall(asking, timeout=120.0, raise_error=True)
        assert all(one.successful() for one in asking)
        assert nothing_waits(requester)


def test_timeouts_leave_nothing_behind(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)

    def ask() -> None:
        with pytest.raises(RequestReplyTimeout):
            requester.request(Message(topic_name, b"silence"), 5.0)

    with replying(real_cluster, group_name, topic_name), producing(real_cluster) as requester:
        gevent.joinall([gevent.spawn(ask) for _ in range(100)], timeout=ARRIVAL, raise_error=True)
        assert nothing_waits(requester)
        assert requester.request(Message(topic_name, b"ab"), ARRIVAL).body == b"abab"


def test_after_another_producer_of_the_instance_has_left(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """The broker forgets a client when any of its groups leaves; the next request makes it known again."""
    real_cluster.create_topic(topic_name)
    shared = {"instance_name": f"shared-{topic_name}"}
    with replying(real_cluster, group_name, topic_name), producing(real_cluster, "staying", **shared) as requester:
        with producing(real_cluster, "leaving", **shared) as other:
            assert requester._instance is other._instance
            for one in (requester, other):
                assert one.request(Message(topic_name, b"ab"), ARRIVAL).body == b"abab"
        for _ in range(4):  # over both brokers
            assert requester.request(Message(topic_name, b"cd"), 10.0).body == b"cdcd"


def test_a_reply_to_nobody_is_an_error(real_cluster: RealCluster) -> None:
    names = {"CLUSTER": "DefaultCluster", "CORRELATION_ID": "1", "REPLY_TO_CLIENT": "gone", "TTL": "1000"}
    with producing(real_cluster) as replier, pytest.raises(SendError, match="gone"):
        replier.send(create_reply(MessageExt("T", b"x", properties=names), b"x"))


@pytest.mark.parametrize("size", [10, 50_000], ids=["small", "packed"])
def test_java_asks(pair: Pair, size: int, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    body = b"0123456789" * (size // 10)
    with replying(pair.cluster, group_name, topic_name):
        reply = pair.java.request(topic_name, body)
    assert reply.body == body * 2


@pytest.mark.parametrize("size", [10, 50_000], ids=["small", "packed"])
def test_java_replies(pair: Pair, size: int, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    body = b"0123456789" * (size // 10)
    with pair.java.consume(group_name, topic_name, reply=b"Java says "), producing(pair.cluster) as requester:
        assert requester.request(Message(topic_name, body), ARRIVAL).body == b"Java says " + body
