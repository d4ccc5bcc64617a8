"""Greenlets with a name, an owner and an end.

``TaskGroup`` is the only spawner outside ``remoting``.  An error in a task is logged and counted, never lost; a loop
that fails is started again after a pause.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from time import monotonic, time
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group

from grocketmq.runtime.deadline import Backoff, Deadline, waitable
from grocketmq.runtime.forks import drop_in_child
from grocketmq.runtime.turns import in_small_turns, in_turns

__all__ = ["FAILURES", "PeriodicTask", "TaskGroup"]

log = logging.getLogger(__name__)

#: The words of a greenlet's name before a number, an address, a queue.
_ROLE = re.compile(r"[a-z ]*(?![\w.:@-])|[a-z]+")

#: What a task can fail with.  A ``gevent.Timeout`` that gets as far is nobody's: code of the user's set it and let it through.
FAILURES = (Exception, gevent.Timeout)

#: A loop that ran so many seconds before it failed is started again after the shortest pause.
HEALTHY = 60.0
#: Seconds that tasks get to end after they were told to.
KILL_TIMEOUT = 5.0
_KEPT_FAILURES = 10


class TaskGroup:
    """The greenlets of one owner.

    :param owner: the owner's name, the first part of every greenlet's name.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        #: Errors by task name since the group was made.
        self.failures: Counter[str] = Counter()
        #: The last of them: when (seconds since the epoch), task, error.
        self.last_failures: deque[tuple[float, str, str]] = deque(maxlen=_KEPT_FAILURES)
        self._group = Group()
        self._periodic: list[PeriodicTask] = []
        drop_in_child(self)

    def __len__(self) -> int:
        return len(self._group)

    def names(self) -> list[str]:
        """The names of the greenlets that have not ended, sorted."""
        return sorted(greenlet.name for greenlet in self._group)

    def spawn(self, name: str, run: Callable[..., object], *args: Any) -> gevent.Greenlet:
        """Run a function once in a greenlet of its own; never blocks.

        :param name: what it does, for logs and dumps.
        :param run: the function; an ``Exception`` or a ``gevent.Timeout`` from it is logged and counted.
        :param args: its arguments.
        :returns: the greenlet.
        """
        greenlet = gevent.Greenlet(self._once, name, run, args)
        greenlet.name = f"{self.owner}:{name}"
        self._group.start(greenlet)
        return greenlet

    def spawn_later(self, seconds: float, name: str, run: Callable[..., object], *args: Any) -> gevent.Greenlet:
        """As :meth:`spawn`, after a pause.

        :param seconds: the pause.
        """
        greenlet = gevent.Greenlet(self._once, name, run, args)
        greenlet.name = f"{self.owner}:{name}"
        self._group.add(greenlet)
        greenlet.start_later(waitable(seconds))
        return greenlet

    def loop(self, name: str, run: Callable[[], object]) -> gevent.Greenlet:
        """Run a function that loops by itself; when it fails it is started again after a pause of 0.1 to 5 s.

        :param name: what it does.
        :param run: the loop; returning ends it.
        """
        return self.spawn(name, self._supervised, name, run)

    def periodic(self, name: str, interval: float, run: Callable[[], float | None], first: float = 0.0) -> PeriodicTask:
        """Run a function again and again; never blocks.

        :param name: what it does.
        :param interval: seconds from the end of one run to the next.
        :param run: the function; a number it returns is the pause before the next run, instead of ``interval``.
        :param first: seconds before the first run.
        """
        task = PeriodicTask(interval, run, first)
        task.greenlet = self.loop(name, partial(task.loop, self, name))
        self._periodic.append(task)
        return task

    def roles(self) -> dict[str, int]:
        """How many greenlets do what, by the beginning of their names: ``{"listener": 20, "pull": 8}``."""
        first = len(self.owner) + 1
        words = (_ROLE.match(name[first:]) for name in self.names())
        return dict(Counter(found.group().strip() for found in words if found is not None))

    def report(self) -> dict[str, Any]:
        """What :meth:`~grocketmq.client.base.BaseClient.debug_dump` tells of the group."""
        return {"greenlets": self.roles(), "failures": dict(self.failures), "last_failures": list(self.last_failures)}

    def join(self, timeout: float | None) -> bool:
        """Wait until no task is left but the one that calls; blocks at most ``timeout`` seconds.

        :param timeout: seconds, None for as long as it takes.
        :returns: whether none is left.
        """
        deadline = None if timeout is None else Deadline(timeout)
        while others := self._others():
            if deadline is not None and deadline.expired:
                return False
            gevent.joinall(others, timeout=None if deadline is None else deadline.remaining())
        return True

    def stop_periodic(self) -> None:
        """Let every periodic task end after the run it is in; never blocks."""
        for task in self._periodic:
            task.stop()

    def kill(self) -> None:
        """End every task but the one that calls, and wait until they have ended; at most 5 s for one that refuses."""
        self.stop_periodic()
        mine = gevent.getcurrent()
        others = [greenlet for greenlet in in_turns(list(self._group)) if greenlet is not mine and not greenlet.dead]
        for _ in in_small_turns(range(len(others))):
            others.pop().kill(block=False)  # kept no longer, so that its memory is freed as it ends, not of all at once
        gevent.joinall(self._others(), timeout=KILL_TIMEOUT)
        gevent.sleep(0)  # those that have ended leave the group
        for greenlet in self._others():
            log.error("%s does not end; it swallows what should end it", greenlet.name)

    def abandon(self) -> None:
        """In a forked child: the parent's greenlets go on in the parent only; the group itself can be used again."""
        for task in self._periodic:
            task.stop()
        copies = self._others()
        self._group = Group()
        self._periodic = []
        for greenlet in copies:
            greenlet.unlink_all()
        gevent.killall(copies, block=False)

    def failed(self, name: str, error: BaseException) -> None:
        """Log and count an error of a task; not one that a forked child's copy of a task meets while it ends."""
        if gevent.getcurrent() not in self._group:
            return
        self.failures[name] += 1
        self.last_failures.append((time(), name, repr(error)))
        log.error("%s:%s failed (%d times so far)", self.owner, name, self.failures[name], exc_info=error)

    def _others(self) -> list[gevent.Greenlet]:
        mine = gevent.getcurrent()
        return [greenlet for greenlet in self._group if greenlet is not mine and not greenlet.dead]

    def _once(self, name: str, run: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            run(*args)
        except FAILURES as error:
            self.failed(name, error)

    def _supervised(self, name: str, run: Callable[[], object]) -> None:
        backoff = Backoff()
        pause = 0.0
        while True:
            began = monotonic() + pause
            try:
                if pause:
                    gevent.sleep(pause)  # in here, as a Timeout that a listener left running may end a pause, too
                run()
                return
            except FAILURES as error:
                self.failed(name, error)
            if monotonic() - began > HEALTHY:
                backoff.reset()
            pause = backoff.next()


class PeriodicTask:
    """A function that runs at intervals, and at once when woken.  Made by :meth:`TaskGroup.periodic`."""

    def __init__(self, interval: float, run: Callable[[], float | None], first: float) -> None:
        self.interval = interval
        #: Seconds between two runs at least, however often it is woken.
        self.least_gap = 0.0
        self.greenlet: gevent.Greenlet | None = None
        self._run = run
        self._first = first
        self._stopping = Event()
        self._wake = Event()

    @property
    def stopping(self) -> bool:
        """Whether it was told to end: what fails now fails for that."""
        return bool(self._stopping.is_set())

    def wake(self) -> None:
        """Run as soon as possible; never blocks.  Several calls before the run count as one."""
        self._wake.set()

    def stop(self) -> None:
        """End after the run that is under way; never blocks."""
        self._stopping.set()
        self._wake.set()

    def loop(self, group: TaskGroup, name: str) -> None:
        """What the task's greenlet runs."""
        pause = self._first
        while True:
            self._wake.wait(waitable(pause))
            self._wake.clear()
            if self._stopping.is_set():
                return
            asked = None
            try:
                asked = self._run()
            except FAILURES as error:
                group.failed(name, error)
            pause = self.interval if asked is None else asked
            if self.least_gap:
                self._stopping.wait(self.least_gap)
                pause = max(0.0, pause - self.least_gap)
