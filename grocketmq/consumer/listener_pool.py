"""The greenlets that run a listener: a fixed number of them, fed by a gevent queue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

import gevent
from gevent.queue import Queue

from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.forks import drop_in_child
from grocketmq.runtime.gate import FairGate
from grocketmq.runtime.rate import RateLimiter
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["ListenerPool"]

log = logging.getLogger(__name__)

#: Failures of a listener are logged once in so many seconds: one that always fails must not fill the disk.
_LOG_PAUSE = 1.0

T = TypeVar("T")


class ListenerPool(Generic[T]):
    """Runs work on items, a bounded number at a time.

    :param tasks: owns the greenlets.
    :param size: how many there are.
    :param work: what is done with an item.
    :param rate: messages a second that may be admitted; None for no bound.
    """

    def __init__(self, tasks: TaskGroup, size: int, work: Callable[[T], None], rate: float | None = None) -> None:
        #: Whether :meth:`stop` was called: work under way should end at its next step.
        self.stopped = False
        self._gate = FairGate()
        self._limiter = None if rate is None else RateLimiter(rate)
        self._tasks = tasks
        self._work = work
        self._items: Queue[T | None] = Queue()
        self._logged_at = float("-inf")
        self._unlogged = 0
        self._greenlets: set[gevent.Greenlet] = set()
        drop_in_child(self)
        for number in range(size):
            self._spawn(number)

    def abandon(self) -> None:
        """In a forked child: what is here is consumed by the parent, even where a greenlet is about to wake."""
        self.stopped = True

    def put(self, item: T, pause: float = 0.0) -> None:
        """Have an item worked on, unless the pool is stopped; never blocks.

        :param item: the item.
        :param pause: seconds before it is due.
        """
        if self.stopped:
            return
        if pause > 0:
            self._tasks.spawn_later(pause, "listen later", self._items.put, item)
        else:
            self._items.put(item)

    def admit(self, count: int) -> None:
        """Wait until the listener may be called: for the rate, and for the event loop to have had its turn.

        :param count: how many messages it will get.
        """
        if self._limiter is not None:
            self._limiter.acquire(count)
        self._gate.pass_through()

    def stop(self, deadline: Deadline) -> None:
        """Take up nothing more, and wait for work under way; blocks at most until the deadline, then cuts it off."""
        self.stopped = True
        for _ in self._greenlets:
            self._items.put(None)
        mine = gevent.getcurrent()  # a listener may shut its consumer down
        others = [one for one in self._greenlets if one is not mine]
        gevent.joinall(others, timeout=deadline.remaining())
        running = [one for one in others if not one.dead]
        if running:
            log.warning("%d listener calls did not end in time; their messages will be delivered again", len(running))
            gevent.killall(running, block=False)
        self._gate.close()

    def log_failure(self, count: int, source: object, then: str = "they come again, or go to the dead letters") -> None:
        """Log the exception being handled, with its traceback, once a second at most.

        :param count: how many messages the listener had.
        :param source: where they come from.
        :param then: what happens to them.
        """
        if failures := self._failures_to_log():
            log.exception(
                "the listener of %s failed with %d messages of %s (%d failures since the last such line); %s",
                self._tasks.owner,
                count,
                source,
                failures,
                then,
            )

    def _failures_to_log(self) -> int:
        """How many there were since the last line; 0 while it is too early for another."""
        self._unlogged += 1
        if monotonic() - self._logged_at < _LOG_PAUSE:
            return 0
        failures, self._unlogged, self._logged_at = self._unlogged, 0, monotonic()
        return failures

    def _spawn(self, number: int) -> None:
        greenlet = self._tasks.loop(f"listener {number}", self._run)
        self._greenlets.add(greenlet)
        greenlet.rawlink(lambda ended: self._replace(ended, number))

    def _replace(self, ended: gevent.Greenlet, number: int) -> None:
        """A listener that throws GreenletExit or the like ends its greenlet; the pool stays as large as it was."""
        self._greenlets.discard(ended)
        if not self.stopped:
            if failures := self._failures_to_log():
                log.error(
                    "listener greenlet %d of %s was ended by %r (%d failures since the last such line); "
                    "another one takes its place",
                    number,
                    self._tasks.owner,
                    ended.exception or ended.value,
                    failures,
                )
            self._spawn(number)

    def _run(self) -> None:
        while not self.stopped:
            item = self._items.get()
            if item is None or self.stopped:
                return
            self._work(item)
