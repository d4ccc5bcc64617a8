"""Shutting down whatever this process has started: for worker hooks of servers, and for the end of a program."""

from __future__ import annotations

import atexit
import logging
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Protocol
from weakref import WeakSet

import gevent

from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.lifecycle import ServiceState
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["Leaver", "note_started", "shutdown_all", "shutdown_at_exit", "started_clients"]

log = logging.getLogger(__name__)

#: Seconds beyond its timeout that a shutdown may take for telling brokers and closing connections.
_GRACE = 5.0


class Leaver(Protocol):
    """A client, as far as leaving goes."""

    @property
    def state(self) -> ServiceState:
        """Where it is in its life."""

    @property
    def stops_last(self) -> bool:
        """Whether others may need it until they have stopped."""

    def shutdown(self, timeout: float = 10.0) -> None:
        """Stop it."""


_started: WeakSet[Leaver] = WeakSet()


def note_started(client: Leaver) -> None:
    """Have :func:`shutdown_all` know of a client; never blocks."""
    _started.add(client)


def started_clients() -> list[Leaver]:
    """The clients of this process that were started and are not shut down, in no order; never blocks."""
    alive = (ServiceState.STARTING, ServiceState.RUNNING, ServiceState.STOPPING)
    while True:
        try:
            return [client for client in _started if client.state in alive]
        except RuntimeError:  # another thread has started one meanwhile
            continue


def shutdown_all(timeout: float = 10.0) -> None:
    """Shut down every client that this process has started; blocks its greenlet until they have ended.

    Consumers first, so that what their listeners still send finds its producer running; those of a kind at the same time.  What
    greenlets send that were spawned before the call is still taken.  A client that fails to shut down is logged.

    :param timeout: seconds for all of them together.
    """
    deadline = Deadline(timeout)
    gevent.sleep(0)  # greenlets that were spawned and have not run yet make their calls now
    for last in (False, True):
        tasks = TaskGroup("shutdown_all")
        for client in started_clients():
            if client.stops_last is last:
                tasks.spawn(repr(client), client.shutdown, deadline.remaining())
        if not tasks.join(deadline.remaining() + _GRACE):
            log.error("not shut down within %g s: %s", timeout, ", ".join(tasks.names()))
            tasks.kill()


def shutdown_at_exit(timeout: float = 10.0, signals: Iterable[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
    """Have :func:`shutdown_all` called when this program ends; for its main greenlet, once; never blocks.

    Not for programs that a server runs, which has hooks for this.  Without it a program that ends loses sends that are under
    way, unless it shuts its clients down itself (``with`` does).

    :param timeout: seconds, as for :func:`shutdown_all`.
    :param signals: signals that end the program in its main greenlet, whatever runs just then: Ctrl-C (SIGINT) raises
        ``KeyboardInterrupt`` there, the second one wherever it comes; others end it as ``sys.exit`` does, with the status
        128 + number, instead of killing it.  One that is ignored stays so.  None for those whose handlers are yours.
    """
    atexit.unregister(shutdown_all)
    atexit.register(shutdown_all, timeout)
    for number in signals:
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        if number == signal.SIGINT:
            signal.signal(number, _interrupt)
        else:
            gevent.signal_handler(number, sys.exit, 128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Python's own handler raises in the greenlet that happens to run, such as a listener, which must finish instead."""
    signal.signal(number, signal.default_int_handler)
    hub = gevent.get_hub()
    if gevent.getcurrent() is hub.parent:
        raise KeyboardInterrupt
    hub.loop.run_callback(hub.handle_system_error, KeyboardInterrupt, KeyboardInterrupt())
