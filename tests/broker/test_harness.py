"""The harness itself: clusters of both releases boot, heal and keep their data, and the Java driver drives."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

import gevent
import pytest

from .cluster import RealCluster, remoting_request
from .java_driver import JavaDriver
from .jvm import JavaError


@pytest.fixture(scope="session", params=["real_cluster", "real_cluster_497"])
def cluster(request: pytest.FixtureRequest) -> RealCluster:
    cluster: RealCluster = request.getfixturevalue(request.param)
    return cluster


@pytest.fixture(scope="session")
def driver(cluster: RealCluster) -> Iterator[JavaDriver]:
    with JavaDriver(cluster.version, cluster.namesrv) as driver:
        yield driver


def test_both_brokers_are_registered(cluster: RealCluster) -> None:
    listing = cluster.mqadmin("clusterList")
    for name in cluster.broker_names:
        assert name in listing
        assert cluster.broker_address(name) in listing


def test_created_topic_has_queues_on_every_broker(cluster: RealCluster, topic_name: str) -> None:
    cluster.create_topic(topic_name, queues=3)
    code, route = remoting_request(cluster.namesrv, 105, {"topic": topic_name})
    assert code == 0
    assert route.count(b'"writeQueueNums":3') == 2


def test_java_sends_and_java_consumes(cluster: RealCluster, driver: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    properties = {"colour": "grün", "縦": "横", "odd": "😀 \x7f <>"}
    with driver.consume(group_name, topic_name, "red || blue") as consumer:
        sent = driver.send(topic_name, ["你好".encode(), b"\x00\xff"], tags="red", keys=["k1", "k2"], properties=properties)
        driver.send(topic_name, b"filtered out", tags="green")
        driver.send(topic_name, b"x" * 10_000, tags="blue", compress_over=100)
        messages = consumer.wait(3)
        assert {queue for queue in consumer.assigned() if queue[0] == topic_name} == {
            (topic_name, name, number) for name in cluster.broker_names for number in range(4)
        }
    assert sorted(message.body for message in messages) == sorted(["你好".encode(), b"\x00\xff", b"x" * 10_000])
    first = next(message for message in messages if message.msg_id == sent[0].msg_id)
    assert (first.tags, first.keys, first.body) == ("red", "k1 k2", "你好".encode())
    assert properties.items() <= first.properties.items()
    assert (first.broker_name, first.queue_id, first.queue_offset) == (
        sent[0].broker_name,
        sent[0].queue_id,
        sent[0].queue_offset,
    )


def test_java_orders_batches_and_retries(cluster: RealCluster, driver: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    bodies = [str(number).encode() for number in range(20)]
    assert len({(r.broker_name, r.queue_id) for r in driver.send(topic_name, bodies, hash_key="order-1")}) == 1
    with driver.consume(group_name, topic_name, orderly=True) as consumer:
        consumer.wait(20)
        assert consumer.bodies == bodies
    assert len(driver.send(topic_name, [b"in", b"one"], batch=True)) == 1
    assert driver.send(topic_name, b"here", queue=("broker-b", 3))[0].queue_id == 3
    with driver.consume(group_name, topic_name, fail_times=0, pause=0.01) as consumer:
        consumer.wait(3)
        assert sorted(consumer.bodies) == [
            b"here",
            b"in",
            b"one",
        ]  # and none of the twenty, whose offsets were stored


def test_broadcasting_reaches_each_consumer(cluster: RealCluster, driver: JavaDriver, topic_name: str, group_name: str) -> None:
    cluster.create_topic(topic_name)
    driver.send(topic_name, b"to all")
    consumers = [driver.consume(group_name, topic_name, broadcasting=True) for _ in range(2)]
    for consumer in consumers:
        assert consumer.wait(1)[0].body == b"to all"
        consumer.stop()


def test_the_hub_runs_while_java_is_awaited(java: JavaDriver, topic_name: str) -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            gevent.sleep(0.001)
            ticks += 1

    ticker = gevent.spawn(tick)
    try:
        senders = [gevent.spawn(java.send, topic_name, [b"x"] * 10) for _ in range(8)]
        for sender in gevent.joinall(senders, timeout=60, raise_error=True):
            assert len(sender.get()) == 10
    finally:
        ticker.kill()
    assert ticks > 5


def test_an_error_in_java_is_told(java: JavaDriver) -> None:
    with pytest.raises(JavaError, match="topic"):
        java.send("not a topic!", b"x")


@pytest.mark.slow
@pytest.mark.parametrize("stop", [RealCluster.kill_broker, RealCluster.stop_broker])
def test_brokers_that_ended_keep_their_data(
    own_cluster: RealCluster, topic_name: str, group_name: str, stop: Callable[[RealCluster, str], None]
) -> None:
    """Killed; or stopped in order, for which a broker takes 10 s or more."""
    cluster = own_cluster
    cluster.create_topic(topic_name)
    addresses = {name: cluster.broker_address(name) for name in cluster.broker_names}
    bodies = [str(number).encode() for number in range(40)]
    with JavaDriver(cluster.version, cluster.namesrv) as driver:
        assert {result.status for result in driver.send(topic_name, bodies)} == {"SEND_OK"}
        cluster.kill_broker("broker-a")
        assert not cluster.running("broker-a")
        stop(cluster, "broker-b")
        cluster.kill_namesrv()
        with pytest.raises(OSError):
            remoting_request(cluster.namesrv, 106)
        cluster.heal()
        assert {name: cluster.broker_address(name) for name in cluster.broker_names} == addresses
        with driver.consume(group_name, topic_name) as consumer:
            assert sorted(m.body for m in consumer.wait(40)) == sorted(bodies)


@pytest.mark.slow
def test_the_old_release_keeps_its_data(real_cluster_497: RealCluster, topic_name: str, group_name: str) -> None:
    with RealCluster(real_cluster_497.version, brokers=1) as cluster:
        cluster.create_topic(topic_name)
        with JavaDriver(cluster.version, cluster.namesrv) as driver:
            driver.send(topic_name, [b"1", b"2"])
            cluster.kill_broker("broker-a")
            cluster.start_broker("broker-a")
            with driver.consume(group_name, topic_name) as consumer:
                assert sorted(message.body for message in consumer.wait(2)) == [b"1", b"2"]


def test_a_nameserver_that_comes_back_learns_the_brokers(own_cluster: RealCluster) -> None:
    own_cluster.stop_namesrv()
    own_cluster.start_namesrv()
    _, info = remoting_request(own_cluster.namesrv, 106)
    assert all(name.encode() in info for name in own_cluster.broker_names)


def test_a_paused_broker_is_silent_but_connected(own_cluster: RealCluster) -> None:
    address = own_cluster.broker_address("broker-a")
    own_cluster.pause_broker("broker-a")
    try:
        with pytest.raises(TimeoutError):
            remoting_request(address, 105, timeout=0.5)
    finally:
        own_cluster.resume_broker("broker-a")
    remoting_request(address, 105, timeout=10.0)


@pytest.mark.slow
def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing(real_cluster: RealCluster) -> None:
    broken = RealCluster(real_cluster.version, brokers=1, settings={"storePathRootDir": "/proc/none"})
    with pytest.raises(JavaError, match="broker-a"):
        broken.start()
    assert not any(broken.running(name) for name in ("broker-a", "namesrv"))


@pytest.mark.slow
def test_nothing_stays_after_stop(real_cluster: RealCluster) -> None:
    cluster = RealCluster(real_cluster.version, brokers=1, settings={"messageDelayLevel": "1s 2s"})
    with cluster:
        root = cluster.root
        pids = [process.pid for process in cluster._processes.values()]
        assert "messageDelayLevel=1s 2s" in (root / "broker-a" / "broker.conf").read_text()
    assert not root.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with (
        pytest.raises(OSError),
        socket.create_connection(("127.0.0.1", int(cluster.namesrv.split(":")[1])), 1.0),
    ):
        pass
