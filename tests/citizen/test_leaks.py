"""The same number of greenlets, descriptors and watchers after a thousand lives as after ten, and about the same memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from grocketmq import (
    AutoBatch,
    ConsumeFromWhere,
    LitePullConsumer,
    LocalTransactionState,
    Message,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionProducer,
)
from grocketmq.embedded import EmbeddedCluster

MIB = 1024 * 1024
#: Whatever the event loop watches: sockets, timers, checks, also those that do not keep it running, which it does not count.
_WATCHER = next(kind for kind in type(gevent.get_hub().loop.timer(0)).__mro__ if kind.__name__ == "watcher")


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
        "watchers": sum(1 for one in gc.get_objects() if isinstance(one, _WATCHER) and one.active),
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


KINDS = ("push", "orderly", "pop", "lite", "simple")


def live(cluster: EmbeddedCluster, kind: str) -> None:
    """One life of a producer and a consumer, of all that they have."""
    got: list[Any] = []
    common: dict[str, Any] = {"namesrv": cluster.namesrv, "consume_from": ConsumeFromWhere.FIRST_OFFSET}
    consumer: Any
    if kind in ("lite", "simple"):
        consumer = (LitePullConsumer if kind == "lite" else SimpleConsumer)(f"leaks-{kind}", **common)
    else:
        consumer = PushConsumer(f"leaks-{kind}", pop=kind == "pop", trace=kind == "push", hub_hold_limit=1.0, **common)
        consumer.register_listener(got.extend, orderly=kind == "orderly")
    consumer.subscribe("leaks")
    with producer(cluster) as sender, consumer:
        sender.send_in_transaction(Message("leaks", "x"))
        sender.send_async(Message("leaks", "y")).get(timeout=10)
        with gevent.Timeout(10, AssertionError(f"{kind}: not consumed")):
            while not got:
                if kind == "lite":
                    got.extend(consumer.poll(0.1))
                elif kind == "simple":
                    got.extend(consumer.receive(wait=0.1))
                else:
                    gevent.sleep(0.001)
        if kind == "simple":
            for message in got:
                consumer.ack(message)


def producer(cluster: EmbeddedCluster) -> TransactionProducer:
    commit = LocalTransactionState.COMMIT
    return TransactionProducer(
        "leaks",
        namesrv=cluster.namesrv,
        execute=lambda msg, arg: commit,
        check=lambda msg: commit,
        auto_batch=AutoBatch(max_delay=0.001),
        latency_fault_tolerance=True,
    )


def lives(cluster: EmbeddedCluster, count: int) -> None:
    for number in range(2 * len(KINDS)):
        live(cluster, KINDS[number % len(KINDS)])
    before, memory = held(), resident()
    for number in range(count):
        live(cluster, KINDS[number % len(KINDS)])
    assert settled(before) == {}
    assert resident() - memory < 24 * MIB
    print(f"{(resident() - memory) / MIB:.1f} MiB more, {before}")


def restarts(cluster: EmbeddedCluster, count: int, *, patient: bool) -> None:
    """The producer connects anew each time, and the consumer, which takes a second, if there is patience."""
    got: list[str] = []
    consumer = PushConsumer("leaks", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe("leaks")
    consumer.register_listener(lambda msgs: got.extend(msg.body.decode() for msg in msgs))
    with Producer("leaks", namesrv=cluster.namesrv, send_timeout=10, instance_name="another") as producer, consumer:

        def restart(body: str, patient: bool) -> None:
            cluster.stop_broker("broker-a")
            cluster.start_broker("broker-a")
            producer.send(Message("leaks", body))
            with gevent.Timeout(20, AssertionError(f"{body} is not consumed")):
                while patient and body not in got:
                    gevent.sleep(0.002)
            got.clear()

        for number in range(3):
            restart(f"first {number}", patient=number == 2)  # or the consumer's connection is not there when they are counted
        before, memory = held(), resident()
        for number in range(count):
            restart(str(number), patient)
        assert settled(before) == {}
        assert resident() - memory < 24 * MIB
        print(f"{(resident() - memory) / MIB:.1f} MiB more, {before}")


def test_lives(cluster: EmbeddedCluster) -> None:
    lives(cluster, 20)


def test_broker_restarts(cluster: EmbeddedCluster) -> None:
    restarts(cluster, 10, patient=False)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_lives(cluster: EmbeddedCluster) -> None:
    lives(cluster, 1000)


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_five_hundred_broker_restarts(cluster: EmbeddedCluster) -> None:
    restarts(cluster, 500, patient=True)


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
        print(f"{(resident() - memory) / MIB:.1f} MiB more, {before}")
