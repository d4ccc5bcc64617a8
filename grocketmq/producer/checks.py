"""The greenlets in which an application says how its transactions ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import gevent

from grocketmq.runtime.tasks import TaskGroup

__all__ = ["CheckPool"]

#: Checks that may wait; brokers repeat what is dropped.
MAX_WAITING = 2000


class CheckPool:
    """Answers checks, a bounded number at a time; a greenlet lives as long as there is something to do.

    :param tasks: owns the greenlets.
    :param size: how many there are at most.
    """

    def __init__(self, tasks: TaskGroup, size: int) -> None:
        self._tasks = tasks
        self._size = size
        self._busy = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def put(self, check: Callable[[], None]) -> bool:
        """Have a check answered; never blocks.

        :param check: answers it; may block.
        :returns: False when too many wait: it is not answered.
        """
        if self._busy < self._size:
            self._busy += 1
            self._tasks.spawn("check transactions", self._work, check).rawlink(self._ended)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append(check)
        else:
            return False
        return True

    def _work(self, check: Callable[[], None]) -> None:
        check()
        while self._waiting:
            self._waiting.popleft()()

    def _ended(self, greenlet: gevent.Greenlet) -> None:
        self._busy -= 1
        if self._waiting and not isinstance(greenlet.value, gevent.GreenletExit):  # one that is killed ends with the producer
            self.put(self._waiting.popleft())
