"""Time that a test can move forward, and timers that follow it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from time import monotonic, time_ns
from typing import Any

from gevent.event import Event

from grocketmq.runtime.deadline import waitable

__all__ = ["Clock", "Timer", "Timers"]

#: Cancelled timers are swept out when there are this many, and more of them than others.
_SWEEP_AT = 1000


class Clock:
    """The real time plus what it was moved forward."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._watchers: list[Event] = []

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return (time_ns() + int(self._ahead * 1e9)) // 1_000_000

    @staticmethod
    def clients_now_ms() -> int:
        """Milliseconds since the epoch by the clock of clients, which nobody moves."""
        return time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since some point, for measuring."""
        return monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the time forward; never blocks.  What became due runs as soon as the caller lets other greenlets run.

        :param seconds: not negative.
        """
        self._ahead += seconds
        for event in self._watchers:
            event.set()

    def watch(self, event: Event) -> None:
        """Have an event set whenever the time is moved."""
        self._watchers.append(event)


class Timer:
    """Something to be run once."""

    __slots__ = ("_owner", "args", "run", "when")

    def __init__(self, owner: Timers, when: float, run: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._owner = owner
        self.when = when
        self.run: Callable[..., object] | None = run
        self.args = args

    def cancel(self) -> None:
        """Do not run it; never blocks."""
        if self.run is not None:
            self.run = None
            self.args = ()
            self._owner.cancelled()


class Timers:
    """Runs what is due, in one greenlet; what it runs must not block.

    :param clock: the time it follows.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        self._next = itertools.count().__next__
        self._wake = Event()
        clock.watch(self._wake)

    def after(self, seconds: float, run: Callable[..., object], *args: Any) -> Timer:
        """Run a function later; never blocks.

        :param seconds: from now.
        :param run: the function.
        :param args: its arguments.
        """
        when = self._clock.monotonic() + seconds
        timer = Timer(self, when, run, args)
        heapq.heappush(self._heap, (when, self._next(), timer))
        if self._heap[0][2] is timer:
            self._wake.set()
        return timer

    def cancelled(self) -> None:
        """Count a timer that will not run; sweep when there are many."""
        self._cancelled += 1
        if self._cancelled >= _SWEEP_AT and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].run is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def clear(self) -> None:
        """Forget all timers; never blocks."""
        self._heap.clear()
        self._cancelled = 0

    def loop(self) -> None:
        """What the greenlet runs, for ever."""
        while True:
            heap = self._heap
            wait = waitable(heap[0][0] - self._clock.monotonic()) if heap else None
            if wait is None or wait > 0:
                self._wake.wait(wait)
                self._wake.clear()
                continue
            _, _, timer = heapq.heappop(heap)
            run, timer.run = timer.run, None
            if run is None:
                self._cancelled = max(0, self._cancelled - 1)
            else:
                run(*timer.args)
