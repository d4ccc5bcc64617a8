"""Metrics by the real library: what is counted is what happened, in one process and in several."""

from __future__ import annotations

import json
import re
from typing import Any

import gevent
import pytest

from grocketmq import (
    ClientStateError,
    ConsumeFromWhere,
    ConsumeMessageContext,
    Message,
    MessageError,
    MessageExt,
    MessageQueue,
    Producer,
    PushConsumer,
    SendError,
    SendMessageContext,
    SendMode,
)
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import close
from tests.meta.source import ROOT
from tests.programs import run_program

prometheus_client = pytest.importorskip("prometheus_client")

from grocketmq.contrib.prometheus import PrometheusHook  # noqa: E402


@pytest.fixture
def registry() -> Any:
    return prometheus_client.CollectorRegistry()


def test_counts(cluster: EmbeddedCluster, registry: Any) -> None:
    hook = PrometheusHook(registry)
    value = registry.get_sample_value
    consumer = PushConsumer("c", namesrv=cluster.namesrv, hooks=[hook], consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe("web")

    @consumer.listener
    def listener(msgs: list[Any]) -> None:
        if msgs[0].body == b"bad" and msgs[0].reconsume_times == 0:
            raise ZeroDivisionError

    with Producer("p", namesrv=cluster.namesrv, hooks=[hook], retries=0, send_timeout=1.0) as producer, consumer:
        for body in ("four", "bad"):
            producer.send(Message("web", body))
        producer.send_batch([Message("web", "12"), Message("web", "34")])
        labels = {"topic": "web", "group": "c"}
        with gevent.Timeout(10, AssertionError("not consumed")):
            while value("rocketmq_consumed_total", labels) != 3.0:
                gevent.sleep(0.01)
        assert value("rocketmq_consume_failed_total", labels) == 1.0
        assert value("rocketmq_listener_seconds_count", labels) == 4.0
        assert value("rocketmq_delivery_seconds_count", labels) == 4.0
        assert value("rocketmq_consumer_queues", {"group": "c"}) >= 8.0
        assert value("rocketmq_hub_lag_seconds", {"client_id": consumer.client_id}) >= 0.0
        assert value("rocketmq_calls_in_flight", {"client_id": consumer.client_id}) > 0.0, "long polls"
        cluster.control(RequestCode.SEND_MESSAGE_V2, close, times=None)
        with pytest.raises(SendError):
            producer.send(Message("web", "x"))
    labels = {"topic": "web", "group": "p"}
    assert value("rocketmq_sends_total", {**labels, "outcome": "ok"}) == 3.0
    assert value("rocketmq_sends_total", {**labels, "outcome": "SendError"}) == 1.0
    assert value("rocketmq_sent_messages_total", labels) == 4.0
    assert value("rocketmq_sent_bytes_total", labels) == 11.0
    assert value("rocketmq_send_seconds_count", labels) == 4.0


def test_what_is_counted_here_reads_as_what_the_library_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The plain numbers of one process, and the library's own metrics, which several processes take."""
    queue = MessageQueue("web", "b", 0)
    seconds = (0.0, 0.001, 0.0011, 0.3, 60.0, 61.0)
    texts = []
    for several in (False, True):
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path) if several else "")
        registry = prometheus_client.CollectorRegistry()
        hook = PrometheusHook(registry, clients=False)
        for one in seconds:
            message = Message("web", "x" * 7)
            error = ValueError() if one > 60.0 else None
            hook.after_send(SendMessageContext("g", [message, message], SendMode.SYNC, 0, error=error, seconds=one))
            stored = MessageExt("web", b"x", store_timestamp=2**60)  # a clock that is ahead
            hook.after_consume(ConsumeMessageContext("g", queue, [stored] * 3, consumed=2, seconds=one))
        lines = prometheus_client.generate_latest(registry).decode().splitlines()
        texts.append(sorted(line for line in lines if "_created" not in line))
    assert texts[0] == texts[1]
    assert 'rocketmq_send_seconds_bucket{group="g",le="0.001",topic="web"} 2.0' in texts[0]
    assert 'rocketmq_sent_bytes_total{group="g",topic="web"} 70.0' in texts[0]


def test_a_part_of_the_metrics_can_be_asked_for(registry: Any) -> None:
    hook = PrometheusHook(registry, clients=False)
    hook.after_send(SendMessageContext("g", [Message("web", "x")], SendMode.SYNC, 0))
    [only] = registry.restricted_registry(["rocketmq_sends_total"]).collect()
    assert [(sample.name, sample.value) for sample in only.samples] == [("rocketmq_sends_total", 1.0)]
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusHook(registry, clients=False)


MULTI = """
import os, gevent
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from grocketmq import Message, Producer
from grocketmq.contrib.prometheus import PrometheusHook

producer = Producer("multi", hooks=[PrometheusHook()])
producer.start()
for _ in range(2):
    if os.fork() == 0:
        producer.send(Message("web", "x"))
        os._exit(0)
producer.send(Message("web", "x"))
for _ in range(2):
    assert os.wait()[1] == 0
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
producer.shutdown()
"""


def test_several_processes(cluster: EmbeddedCluster, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    done = run_program("-c", MULTI, namesrv=cluster.namesrv)
    assert done.status == 0, done.stderr
    assert re.search(r'rocketmq_sends_total\{group="multi",outcome="ok",topic="web"\} 3.0', done.stdout), done.stdout


GAUGES = """
import os, time, gevent
from prometheus_client import CollectorRegistry, multiprocess
from grocketmq import ConsumeFromWhere, PushConsumer
from grocketmq.contrib import prometheus

prometheus._WRITE_INTERVAL = 0.02
metrics = prometheus.PrometheusHook()


def value(name):
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    samples = [sample for family in registry.collect() for sample in family.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


def until(wanted, name):
    end = time.monotonic() + 20
    while value(name) != wanted:
        assert time.monotonic() < end, f"{name}: {value(name)}, not {wanted}"
        gevent.sleep(0.01)


def consumer():
    one = PushConsumer("gauged", hooks=[metrics])
    one.subscribe("web")
    one.register_listener(print)
    return one


first = consumer()
first.start()
until({("gauged",): 10.0}, "rocketmq_consumer_queues")
assert set(value("rocketmq_hub_lag_seconds")) == {(first.client_id,)}
child = os.fork()
if not child:
    with consumer() as second:
        while len(second.queues()) < 3:  # some of them are its own now
            gevent.sleep(0.01)
        until({("gauged",): 10.0}, "rocketmq_consumer_queues")
        assert len(value("rocketmq_hub_lag_seconds")) == 2, value("rocketmq_hub_lag_seconds")
    os._exit(0)
while not (ended := os.waitpid(child, os.WNOHANG))[0]:
    gevent.sleep(0.01)
assert ended[1] == 0
multiprocess.mark_process_dead(child)
until({("gauged",): 10.0}, "rocketmq_consumer_queues")
first.shutdown()
until({("gauged",): 0.0}, "rocketmq_consumer_queues")
metrics._gauges._writer.join(5)
assert metrics._gauges._writer.dead
"""


def test_gauges_of_several_processes(cluster: EmbeddedCluster, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    cluster.create_topic("web", queues=4)
    done = run_program("-c", GAUGES, namesrv=cluster.namesrv)
    assert done.status == 0, done.stderr


def test_a_client_that_does_not_tell_is_left_out(
    cluster: EmbeddedCluster, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    PrometheusHook(registry)
    with Producer("good", namesrv=cluster.namesrv) as good, Producer("bad", namesrv=cluster.namesrv, instance_name="x") as bad:

        def fail() -> None:
            raise ClientStateError("its event loop does not turn")

        monkeypatch.setattr(bad, "debug_dump", fail)
        lags = registry.restricted_registry(["rocketmq_hub_lag_seconds"]).collect()
        assert [one.labels for family in lags for one in family.samples] == [{"client_id": good.client_id}]


@pytest.mark.parametrize("topic", [None, 5])
def test_a_wrong_topic_does_not_spoil_the_page(cluster: EmbeddedCluster, registry: Any, topic: Any) -> None:
    with Producer("p", namesrv=cluster.namesrv, hooks=[PrometheusHook(registry)]) as producer:
        message = Message("web", "x")
        message.topic = topic
        for wrong in (message, "no message"):
            with pytest.raises(MessageError):
                producer.send(wrong)
    assert f'rocketmq_sends_total{{group="p",outcome="MessageError",topic="{topic}"}} 1.0' in (
        prometheus_client.generate_latest(registry).decode()
    )


def test_dashboard_shows_metrics_that_are_there(registry: Any) -> None:
    PrometheusHook(registry)
    there = {name for metric in registry.collect() for name in (metric.name, f"{metric.name}_total", f"{metric.name}_bucket")}
    there |= {"rocketmq_hub_lag_seconds", "rocketmq_calls_in_flight", "rocketmq_consumer_queues"}
    board = json.loads((ROOT / "examples" / "grafana" / "rocketmq.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) >= 8
    for query in queries:
        names = re.findall(r"rocketmq_\w+", query)
        assert names
        assert set(names) <= there, query
