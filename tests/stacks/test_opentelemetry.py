"""Spans by the real SDK: one trace from the sender's request to what the listener does, over two processes."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from grocketmq import ConsumeFromWhere, Message, MessageError, Producer, PushConsumer
from grocketmq.embedded import EmbeddedCluster
from tests.programs import run_program

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id

from grocketmq.contrib.opentelemetry import OpenTelemetryHook

SENDER = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_trace_id, format_span_id
from grocketmq import Message, Producer
from grocketmq.contrib.opentelemetry import OpenTelemetryHook

provider = TracerProvider()
with Producer("sender", hooks=[OpenTelemetryHook(provider)]) as producer:
    with provider.get_tracer("web").start_as_current_span("request") as span:
        producer.send(Message("web", "from afar", tags="created", keys="k1"))
    print(format_trace_id(span.get_span_context().trace_id))
"""


def test_one_trace_over_two_processes(cluster: EmbeddedCluster) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("worker")
    consumer = PushConsumer(
        "traced",
        namesrv=cluster.namesrv,
        hooks=[OpenTelemetryHook(provider)],
        consume_from=ConsumeFromWhere.FIRST_OFFSET,
    )
    consumer.subscribe("web")

    @consumer.listener
    def listener(msgs: list[Any]) -> None:
        with tracer.start_as_current_span("work"):
            gevent.sleep(0.01)
        raise ZeroDivisionError("on purpose")

    done = run_program("-c", SENDER, namesrv=cluster.namesrv)
    assert done.status == 0, done.stderr
    with consumer, gevent.Timeout(10, AssertionError("no spans")):
        while len(exporter.get_finished_spans()) < 2:
            gevent.sleep(0.01)
    work, process = exporter.get_finished_spans()[:2]
    assert (work.name, process.name) == ("work", "process web")
    assert {format_trace_id(span.context.trace_id) for span in (work, process)} == {done.stdout.strip()}
    assert work.parent.span_id == process.context.span_id
    assert process.parent.is_remote
    assert process.kind is SpanKind.CONSUMER
    assert process.status.status_code is StatusCode.ERROR
    assert process.attributes["messaging.system"] == "rocketmq"
    assert process.attributes["messaging.consumer.group.name"] == "traced"
    assert process.attributes["messaging.rocketmq.message.tag"] == "created"
    assert process.attributes["error.type"] == "ZeroDivisionError"


def test_sends(cluster: EmbeddedCluster) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with Producer("sender", namesrv=cluster.namesrv, hooks=[OpenTelemetryHook(provider)]) as producer:
        first = Message("web", "x")
        result = producer.send(first)
        producer.send_async(Message("web", "y")).get(timeout=5)
        producer.send_batch([Message("web", "1"), Message("web", "2")])
        with pytest.raises(MessageError):
            producer.send(Message("web", b""))
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["send web"] * len(spans)
    assert len(spans) >= 3
    assert spans[0].attributes["messaging.message.id"] == result.msg_id
    assert spans[0].kind is SpanKind.PRODUCER
    assert format_trace_id(spans[0].context.trace_id) in first.properties["traceparent"]
    assert {span.attributes.get("messaging.batch.message_count") for span in spans} == {None, 2}
