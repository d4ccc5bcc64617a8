"""A bound on how much is done in a second."""

from __future__ import annotations

from time import monotonic

import gevent

from grocketmq.runtime.deadline import waitable

__all__ = ["RateLimiter"]


class RateLimiter:
    """Lets so much through in a second, evenly, with bursts of at most a tenth of a second's worth.

    :param rate: units a second.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = 0.0

    def acquire(self, units: int) -> None:
        """Take units; blocks until their time has come.  Those who wait are served in the order they came.

        :param units: how many.
        """
        now = monotonic()
        start = max(self._free_at, now - 0.1)
        self._free_at = start + units / self.rate
        if start > now:
            gevent.sleep(waitable(start - now))
