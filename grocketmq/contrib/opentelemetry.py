"""Spans for OpenTelemetry: of sends and of listeners, joined over processes by message properties.

::

    from grocketmq.contrib.opentelemetry import OpenTelemetryHook

    tracing = OpenTelemetryHook()
    producer = Producer("shop", hooks=[tracing])
    consumer = PushConsumer("shop-mail", hooks=[tracing])

It needs ``opentelemetry-api``; without an SDK it does nothing.  Start an SDK's exporters, which have threads, after a fork
(gunicorn: ``post_worker_init``).

A send is a span ``send TOPIC`` (producer), a child of the span in which it was called.  Its context travels in the message's
properties (``traceparent`` with the usual propagator).  A call of the listener is a span ``process TOPIC`` (consumer): with one
message a child of the send's span, with several linked to each of them.  Spans that the listener makes are children of it.

Source: OpenTelemetry semantic conventions for messaging, 1.27 and later.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import context as context_api
from opentelemetry import propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from grocketmq.hooks import ConsumeMessageContext, SendMessageContext
from grocketmq.model.message import Message

__all__ = ["OpenTelemetryHook"]


class OpenTelemetryHook:
    """A hook that makes spans; one may be given to any number of clients.

    :param tracer_provider: makes the tracer; None for the global one.
    """

    def __init__(self, tracer_provider: Any = None) -> None:
        self._tracer = trace.get_tracer("grocketmq", tracer_provider=tracer_provider)

    def before_send(self, context: SendMessageContext) -> None:
        """Begin a span, and put its context into the messages."""
        messages = context.messages
        topic = context.message.topic
        span = self._tracer.start_span(
            f"send {topic}",
            kind=SpanKind.PRODUCER,
            attributes={**_attributes("send", topic, messages), "messaging.rocketmq.client_group": context.group},
        )
        context.data[self] = span
        with_span = trace.set_span_in_context(span)
        for message in messages:
            propagate.inject(message.properties, context=with_span)

    def after_send(self, context: SendMessageContext) -> None:
        """End the span."""
        span = context.data.pop(self, None)
        if span is not None:
            if context.result is not None:
                span.set_attribute("messaging.message.id", context.result.msg_id)
                span.set_attribute("messaging.destination.partition.id", str(context.result.message_queue.queue_id))
            _end(span, context.error)

    def before_consume(self, context: ConsumeMessageContext) -> None:
        """Begin a span around the listener."""
        messages = context.messages
        queue = context.message_queue
        senders = [propagate.extract(message.properties, context=context_api.Context()) for message in messages]
        links = [Link(trace.get_current_span(sender).get_span_context()) for sender in senders]
        attributes = {
            **_attributes("process", queue.topic, messages),
            "messaging.consumer.group.name": context.group,
            "messaging.destination.partition.id": str(queue.queue_id),
        }
        if len(messages) == 1:
            attributes["messaging.message.id"] = messages[0].msg_id
        span = self._tracer.start_span(
            f"process {queue.topic}",
            context=senders[0] if len(messages) == 1 else None,
            kind=SpanKind.CONSUMER,
            links=None if len(messages) == 1 else [link for link in links if link.context.is_valid],
            attributes=attributes,
        )
        context.data[self] = (span, context_api.attach(trace.set_span_in_context(span)))

    def after_consume(self, context: ConsumeMessageContext) -> None:
        """End it."""
        found = context.data.pop(self, None)
        if found is not None:
            span, token = found
            context_api.detach(token)
            if context.error is None and not context.success:
                span.set_status(Status(StatusCode.ERROR, f"{len(context.messages) - context.consumed} not consumed"))
            _end(span, context.error)


def _attributes(operation: str, topic: str, messages: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "messaging.system": "rocketmq",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }
    if len(messages) > 1:
        found["messaging.batch.message_count"] = len(messages)
        return found
    message: Message = messages[0]
    found["messaging.message.body.size"] = len(message.body)
    if message.tags:
        found["messaging.rocketmq.message.tag"] = message.tags
    if message.keys:
        found["messaging.rocketmq.message.keys"] = message.keys.split()
    return found


def _end(span: Any, error: BaseException | None) -> None:
    if error is not None:
        span.record_exception(error)
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end()
