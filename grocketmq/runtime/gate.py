"""Lets I/O run between CPU-heavy pieces of work.

``gevent.sleep(0)`` queues a callback and gevent runs up to 50 of those before it looks at a socket again, so many
listeners that each take 2 ms of CPU would hold heartbeats and answers back for 100 ms.  The gate gives all its users
together a budget for one turn of the event loop.  Who comes when the budget is used up waits in line until a later
turn.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter

import gevent
from gevent.hub import Waiter

from grocketmq.runtime.forks import drop_in_child

__all__ = ["FairGate"]


class FairGate:
    """A CPU budget for one turn of the event loop; belongs to the hub in which it was made.

    :param budget: seconds its users may take together before the loop looks at its sockets and timers.
    """

    def __init__(self, budget: float = 0.005) -> None:
        self.budget = budget
        self._hub = gevent.get_hub()
        self._turn_began = perf_counter()
        self._line: deque[Waiter] = deque()
        self._check = self._hub.loop.check(ref=False)
        self._check.start(self._new_turn)
        self._resume = self._hub.loop.timer(0)
        self._armed = False
        drop_in_child(self)

    def pass_through(self) -> None:
        """Call before each piece of work: returns at once while there is budget, else blocks until a later turn has some."""
        if perf_counter() - self._turn_began < self.budget and not self._line:
            return
        waiter = Waiter(self._hub)
        self._line.append(waiter)
        self._arm()
        try:
            waiter.get()
        except BaseException:
            # Killed in line, or just resumed: in both cases this piece of work does not happen.
            if waiter in self._line:
                self._line.remove(waiter)
            raise

    def close(self) -> None:
        """Let everyone through and end; never blocks."""
        self._check.stop()
        self._check.close()
        self.budget = float("inf")
        if not self._line:
            self._resume.stop()
            self._resume.close()

    def abandon(self) -> None:
        """In a forked child: nobody who stands in line here goes on."""
        self._line.clear()
        self.close()

    def _new_turn(self) -> None:
        self._turn_began = perf_counter()

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._resume.start(self._let_in)

    def _let_in(self) -> None:
        """Runs in the hub in a turn of its own: resume those who fit into the budget, in order."""
        self._armed = False
        self._turn_began = began = perf_counter()
        while self._line and perf_counter() - began < self.budget:
            self._line.popleft().switch(None)
        if self._line:
            self._arm()
        elif self.budget == float("inf"):
            self._resume.stop()
            self._resume.close()
