"""Masters and slaves: routes, reads, and what goes on without a master."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import gevent
import pytest

from grocketmq import ConsumeFromWhere, Message, Producer, PullConsumer, PushConsumer, SendError
from grocketmq.embedded import EmbeddedCluster
from grocketmq.errors import RemotingError
from grocketmq.wire import bodies, headers
from grocketmq.wire.message_codec import decode_messages
from tests.embedded.raw import GROUP, TOPIC, RawClient, names
from tests.embedded.test_journal import serving
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


def test_a_slave_stands_in_for_its_master() -> None:
    """Reads, offsets and locks go to it, sends to the other broker, until the master is back."""
    with EmbeddedCluster(brokers=2, slaves=1, acting_masters=True) as cluster:
        cluster.create_topic(TOPIC, queues=2)
        slave = cluster.brokers["broker-a"].slaves[0]
        came: list[tuple[str, bytes]] = []
        consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
        consumer.subscribe(TOPIC)
        consumer.register_listener(
            lambda msgs: came.extend((one.message_queue.broker_name, one.body) for one in msgs), orderly=True
        )
        with Producer("p", namesrv=cluster.namesrv) as producer:
            for number in range(8):
                producer.send(Message(TOPIC, b"%d" % number))
            cluster.stop_broker("broker-a")
            for number in range(8, 12):
                assert producer.send(Message(TOPIC, b"%d" % number)).message_queue.broker_name == "broker-b"
            assert {queue.broker_name for queue in producer.fetch_publish_queues(TOPIC)} == {"broker-b"}
            assert producer._instance.routes.master("broker-a") == slave.server.address
            with consumer:
                wait_for(lambda: {body for _, body in came} == {b"%d" % number for number in range(12)})
            assert {name for name, _ in came} == {"broker-a", "broker-b"}
            stored = cluster.brokers["broker-a"].offsets.offsets
            assert [stored["g", TOPIC, number] for number in range(2)] == [2, 2]
            cluster.start_broker("broker-a")
            assert len(producer.fetch_publish_queues(TOPIC)) == 4


def committed(client: RawClient) -> str | None:
    query = headers.QueryConsumerOffsetRequestHeader(consumer_group=GROUP, topic=TOPIC, queue_id=0)
    return (client.call(query).ext_fields or {}).get("offset")


def commit(client: RawClient, offset: int) -> None:
    header = headers.UpdateConsumerOffsetRequestHeader(consumer_group=GROUP, topic=TOPIC, queue_id=0, commit_offset=offset)
    assert names(client.call(header)) == "SUCCESS"


def test_slaves_have_what_is_on_disk(tmp_path: Path) -> None:
    with serving(tmp_path, slaves=1) as (cluster, raw):
        raw.send(b"kept")
        raw.messages()  # makes the group
        (slave,) = cluster.brokers["broker-a"].slaves
        with closing(RawClient(slave.server.address)) as reader:
            commit(reader, 1)
            cluster.stop_broker("broker-a")
            assert [message.body for message in reader.messages()] == [b"kept"]
            commit(reader, 2)
            cluster.start_broker("broker-a")
            with closing(RawClient(cluster.broker_address("broker-a"))) as again:
                assert committed(again) == "2"
                again.send(b"more")
            assert [message.body for message in reader.messages()] == [b"kept", b"more"]
            cluster.stop_broker("broker-a")
            commit(reader, 3)
    with serving(tmp_path, slaves=1) as (cluster, raw):
        (slave,) = cluster.brokers["broker-a"].slaves
        with closing(RawClient(slave.server.address)) as reader:
            assert [message.body for message in reader.messages()] == [b"kept", b"more"]
            assert committed(reader) == committed(raw) == "3"


def test_slaves_lose_what_their_master_loses(raw: RawClient, cluster: EmbeddedCluster) -> None:
    slave = cluster.brokers["broker-a"].slaves[0]
    raw.send(b"lost")
    with closing(RawClient(slave.server.address)) as reader:
        reader.messages()

        def wait() -> None:
            with pytest.raises(RemotingError):
                reader.pull(1, hold=30.0)

        waiting = gevent.spawn(wait)
        wait_for(lambda: slave.pulls.held() == 1)
        cluster.stop_broker("broker-a", keep_data=False)
        waiting.get(timeout=5)
        assert names(reader.pull()) == "TOPIC_NOT_EXIST"
        cluster.start_broker("broker-a")
        cluster.create_topic(TOPIC)
        waiting = gevent.spawn(reader.pull, 0, hold=30.0)
        wait_for(lambda: slave.pulls.held() == 1)
        with closing(RawClient(raw.broker)) as again:
            again.send(b"new")
        assert [message.body for message in decode_messages(waiting.get(timeout=5).body or b"")] == [b"new"]


def test_connections_to_slaves_count(cluster: EmbeddedCluster) -> None:
    before = cluster.counts().connections
    with closing(RawClient(cluster.brokers["broker-a"].slaves[0].server.address)) as reader:
        reader.pull()
        assert cluster.counts().connections == before + 1
