"""How late the event loop is: what heartbeats and answers feel of everything else that runs in it."""

from __future__ import annotations

from time import perf_counter

import gevent

from grocketmq.runtime.forks import drop_in_child

__all__ = ["HubLag"]

#: Seconds between two looks.
INTERVAL = 0.1
#: Looks after which the worst one of the time before is forgotten: half a minute.
_WINDOW = 300


class HubLag:
    """Measures the lateness of a timer; belongs to the hub in which it was made."""

    def __init__(self) -> None:
        #: Seconds by which the last look was late.
        self.last = 0.0
        self._worst = self._worst_before = 0.0
        self._looks = 0
        self._due = perf_counter() + INTERVAL
        self._timer = gevent.get_hub().loop.timer(INTERVAL, INTERVAL, ref=False)
        self._timer.start(self._look)
        drop_in_child(self)

    @property
    def worst(self) -> float:
        """Seconds by which the latest look of the last half minute or more was late."""
        return max(self._worst, self._worst_before)

    def close(self) -> None:
        """End; never blocks."""
        self._timer.stop()
        self._timer.close()

    def abandon(self) -> None:
        """In a forked child: it measures the parent."""
        self.close()

    def _look(self) -> None:
        now = perf_counter()
        self.last = max(0.0, now - self._due)
        self._due = now + INTERVAL
        self._worst = max(self._worst, self.last)
        self._looks += 1
        if self._looks == _WINDOW:
            self._worst_before, self._worst, self._looks = self._worst, 0.0, 0
