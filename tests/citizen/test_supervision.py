"""What a running client tells of itself, and of the listener that holds everything up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq import ConsumeFromWhere, LitePullConsumer, Message, Producer, PushConsumer
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


#: What works in the background, of every client's instance and of each kind of consumer.
SHARED = {"update routes", "heartbeat", "rebalance", "persist offsets"}
LOOPS = {
    "push": {"pull service", "listener", "check subscriptions", "sample stats", "clean expired", "send traces"},
    "orderly": {"pull service", "listener", "check subscriptions", "sample stats", "renew locks"},
    "pop": {"pop", "listener", "check subscriptions", "sample stats", "acknowledge at"},
    "lite": {"pull", "check subscriptions", "sample stats"},
}


@pytest.mark.parametrize("kind", LOOPS)
def test_every_loop_that_fails_is_counted_and_comes_back(cluster: EmbeddedCluster, kind: str) -> None:
    """An error is thrown into everything that runs in the background; then messages come as before."""
    got: list[str] = []
    common: dict[str, Any] = {"namesrv": cluster.namesrv, "consume_from": ConsumeFromWhere.FIRST_OFFSET}
    consumer: Any
    if kind == "lite":
        consumer = LitePullConsumer("chaos", **common)
    else:
        consumer = PushConsumer("chaos", pop=kind == "pop", listener_concurrency=3, trace=kind == "push", **common)
        consumer.register_listener(lambda msgs: got.extend(msg.body.decode() for msg in msgs), orderly=kind == "orderly")
    consumer.subscribe("watched")
    with Producer("chaos", namesrv=cluster.namesrv, instance_name="another") as producer, consumer:

        def consume(body: str) -> None:
            producer.send(Message("watched", body))
            with gevent.Timeout(15, AssertionError(f"{body!r} does not come: {consumer.debug_dump()}")):
                while body not in got:
                    got.extend(msg.body.decode() for msg in consumer.poll(0.01)) if kind == "lite" else gevent.sleep(0.01)

        def told(what: str) -> set[str]:
            dump = consumer.debug_dump()
            return {name for part in (dump, dump["instance"], dump.get("trace", {})) for name in part.get(what, ())}

        consume("before")
        wanted = SHARED | LOOPS[kind]
        assert wanted <= told("greenlets")
        traces = [consumer._trace._tasks] if kind == "push" else []
        for group in (consumer._tasks, consumer._instance.tasks, *traces):
            for greenlet in list(group._group):
                greenlet.kill(ZeroDivisionError("on purpose"), block=False)
        with gevent.Timeout(10, AssertionError("not all are counted")):
            while [name for name in wanted if name not in " ".join(told("failures"))]:
                gevent.sleep(0.01)
        gevent.sleep(0.05)
        assert wanted <= told("greenlets")
        assert any("watched" in queue for queue in consumer.debug_dump()["queues"]) or kind == "pop"
        consume("after")
