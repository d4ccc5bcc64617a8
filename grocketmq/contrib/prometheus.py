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
``rocketmq_sent_messages_total``     topic, group              messages that brokers have stored, those sent oneway and half
                                                               messages too
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
(``PROMETHEUS_MULTIPROC_DIR``) each process writes its own every 5 s while it has clients, and the values of one label are
added up over the processes that live.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf
from time import time
from typing import Any

import gevent
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from grocketmq import GRocketMQError, LitePullConsumer, Message, PushConsumer
from grocketmq.client.base import BaseClient
from grocketmq.client.leaving import started_clients
from grocketmq.hooks import ConsumeMessageContext, SendMessageContext
from grocketmq.runtime.forks import drop_in_child
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["ClientCollector", "PrometheusHook"]

_LABELS = ("topic", "group")
#: Seconds: from a broker beside us to one that is in trouble.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: Name to meaning and label.
_GAUGES = {
    "rocketmq_hub_lag_seconds": ("Worst lateness of the event loop", "client_id"),
    "rocketmq_calls_in_flight": ("Calls that wait for an answer", "client_id"),
    "rocketmq_consumer_queues": ("Queues of this process", "group"),
    "rocketmq_consumer_cached": ("Messages pulled, not consumed", "group"),
    "rocketmq_consumer_lag": ("Messages not consumed, as of the last pull", "group"),
}
#: Seconds between two looks at the clients, where several processes write gauges.
_WRITE_INTERVAL = 5.0


class PrometheusHook:
    """A hook that counts and measures; make one for a process, and give it to all clients.

    :param registry: where the metrics are registered.
    :param clients: whether to tell of the clients too, by a :class:`ClientCollector`.
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
        self._gauges = _SharedGauges(registry) if clients and several else None
        if clients and not several:
            registry.register(ClientCollector())

    def before_start(self, client: object) -> None:
        """Have gauges written, where several processes do."""
        if self._gauges is not None:
            self._gauges.write_on()

    def after_send(self, context: SendMessageContext) -> None:
        """Count a call of send."""
        first: object = context.message
        if not isinstance(first, Message):  # the program was told that it is none
            return
        labels = (first.topic, context.group)
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
    """A counter at a seventh of the cost of ``prometheus_client``'s, which has a lock: under that of CPython its line is one
    step, also for clients in several threads."""

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
    """A histogram of seconds, likewise; who reads it may find a time counted and not yet added up."""

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
        return self._values.setdefault(tuple(map(str, labels)), self._kind())

    def describe(self) -> Iterable[Metric]:
        return [self._kind.family(*self._about)]

    def collect(self) -> Iterable[Metric]:
        family = self._kind.family(*self._about)
        for labels, value in list(self._values.items()):
            value.show(family, labels)
        return [family]


class ClientCollector:
    """Reads gauges from the clients that this process has started, when it is asked to.

    Blocks until their event loops have answered.  A client that does not tell within some seconds, since its loop does not
    turn, is left out.
    """

    def describe(self) -> Iterable[Metric]:
        """The gauges, without their values."""
        return [GaugeMetricFamily(name, text, labels=[label]) for name, (text, label) in _GAUGES.items()]

    def collect(self) -> Iterable[Metric]:
        """The gauges."""
        for name, values in _look().items():
            text, label = _GAUGES[name]
            family = GaugeMetricFamily(name, text, labels=[label])
            for labelled, value in values.items():
                family.add_metric([labelled], value)
            yield family


class _SharedGauges:
    """The same for several processes: each writes its own every few seconds, and a scrape adds them up.

    :param registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            name: Gauge(name, text, [label], registry=registry, multiprocess_mode="livesum")
            for name, (text, label) in _GAUGES.items()
        }
        self._written: defaultdict[str, set[str]] = defaultdict(set)
        self._writer: gevent.Greenlet | None = None
        drop_in_child(self)

    def abandon(self) -> None:
        """In a forked child: the parent tells of the parent's clients."""
        self._writer = None
        self._written.clear()

    def write_on(self) -> None:
        """Write, until this process has no client any more; never blocks."""
        if self._writer is None or self._writer.dead:
            self._writer = TaskGroup("metrics").loop("write gauges", self._run)

    def _run(self) -> None:
        idle = 0
        while idle < 2:  # a client that is about to start may not be among them yet
            idle = 0 if started_clients() else idle + 1
            self._write(_look())
            gevent.sleep(_WRITE_INTERVAL, ref=False)

    def _write(self, found: dict[str, dict[str, float]]) -> None:
        for name, values in found.items():
            gone = dict.fromkeys(self._written[name] - values.keys(), 0.0)
            self._written[name].update(values)
            for labelled, value in {**gone, **values}.items():
                self._gauges[name].labels(labelled).set(value)


def _look() -> dict[str, dict[str, float]]:
    """Of each gauge the values by label, of this process."""
    found: dict[str, dict[str, float]] = {name: {} for name in _GAUGES}
    lag, calls, queues, cached, behind = found.values()
    for client in started_clients():
        if not isinstance(client, BaseClient):
            continue
        try:
            told = client.debug_dump()
            stats = client.stats() if isinstance(client, PushConsumer | LitePullConsumer) else None
        except GRocketMQError:  # its event loop does not turn, or it has just stopped
            continue
        if (shared := told.get("instance")) is not None:
            name = str(client.client_id)
            lag[name] = told["process"]["hub_lag"]["worst"]
            calls[name] = sum(one["in_flight"] for one in shared["connections"].values())
        if stats is not None:
            queues[client.group] = queues.get(client.group, 0) + len(stats.lag)
            cached[client.group] = cached.get(client.group, 0) + stats.cached_messages
            behind[client.group] = behind.get(client.group, 0) + sum(stats.lag.values())
    return found
