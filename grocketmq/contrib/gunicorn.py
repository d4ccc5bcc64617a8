"""Hooks for gunicorn's gevent workers.

In ``gunicorn.conf.py``::

    worker_class = "gevent"
    from grocketmq.contrib.gunicorn import post_worker_init, worker_exit

Producers may be made and even started where the application is imported, also with ``--preload``: each worker gets its own
connections and client id.  Name the consumers that every worker should run, where they are made::

    start_in_workers(consumer)
"""

from __future__ import annotations

from typing import Any

from grocketmq.client.base import BaseClient
from grocketmq.client.leaving import shutdown_all

__all__ = ["post_worker_init", "start_in_workers", "worker_exit"]

#: Seconds that a worker's clients get to end; gunicorn's ``graceful_timeout`` counts from the signal, so it must be longer.
SHUTDOWN_TIMEOUT = 10.0

_to_start: list[BaseClient] = []


def start_in_workers(*clients: BaseClient) -> None:
    """Have clients started in every worker, after the application was loaded; never blocks.

    :param clients: not started; producers need not be among them, unless a request should not wait for their start.
    """
    _to_start.extend(client for client in clients if client not in _to_start)


def post_worker_init(worker: Any) -> None:
    """gunicorn's hook, in the worker, before its first request: start what :func:`start_in_workers` was given."""
    for client in _to_start:
        client.start()


def worker_exit(server: Any, worker: Any) -> None:
    """gunicorn's hook, in the worker, after its last request: consumers finish what they hold, sends under way end, brokers
    are told."""
    shutdown_all(SHUTDOWN_TIMEOUT)
