"""Delayed messages at real brokers: when they come, taking them back, and brokers that know no timers."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from grocketmq import BrokerError, Message, MessageError, MessageQueue, NoPermissionError, Producer

from .clients import Inbox, broker_config, consuming, producing
from .cluster import RealCluster


def timed(topic: str, kind: str) -> Message:
    """A message to be delivered in two seconds."""
    if kind == "delay":
        return Message(topic, kind, delay=2.0)
    if kind == "deliver_at":
        return Message(topic, kind, deliver_at=time.time() + 2.0)
    return Message(topic, kind, deliver_at=datetime.now(timezone.utc) + timedelta(seconds=2))


def test_timer_messages_come_at_their_time(small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    small_cluster.create_topic(topic_name)
    kinds = ("delay", "deliver_at", "datetime")
    inbox = Inbox()
    with producing(small_cluster) as producer, consuming(small_cluster, group_name, topic_name, inbox):
        began = time.time()
        results = [producer.send(timed(topic_name, kind)) for kind in kinds]
        assert all(result.recall_handle for result in results)
        inbox.wait_for_bodies(kind.encode() for kind in kinds)
    for message in inbox.messages:
        assert 1.5 < message.store_timestamp / 1000 - began < 10.0
        assert message.properties["REAL_TOPIC"] == topic_name


def test_delay_levels(small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    small_cluster.create_topic(topic_name)
    inbox = Inbox()
    with producing(small_cluster) as producer, consuming(small_cluster, group_name, topic_name, inbox):
        began = time.time()
        for level in (1, 18):
            assert producer.send(Message(topic_name, f"level {level}", delay_level=level)).recall_handle is None
        inbox.wait_for_bodies([b"level 1", b"level 18"])
    assert all(0.9 < message.store_timestamp / 1000 - began < 10.0 for message in inbox.messages)


def test_recall(small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    small_cluster.create_topic(topic_name)
    inbox = Inbox()
    with producing(small_cluster) as producer, consuming(small_cluster, group_name, topic_name, inbox):
        regretted = [producer.send(Message(topic_name, b"never", delay=4.0)) for _ in range(3)]
        kept = producer.send(Message(topic_name, b"kept", delay=5.0))
        for result in regretted:
            assert result.recall_handle is not None
            assert producer.recall(topic_name, result.recall_handle) == result.msg_id
        inbox.wait(1)  # what was to come before is not there
        assert inbox.bodies == [b"kept"]
        assert kept.recall_handle is not None
        with pytest.raises(BrokerError, match="timestamp invalid"):
            producer.recall(topic_name, kept.recall_handle)
        with broker_config(small_cluster, "recallMessageEnable", False, True), pytest.raises(NoPermissionError):
            producer.recall(topic_name, kept.recall_handle)


def test_a_broker_of_release_4_gets_no_timer_message(real_cluster_497: RealCluster, topic_name: str) -> None:
    real_cluster_497.create_topic(topic_name)
    with producing(real_cluster_497) as producer:
        for kind in ("delay", "deliver_at"):
            with pytest.raises(MessageError, match=r"release 4\.9\.7.*delay_level"):
                producer.send(timed(topic_name, kind))
        assert stored(producer, topic_name) == 0
        producer.send(Message(topic_name, b"by level", delay_level=1))


def stored(producer: Producer, topic: str) -> int:
    return sum(
        producer.max_offset(MessageQueue(topic, name, number)) for name in ("broker-a", "broker-b") for number in range(4)
    )
