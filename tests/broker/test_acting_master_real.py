"""A slave of a real broker that acts as master while its own is away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from grocketmq import MessageQueue, Producer
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, consuming, numbered, producing, send_bodies, stored_offset
from .cluster import RealCluster
from .conftest import _started

pytestmark = pytest.mark.slow  # it boots four JVMs of its own, and a slave asks for new topics every ten seconds

GET_TOPIC_CONFIG = 351
QUEUES = 2


@pytest.fixture
def cluster(broker_version: str) -> Iterator[RealCluster]:
    yield from _started(RealCluster(broker_version, slaves=["broker-a"]))


def brokers(producer: Producer, topic: str) -> set[str]:
    return {queue.broker_name for queue in producer.fetch_publish_queues(topic)}


def test_it_serves_all_but_sends_until_the_master_is_back(
    cluster: RealCluster, topic_name: str, unique_name: Callable[[str], str]
) -> None:
    cluster.create_topic(topic_name, QUEUES)
    before, without, after = (numbered(name, 16) for name in ("before", "without", "after"))
    of_a = [MessageQueue(topic_name, "broker-a", number) for number in range(QUEUES)]
    master, slave = cluster.broker_address("broker-a"), cluster.broker_address("broker-a-slave")
    with producing(cluster) as producer:
        send_bodies(producer, topic_name, before)

        def copied() -> bool:
            return [producer._instance.api.max_offset(slave, queue) for queue in of_a] == [4] * QUEUES

        wait_for(copied, ARRIVAL, "the slave has the messages")
        fields = {"topic": topic_name}
        wait_for(lambda: cluster.request(slave, GET_TOPIC_CONFIG, fields)[0] == 0, ARRIVAL, "the slave has the topic")
        cluster.kill_broker("broker-a")
        wait_for(lambda: brokers(producer, topic_name) == {"broker-b"}, ARRIVAL, "nothing is to be sent to the slave")
        assert producer._instance.routes.master("broker-a") == slave
        send_bodies(producer, topic_name, without)
        for orderly in (False, True):
            group, inbox = unique_name("group"), Inbox()
            with consuming(cluster, group, topic_name, inbox.keep, orderly=orderly) as consumer:
                inbox.wait_for_bodies([*before, *without])
                consumer.persist_offsets()
                assert [stored_offset(consumer, group, queue) for queue in of_a] == [4] * QUEUES
            assert Counter(inbox.bodies) == Counter([*before, *without])
        cluster.start_broker("broker-a")
        wait_for(lambda: brokers(producer, topic_name) == {"broker-a", "broker-b"}, ARRIVAL, "the master is back")
        assert producer._instance.routes.master("broker-a") == master
        inbox = Inbox()
        with consuming(cluster, group, topic_name, inbox):
            send_bodies(producer, topic_name, after)
            inbox.wait_for_bodies(after)  # others may come again: the slave's offsets are not the master's
