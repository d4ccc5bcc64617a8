"""A cluster as a program: what ``grocketmq serve`` runs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.event import Event

from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.cluster import ClusterCounts

__all__ = ["serve_until_told"]

_LOOK_INTERVAL = 0.5

#: Shows counts, and how many messages are stored a second.
Show = Callable[[ClusterCounts, float], object]


def serve_until_told(cluster: EmbeddedCluster, show: Show, *, watched: bool) -> None:
    """Let a started cluster serve; blocks until Ctrl-C or SIGTERM.

    :param show: called twice a second.
    :param watched: whether anybody looks; if not, ``show`` is not called.
    """
    stop = Event()
    handlers = [gevent.signal_handler(number, stop.set) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        at, before = monotonic(), cluster.counts()
        while not stop.wait(_LOOK_INTERVAL if watched else None):
            now, counts = monotonic(), cluster.counts()
            show(counts, (counts.messages - before.messages) / (now - at))
            at, before = now, counts
    finally:
        for handler in handlers:
            handler.cancel()
