"""The same number of greenlets, descriptors and watchers after a thousand lives as after ten, and about the same memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer
from grocketmq.embedded import EmbeddedCluster

MIB = 1024 * 1024


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(max_bytes=64 * MIB) as cluster:
        cluster.create_topic("leaks")
        yield cluster


def held() -> dict[str, int]:
    """What this process holds, when everything has settled."""
    gevent.sleep(0.2)
    gc.collect()
    return {
        "greenlets": sum(1 for one in gc.get_objects() if isinstance(one, gevent.Greenlet) and not one.dead),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "watchers": gevent.get_hub().loop.activecnt,
    }


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled(before: dict[str, int]) -> dict[str, int]:
    """What is held more than before, after a few seconds at most."""
    for _ in range(20):
        more = {name: count - before[name] for name, count in held().items() if count > before[name]}
        if not more:
            break
    return more


def live(cluster: EmbeddedCluster) -> None:
    """One life of a producer and a consumer."""
    got: list[Any] = []
    consumer = PushConsumer("leaks", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe("leaks")
    consumer.register_listener(got.extend)
    with Producer("leaks", namesrv=cluster.namesrv) as producer, consumer:
        producer.send(Message("leaks", "x"))
        with gevent.Timeout(10, AssertionError("not consumed")):
            while not got:
                gevent.sleep(0.001)


def lives(cluster: EmbeddedCluster, count: int) -> None:
    for _ in range(10):
        live(cluster)
    before, memory = held(), resident()
    for _ in range(count):
        live(cluster)
    assert settled(before) == {}
    assert resident() - memory < 24 * MIB


def restarts(cluster: EmbeddedCluster, count: int) -> None:
    consumer = PushConsumer("leaks", namesrv=cluster.namesrv)
    consumer.subscribe("leaks")
    consumer.register_listener(lambda msgs: None)
    with Producer("leaks", namesrv=cluster.namesrv, send_timeout=10) as producer, consumer:

        def restart() -> None:
            cluster.stop_broker("broker-a")
            cluster.start_broker("broker-a")
            producer.send(Message("leaks", "x"))

        for _ in range(5):
            restart()
        before, memory = held(), resident()
        for _ in range(count):
            restart()
        assert settled(before) == {}
        assert resident() - memory < 24 * MIB


def test_lives(cluster: EmbeddedCluster) -> None:
    lives(cluster, 20)


def test_broker_restarts(cluster: EmbeddedCluster) -> None:
    restarts(cluster, 10)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_lives(cluster: EmbeddedCluster) -> None:
    lives(cluster, 1000)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_five_hundred_broker_restarts(cluster: EmbeddedCluster) -> None:
    restarts(cluster, 500)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_million_messages(cluster: EmbeddedCluster) -> None:
    count = 0

    def listener(msgs: list[Any]) -> None:
        nonlocal count
        count += len(msgs)

    consumer = PushConsumer("leaks", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, consume_batch_size=32)
    consumer.subscribe("leaks")
    consumer.register_listener(listener)
    with Producer("leaks", namesrv=cluster.namesrv) as producer, consumer:

        def send(batches: int) -> None:
            wanted = count + batches * 100
            for _ in range(batches):
                producer.send_batch([Message("leaks", b"x" * 16) for _ in range(100)])
            with gevent.Timeout(600, AssertionError(f"{wanted - count} messages are missing")):
                while count < wanted:
                    gevent.sleep(0.1)

        send(2_000)
        before, memory = held(), resident()
        send(8_000)
        assert settled(before) == {}
        assert resident() - memory < 96 * MIB, "the embedded broker's own bound is within that"
