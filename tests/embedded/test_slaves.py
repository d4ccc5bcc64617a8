"""Masters and slaves: routes, reads, and what goes on without a master."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from grocketmq import Message, Producer, PullConsumer, SendError
from grocketmq.embedded import EmbeddedCluster
from grocketmq.errors import ConfigError
from grocketmq.wire import bodies, headers
from grocketmq.wire.message_codec import decode_messages
from tests.embedded.raw import TOPIC, RawClient, names
from tests.helpers import wait_for


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(slaves=2) as cluster:
        cluster.create_topic(TOPIC)
        yield cluster


def addresses(raw: RawClient, cluster: EmbeddedCluster) -> set[int]:
    answer = raw.call(headers.GetRouteInfoRequestHeader(topic=TOPIC), at=cluster.namesrv)
    if answer.code:
        return set()
    (broker,) = bodies.TOPIC_ROUTE.decode(answer.body).broker_datas
    return set(broker.broker_addrs)


def test_routes_tell_who_is_there(raw: RawClient, cluster: EmbeddedCluster) -> None:
    assert addresses(raw, cluster) == {0, 1, 2}
    broker = cluster.brokers["broker-a"]
    broker.slaves[0].stop()
    assert addresses(raw, cluster) == {0, 2}
    cluster.stop_broker("broker-a")
    assert addresses(raw, cluster) == {2}
    broker.slaves[1].stop()
    cluster.start_broker("broker-a")
    assert addresses(raw, cluster) == {0}
    broker.slaves[0].start()
    assert addresses(raw, cluster) == {0, 1}


def test_a_name_server_without_data_hears_of_slaves_too(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.stop_namesrv(keep_data=False)
    cluster.stop_broker("broker-a")
    cluster.start_namesrv()
    assert addresses(raw, cluster) == set()
    cluster.clock.advance(30)
    wait_for(lambda: addresses(raw, cluster) == {1, 2})


def test_a_slave_reads_and_does_not_write(raw: RawClient, cluster: EmbeddedCluster) -> None:
    slave = RawClient(cluster.brokers["broker-a"].slaves[0].server.address)
    waiting = gevent.spawn(slave.pull, 0, hold=30.0)
    wait_for(lambda: cluster.brokers["broker-a"].slaves[0].pulls.held() == 1)
    raw.send(b"x")
    assert [message.body for message in decode_messages(waiting.get(timeout=5).body or b"")] == [b"x"]
    assert names(slave.send(b"y")) == "SERVICE_NOT_AVAILABLE"
    slave.close()


def test_messages_can_be_read_without_a_master(cluster: EmbeddedCluster) -> None:
    with Producer("p", namesrv=cluster.namesrv, send_timeout=1.0) as producer:
        for number in range(20):
            producer.send(Message(TOPIC, b"%d" % number))
        cluster.stop_broker("broker-a")
        with pytest.raises(SendError):
            producer.send(Message(TOPIC, b"nowhere"))
    with PullConsumer("pulls", namesrv=cluster.namesrv) as pulls:
        assert sum(len(pulls.pull(queue, "*", 0).messages) for queue in pulls.fetch_subscribe_queues(TOPIC)) == 20


def test_slaves_are_in_memory_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data directory with them"):
        EmbeddedCluster(slaves=1, data=tmp_path)
