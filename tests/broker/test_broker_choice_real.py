"""Which real broker a send goes to: a frozen one, the second port, static topics."""

from __future__ import annotations

from collections import Counter

from grocketmq import Message, Producer
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, consuming, numbered, producing, send_bodies
from .cluster import RealCluster
from .conftest import Pair


def sent_to(producer: Producer, topic: str, count: int = 8) -> Counter[str]:
    return Counter(producer.send(Message(topic, b"x")).message_queue.broker_name for _ in range(count))


def test_a_frozen_broker_is_met_once_and_comes_back(own_cluster: RealCluster, topic_name: str) -> None:
    own_cluster.create_topic(topic_name, queues=2)
    options = {"latency_fault_tolerance": True, "fault_detector": True, "try_timeout": 1.0}
    with producing(own_cluster, **options) as producer:
        assert sent_to(producer, topic_name).keys() == {"broker-a", "broker-b"}
        own_cluster.pause_broker("broker-a")
        try:
            assert sent_to(producer, topic_name) == {"broker-b": 8}
            table = producer._picker.faults
            assert table is not None
            assert not table.is_reachable("broker-a")
        finally:
            own_cluster.resume_broker("broker-a")
        wait_for(lambda: table.is_reachable("broker-a"), ARRIVAL, "the detector sees it answer")
        wait_for(lambda: "broker-a" in sent_to(producer, topic_name), ARRIVAL, "it is chosen again")


def test_the_second_port(pair: Pair, topic_name: str) -> None:
    pair.cluster.create_topic(topic_name)
    with producing(pair.cluster, vip_channel=True) as producer:
        assert len(sent_to(producer, topic_name)) == 2
        used = set(producer._instance.remoting.addresses())
    for name in pair.cluster.broker_names:
        host, port = pair.cluster.broker_address(name).rsplit(":", 1)
        assert f"{host}:{int(port) - 2}" in used


def test_a_static_topic_whose_queues_move(real_cluster: RealCluster, topic_name: str) -> None:
    """Its queues keep their numbers when they move to another broker; a send to the old one is refused and goes to the new."""
    real_cluster.mqadmin("updateStaticTopic", "-t", topic_name, "-qn", "4", "-b", "broker-a")
    with producing(real_cluster, route_poll_interval=3600.0) as producer:
        first = [producer.send(Message(topic_name, b"x")) for _ in range(8)]
        assert {result.message_queue.queue_id for result in first} == {0, 1, 2, 3}
        assert {result.message_queue.broker_name for result in first} == {"broker-a"}
        real_cluster.mqadmin("remappingStaticTopic", "-t", topic_name, "-b", "broker-b")
        moved = [producer.send(Message(topic_name, b"y")) for _ in range(8)]
        wait_for(lambda: sent_to(producer, topic_name).keys() == {"broker-b"}, ARRIVAL, "all queues have moved")
        assert {result.message_queue.queue_id for result in moved} == {0, 1, 2, 3}
        assert min(result.queue_offset for result in moved) > max(result.queue_offset for result in first)


def test_a_static_topic_is_consumed_before_and_after_a_move(
    real_cluster: RealCluster, topic_name: str, group_name: str
) -> None:
    real_cluster.mqadmin("updateStaticTopic", "-t", topic_name, "-qn", "4", "-b", "broker-a")
    inbox = Inbox()
    with producing(real_cluster) as producer:
        first, second = numbered("first", 16), numbered("second", 16)
        send_bodies(producer, topic_name, first)
        with consuming(real_cluster, group_name, topic_name, inbox, route_poll_interval=0.5, persist_offset_interval=0.5):
            inbox.wait_for_bodies(first)
            real_cluster.mqadmin("remappingStaticTopic", "-t", topic_name, "-b", "broker-b")
            send_bodies(producer, topic_name, second)
            inbox.wait_for_bodies(second)
    assert {message.queue_id for message in inbox.messages} == {0, 1, 2, 3}
