"""Messages that are delivered later, and those that are taken back before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import gevent
import pytest

from grocketmq import (
    BrokerError,
    Message,
    MessageError,
    MessageQueue,
    NoPermissionError,
    Producer,
    RouteNotFoundError,
    SendError,
    SendResult,
)
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import Intercepted, drop
from grocketmq.model.recall_handle import decode_recall_handle, encode_recall_handle
from grocketmq.wire.command import RemotingCommand
from tests.helpers import wait_for

T0 = MessageQueue("T", "broker-a", 0)
V4_9_7 = 407


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(recall_messages=True) as cluster:
        cluster.create_topic("T", queues=1)
        yield cluster


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    with Producer("senders", namesrv=cluster.namesrv) as producer:
        yield producer


def in_an_hour(kind: str, cluster: EmbeddedCluster) -> Message:
    now = cluster.clock.now_ms() / 1000
    if kind == "delay":
        return Message("T", b"later", delay=3600.0)
    if kind == "deliver_at":
        return Message("T", b"later", deliver_at=now + 3600.0)
    if kind == "datetime":
        return Message("T", b"later", deliver_at=datetime.fromtimestamp(now, timezone.utc) + timedelta(hours=1))
    return Message("T", b"later", delay_level=17)


@pytest.mark.parametrize("kind", ["delay", "deliver_at", "datetime", "delay_level"])
def test_it_is_delivered_when_its_time_has_come(kind: str, cluster: EmbeddedCluster, producer: Producer) -> None:
    result = producer.send(in_an_hour(kind, cluster))
    assert bool(result.recall_handle) == (kind != "delay_level")
    cluster.clock.advance(3598.0)
    gevent.sleep(0.02)
    assert producer.max_offset(T0) == 0
    cluster.clock.advance(2.5)
    wait_for(lambda: producer.max_offset(T0) == 1)


def test_a_recalled_message_is_not_delivered(cluster: EmbeddedCluster, producer: Producer) -> None:
    taken_back, kept = (producer.send(Message("T", b"x", delay=60.0)) for _ in range(2))
    assert producer.recall("T", handle_of(taken_back)) == taken_back.msg_id
    assert producer.recall("T", handle_of(taken_back)) == taken_back.msg_id  # as a broker answers
    cluster.clock.advance(61.5)
    wait_for(lambda: producer.max_offset(T0) == 1)
    gevent.sleep(0.02)
    assert producer.max_offset(T0) == 1
    with pytest.raises(BrokerError, match="timestamp invalid"):
        producer.recall("T", handle_of(kept))


def handle_of(result: SendResult) -> str:
    assert result.recall_handle is not None
    return result.recall_handle


def test_what_is_no_handle_is_refused_before_it_is_sent(cluster: EmbeddedCluster, producer: Producer) -> None:
    handle = handle_of(producer.send(Message("T", b"x", delay=60.0)))
    asked = cluster.control(RequestCode.RECALL_MESSAGE, lambda taken: None, times=None)
    for topic, wrong in (("T", "no handle"), ("T", ""), ("T", handle[:9]), ("U", handle)):
        with pytest.raises(MessageError, match="recall handle"):
            producer.recall(topic, wrong)
    elsewhere = encode_recall_handle(decode_recall_handle(handle)._replace(broker_name="broker-z"))
    with pytest.raises(RouteNotFoundError, match="broker-z"):
        producer.recall("T", elsewhere)
    assert asked.seen == 0


def test_recall_where_brokers_do_not_allow_it() -> None:
    with EmbeddedCluster() as cluster, Producer("senders", namesrv=cluster.namesrv) as producer:
        cluster.create_topic("T")
        result = producer.send(Message("T", b"x", delay=60.0))
        with pytest.raises(NoPermissionError, match="forbidden"):
            producer.recall("T", handle_of(result))


# -- brokers before 5.0, which know no timers


def as_4_9_7(taken: Intercepted) -> None:
    """Answer a heartbeat as an old broker does."""
    answer = RemotingCommand.response_to(taken.request, ResponseCode.SUCCESS)
    answer.version = V4_9_7
    taken.channel.reply(answer)


@pytest.mark.parametrize("kind", ["delay", "deliver_at"])
@pytest.mark.parametrize("way", ["send", "send_async", "send_oneway"])
def test_an_old_broker_is_found_out_and_gets_no_timer_message(kind: str, way: str) -> None:
    with EmbeddedCluster() as cluster:
        cluster.create_topic("T", queues=1)
        cluster.control(RequestCode.HEART_BEAT, as_4_9_7, times=None)
        with Producer("senders", namesrv=cluster.namesrv) as producer:
            with pytest.raises(MessageError, match=r"broker-a is of release 4\.9\.7.*delay_level"):
                pending = getattr(producer, way)(in_an_hour(kind, cluster))
                pending.get(timeout=5.0)
            producer.send(Message("T", b"by level", delay_level=1))
            producer.send(Message("T", b"at once"))
            assert producer.max_offset(T0) == 1


def test_the_version_of_a_broker_that_is_silent_is_not_guessed(cluster: EmbeddedCluster, producer: Producer) -> None:
    cluster.control(RequestCode.HEART_BEAT, drop, times=None)
    with pytest.raises(SendError, match="no answer"):
        producer.send(Message("T", b"x", delay=60.0), timeout=0.2)


# -- what cannot be a delay


@pytest.mark.parametrize("delay", [-0.001, math.nan, math.inf, 1e30, "5"])
@pytest.mark.parametrize("name", ["delay", "deliver_at"])
def test_a_time_that_is_none(name: str, delay: Any) -> None:
    with pytest.raises(MessageError, match=f"{name} is "):
        Message("T", b"x", **{name: delay})


@pytest.mark.parametrize("level", [-1, 19, 1.5, "3"])
def test_a_level_that_is_none(level: Any) -> None:
    with pytest.raises(MessageError, match="delay_level"):
        Message("T", b"x", delay_level=level)


def test_a_naive_datetime() -> None:
    with pytest.raises(MessageError, match="time zone"):
        Message("T", b"x", deliver_at=datetime(2030, 1, 1))


def test_two_ways_at_once() -> None:
    with pytest.raises(MessageError, match="choose one"):
        Message("T", b"x", delay=1.0, delay_level=1)
