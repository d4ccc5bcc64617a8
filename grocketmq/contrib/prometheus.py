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
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf
from time import time
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

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
        several = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))

        def counter(name: str, text: str, labels: Sequence[str] = _LABELS) -> Any:
            return Counter(name, text, labels, registry=registry) if several else tally(_Count, name, text, labels)

        def histogram(name: str, text: str) -> Any:
            if several:
                return Histogram(name, text, _LABELS, registry=registry, buckets=_BUCKETS)
            return tally(_Times, name, text, _LABELS)

        def tally(kind: type[_Count | _Times], name: str, text: str, labels: Sequence[str]) -> _Tally:
            made = _Tally(kind, name, text, labels)
            registry.register(made)
            return made

        self._sends = counter("rocketmq_sends", "Calls of send", (*_LABELS, "outcome"))
        self._messages = counter("rocketmq_sent_messages", "Messages stored")
        self._bytes = counter("rocketmq_sent_bytes", "Bytes of bodies stored")
        self._send_seconds = histogram("rocketmq_send_seconds", "Calls of send")
        self._consumed = counter("rocketmq_consumed", "Messages consumed")
        self._failed = counter("rocketmq_consume_failed", "Messages not consumed")
        self._listener = histogram("rocketmq_listener_seconds", "Listener calls")
        self._delivery = histogram("rocketmq_delivery_seconds", "From storing to the listener")
        #: Looking a metric up by its labels takes longer than counting with it.
        self._of_sends: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._of_listeners: dict[tuple[str, str], tuple[Any, ...]] = {}
        if clients and not several:
            registry.register(ClientCollector())

    def after_send(self, context: SendMessageContext) -> None:
        """Count a call of send."""
        labels = (context.messages[0].topic, context.group)
        sends, seconds, messages, sent_bytes = self._of_sends.get(labels) or self._new_of_sends(labels)
        seconds.observe(context.seconds)
        if context.error is None:
            sends.inc(1)
            messages.inc(len(context.messages))
            size = 0
            for message in context.messages:
                size += len(message.body)
            sent_bytes.inc(size)
        else:
            self._sends.labels(*labels, type(context.error).__name__).inc(1)

    def after_consume(self, context: ConsumeMessageContext) -> None:
        """Count a call of the listener, and measure how long its messages were on their way to it."""
        labels = (context.message_queue.topic, context.group)
        delivery, seconds, consumed, failed = self._of_listeners.get(labels) or self._new_of_listeners(labels)
        seconds.observe(context.seconds)
        began = time() - context.seconds
        for message in context.messages:
            delivery.observe(max(0.0, began - message.store_timestamp / 1000))
        consumed.inc(context.consumed)
        left = len(context.messages) - context.consumed
        if left:
            failed.inc(left)

    def _new_of_sends(self, labels: tuple[str, str]) -> tuple[Any, ...]:
        metrics = (self._send_seconds, self._messages, self._bytes)
        found = self._of_sends[labels] = (self._sends.labels(*labels, "ok"), *(metric.labels(*labels) for metric in metrics))
        return found

    def _new_of_listeners(self, labels: tuple[str, str]) -> tuple[Any, ...]:
        metrics = (self._delivery, self._listener, self._consumed, self._failed)
        found = self._of_listeners[labels] = tuple(metric.labels(*labels) for metric in metrics)
        return found


class _Count:
    """A counter.  Its line is one step for other threads, and costs a seventh of ``prometheus_client``'s lock and checks."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int) -> None:
        self.value += amount

    @staticmethod
    def family(name: str, text: str, labels: Sequence[str]) -> Metric:
        return CounterMetricFamily(name, text, labels=labels)

    def show(self, family: Any, labels: Sequence[str]) -> None:
        family.add_metric(labels, self.value)


class _Times:
    """A histogram of seconds, likewise."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        bucket = bisect_left(_BUCKETS, seconds)
        self.counts[bucket] += 1
        self.total += seconds

    @staticmethod
    def family(name: str, text: str, labels: Sequence[str]) -> Metric:
        return HistogramMetricFamily(name, text, labels=labels)

    def show(self, family: Any, labels: Sequence[str]) -> None:
        bounds = map(floatToGoString, (*_BUCKETS, inf))
        family.add_metric(labels, [*zip(bounds, accumulate(self.counts), strict=True)], self.total)


class _Tally:
    """What is counted or measured under one name, by its labels; a collector as those of ``prometheus_client``.

    :param kind: of the values.
    :param name: the metric's, without the ending of a counter.
    :param text: what it is.
    :param names: the labels' names.
    """

    def __init__(self, kind: type[_Count | _Times], name: str, text: str, names: Sequence[str]) -> None:
        self._kind = kind
        self._about = (name, text, names)
        self._values: dict[tuple[str, ...], _Count | _Times] = {}

    def labels(self, *labels: str) -> _Count | _Times:
        return self._values.setdefault(labels, self._kind())

    def describe(self) -> Iterable[Metric]:
        return [self._kind.family(*self._about)]

    def collect(self) -> Iterable[Metric]:
        family = self._kind.family(*self._about)
        for labels, value in list(self._values.items()):
            value.show(family, labels)
        return [family]


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
