"""Listeners that burn CPU in small pieces, many at once: sends are answered, and heartbeats leave, on time meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import gevent
import pytest

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster

#: Seconds a message takes; how many come at once, for how many greenlets.
PIECE, COUNT, LISTENERS = 0.004, 150, 20
HEARTBEATS = 0.05


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        cluster.create_topic("busy", queues=1)
        cluster.create_topic("meanwhile")
        yield cluster


@pytest.mark.parametrize("kind", ["concurrent", "orderly", "popping"])
def test_sends_and_heartbeats_meanwhile(cluster: EmbeddedCluster, kind: str) -> None:
    consumed = 0

    def listener(msgs: list[Any]) -> None:
        nonlocal consumed
        until = perf_counter() + PIECE
        while perf_counter() < until:
            pass
        consumed += 1

    beats: list[float] = []
    latencies: list[float] = []

    def note_beat(taken: Any) -> None:
        beats.append(perf_counter())
        taken.serve()

    consumer = PushConsumer(
        "busy",
        namesrv=cluster.namesrv,
        consume_from=ConsumeFromWhere.FIRST_OFFSET,
        listener_concurrency=LISTENERS,
        pull_batch_size=COUNT,
        heartbeat_interval=HEARTBEATS,
        pop=kind == "popping",
    )
    consumer.subscribe("busy")
    consumer.register_listener(listener, orderly=kind == "orderly")
    with Producer("meanwhile", namesrv=cluster.namesrv, instance_name="another") as producer:
        for _ in range(COUNT // 30):
            producer.send_batch([Message("busy", "x")] * 30)
        producer.send(Message("meanwhile", "x"))
        with consumer, gevent.Timeout(30, AssertionError(f"{consumed} consumed")):
            while not consumed:
                gevent.sleep(0.001)
            cluster.control(RequestCode.HEART_BEAT, note_beat, times=None)
            while consumed < COUNT:
                began = perf_counter()
                producer.send(Message("meanwhile", "x"))
                latencies.append(perf_counter() - began)
    assert len(latencies) >= 10, "listeners let sends through"
    assert sorted(latencies)[len(latencies) // 2] < 0.1
    assert len(beats) >= 4, "of more than half a second"
