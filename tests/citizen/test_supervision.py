"""What a running client tells of itself, and of the listener that holds everything up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer
from grocketmq.embedded import EmbeddedCluster


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        cluster.create_topic("watched")
        yield cluster


def busy_listener(msgs: list[Any]) -> None:
    until = perf_counter() + 0.5
    while perf_counter() < until:
        pass


def test_a_listener_that_holds_the_event_loop(cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    """It is named with its stack; meanwhile its consumer stays a member, and every send is answered."""
    consumer = PushConsumer(
        "busy",
        namesrv=cluster.namesrv,
        consume_from=ConsumeFromWhere.FIRST_OFFSET,
        heartbeat_interval=0.2,
        hub_hold_limit=0.1,
    )
    consumer.subscribe("watched")
    consumer.register_listener(busy_listener)
    with Producer("watched", namesrv=cluster.namesrv) as producer, consumer:
        for number in range(3):
            producer.send(Message("watched", str(number)))
        with gevent.Timeout(10, AssertionError(caplog.text)):
            while "held the event loop" not in caplog.text:
                gevent.sleep(0.01)
        assert consumer.client_id in consumer.consumer_ids("busy", "watched")
        assert consumer.debug_dump()["process"]["hub_lag"]["worst"] > 0.3
    assert "'busy_listener'" in caplog.text
    assert "while perf_counter() < until" in caplog.text or "in busy_listener" in caplog.text


def test_debug_dump(cluster: EmbeddedCluster) -> None:
    at_work, go_on = Event(), Event()
    consumer = PushConsumer("told", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, listener_concurrency=3)
    consumer.subscribe("watched")

    @consumer.listener
    def listener(msgs: list[Any]) -> None:
        at_work.set()
        go_on.wait(10)

    producer = Producer("told", namesrv=cluster.namesrv)
    assert "instance" not in json.dumps(producer.debug_dump())
    with producer, consumer:
        producer.send(Message("watched", "x"))
        at_work.wait(10)
        told = consumer.debug_dump()
        json.dumps(told)
        assert told["greenlets"]["listener"] == 3
        assert told["greenlets"]["pull service"] == 1
        assert {"heartbeat", "rebalance", "update routes", "persist offsets"} <= told["instance"]["greenlets"].keys()
        assert told["instance"]["connections"][cluster.broker_address("broker-a")]["state"] == "open"
        assert len(told["instance"]["members"]) == 2
        assert sum(one["in_flight"] for one in told["instance"]["connections"].values()) > 0, "long polls"
        assert {name for name in told["queues"] if "watched" in name}
        go_on.set()
        assert producer.debug_dump()["sends_under_way"] == 0


def test_debug_dump_names_what_failed(cluster: EmbeddedCluster) -> None:
    with Producer("failing", namesrv=cluster.namesrv) as producer:
        producer._instance.tasks.spawn("bad", lambda: 1 / 0).join()
        told = producer.debug_dump()["instance"]
        assert told["failures"] == {"bad": 1}
        assert "ZeroDivisionError" in json.dumps(told["last_failures"])
