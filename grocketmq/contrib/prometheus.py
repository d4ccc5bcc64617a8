"""Metrics for Prometheus, from the hooks of clients and from what they tell of themselves.

::

    from grocketmq.contrib.prometheus import PrometheusHook

    metrics = PrometheusHook()
    producer = Producer("shop", hooks=[metrics])
    consumer = PushConsumer("shop-mail", hooks=[metrics])

===================================  ========================  ===============================================================
metric                               labels                    meaning
===================================  ========================  ===============================================================
``rocketmq_sends_total``             topic, group, outcome     calls of ``send`` and its sisters; outcome is ``ok`` or the
                                                               name of the error
``rocketmq_sent_messages_total``     topic, group              messages that brokers have stored
``rocketmq_sent_bytes_total``        topic, group              their bodies
``rocketmq_send_seconds``            topic, group              a histogram: calls, all their tries
``rocketmq_consumed_total``          topic, group              messages that listeners have consumed
``rocketmq_consume_failed_total``    topic, group              messages that they have not
``rocketmq_listener_seconds``        topic, group              a histogram: calls of the listener
``rocketmq_delivery_seconds``        topic, group              a histogram: from a message's storing to its listener, by the
                                                               clocks of two machines
``rocketmq_hub_lag_seconds``         client_id                 how late the event loop was at worst in the last half minute
``rocketmq_calls_in_flight``         client_id                 calls that wait for an answer
``rocketmq_consumer_queues``         group                     queues that this process has
``rocketmq_consumer_cached``         group                     messages that were pulled and not consumed
``rocketmq_consumer_lag``            group                     the same and what brokers held beyond those at the last pull
===================================  ========================  ===============================================================

The last five are read when they are asked for.  In the multi-process mode of ``prometheus_client``
(``PROMETHEUS_MULTIPROC_DIR``) they are left out, since only the process that is asked could tell its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from time import time
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

from grocketmq import LitePullConsumer, PushConsumer
from grocketmq.client.base import BaseClient
from grocketmq.client.leaving import started_clients
from grocketmq.hooks import ConsumeMessageContext, SendMessageContext

__all__ = ["ClientCollector", "PrometheusHook"]

_LABELS = ("topic", "group")
#: Seconds: from a broker beside us to one that is in trouble.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class PrometheusHook:
    """A hook that counts and measures; make one for a process, and give it to all clients.

    :param registry: where the metrics are registered.
    :param clients: whether to register a :class:`ClientCollector` too.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, clients: bool = True) -> None:
        self._sends = Counter("rocketmq_sends", "Calls of send", (*_LABELS, "outcome"), registry=registry)
        self._messages = Counter("rocketmq_sent_messages", "Messages stored", _LABELS, registry=registry)
        self._bytes = Counter("rocketmq_sent_bytes", "Bytes of bodies stored", _LABELS, registry=registry)
        self._send_seconds = Histogram("rocketmq_send_seconds", "Calls of send", _LABELS, registry=registry, buckets=_BUCKETS)
        self._consumed = Counter("rocketmq_consumed", "Messages consumed", _LABELS, registry=registry)
        self._failed = Counter("rocketmq_consume_failed", "Messages not consumed", _LABELS, registry=registry)
        self._listener = Histogram("rocketmq_listener_seconds", "Listener calls", _LABELS, registry=registry, buckets=_BUCKETS)
        self._delivery = Histogram(
            "rocketmq_delivery_seconds", "From storing to the listener", _LABELS, registry=registry, buckets=_BUCKETS
        )
        #: Looking a metric up by its labels takes longer than counting with it.
        self._of_sends: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._of_listeners: dict[tuple[str, str], tuple[Any, ...]] = {}
        if clients and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry.register(ClientCollector())

    def after_send(self, context: SendMessageContext) -> None:
        """Count a call of send."""
        labels = (context.message.topic, context.group)
        metrics = self._of_sends.get(labels)
        if metrics is None:
            metrics = self._of_sends[labels] = (
                self._sends.labels(*labels, "ok"),
                self._send_seconds.labels(*labels),
                self._messages.labels(*labels),
                self._bytes.labels(*labels),
            )
        sends, seconds, messages, sent_bytes = metrics
        seconds.observe(context.seconds)
        if context.error is None:
            sends.inc()
            messages.inc(len(context.messages))
            sent_bytes.inc(sum(len(message.body) for message in context.messages))
        else:
            self._sends.labels(*labels, type(context.error).__name__).inc()

    def before_consume(self, context: ConsumeMessageContext) -> None:
        """Measure how long messages were on their way."""
        delivery = self._listener_metrics(context)[0]
        now = time()
        for message in context.messages:
            delivery.observe(max(0.0, now - message.store_timestamp / 1000))

    def after_consume(self, context: ConsumeMessageContext) -> None:
        """Count a call of the listener."""
        _, seconds, consumed, failed = self._listener_metrics(context)
        seconds.observe(context.seconds)
        consumed.inc(context.consumed)
        left = len(context.messages) - context.consumed
        if left:
            failed.inc(left)

    def _listener_metrics(self, context: ConsumeMessageContext) -> tuple[Any, ...]:
        labels = (context.message_queue.topic, context.group)
        found = self._of_listeners.get(labels)
        if found is None:
            metrics = (self._delivery, self._listener, self._consumed, self._failed)
            found = self._of_listeners[labels] = tuple(metric.labels(*labels) for metric in metrics)
        return found


class ClientCollector:
    """Reads gauges from the clients that this process has started, when it is asked to; never blocks."""

    def collect(self) -> Iterable[Any]:
        """The gauges."""
        lag = GaugeMetricFamily("rocketmq_hub_lag_seconds", "Worst lateness of the event loop", labels=["client_id"])
        calls = GaugeMetricFamily("rocketmq_calls_in_flight", "Calls that wait for an answer", labels=["client_id"])
        queues = GaugeMetricFamily("rocketmq_consumer_queues", "Queues of this process", labels=["group"])
        cached = GaugeMetricFamily("rocketmq_consumer_cached", "Messages pulled, not consumed", labels=["group"])
        behind = GaugeMetricFamily("rocketmq_consumer_lag", "Messages not consumed, as of the last pull", labels=["group"])
        instances: dict[str, tuple[float, int]] = {}
        for client in started_clients():
            if isinstance(client, BaseClient):
                told = client.debug_dump()
                if (shared := told.get("instance")) is not None:
                    in_flight = sum(one["in_flight"] for one in shared["connections"].values())
                    instances[str(client.client_id)] = (told["process"]["hub_lag"]["worst"], in_flight)
                if isinstance(client, PushConsumer | LitePullConsumer):
                    stats = client.stats()
                    queues.add_metric([client.group], len(stats.lag))
                    cached.add_metric([client.group], stats.cached_messages)
                    behind.add_metric([client.group], sum(stats.lag.values()))
        for name, (worst, in_flight) in instances.items():
            lag.add_metric([name], worst)
            calls.add_metric([name], in_flight)
        return [lag, calls, queues, cached, behind]
