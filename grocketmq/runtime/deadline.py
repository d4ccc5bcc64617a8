"""How long to wait: a fixed point in time, and growing pauses between tries."""

from __future__ import annotations

import random
from math import nan
from time import monotonic

from grocketmq.errors import ConfigError, RequestTimeout

__all__ = ["SHORTEST_WAIT", "Backoff", "Deadline", "waitable"]

#: Seconds; gevent's libuv loop times nothing shorter, and warns of it.  Where warnings are errors that one comes when libuv
#: has the timer's memory already, which then is freed all the same, and sooner or later the process is aborted.
SHORTEST_WAIT = 0.001


def waitable(seconds: float) -> float:
    """What every event loop can time: 0 for nothing to wait for, else no less than :data:`SHORTEST_WAIT`.

    :param seconds: to wait; negative ones are over.
    """
    if seconds >= SHORTEST_WAIT:
        return seconds
    return SHORTEST_WAIT if seconds > 0.0 else 0.0


class Deadline:
    """A point in time that several steps share.

    :param seconds: from now; a negative number is already over.
    :raises ConfigError: for what is no number.
    """

    __slots__ = ("at",)

    def __init__(self, seconds: float) -> None:
        try:
            at = self.at = monotonic() + seconds
        except TypeError:
            at = nan
        if at != at:  # a NaN is never over, and every wait for it would be for nothing or without end
            raise ConfigError(f"a time to wait is {seconds!r:.80}; it must be a number of seconds")

    def remaining(self) -> float:
        """Seconds left to wait: 0 when it is over, else no less than :data:`SHORTEST_WAIT`."""
        return waitable(self.at - monotonic())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return monotonic() >= self.at

    def check(self, what: str) -> float:
        """As :meth:`remaining`, for a step that needs some time.

        :param what: the step, for the message.
        :raises RequestTimeout: when no time is left.
        """
        left = self.remaining()
        if not left:
            raise RequestTimeout(f"no time left to {what}")
        return left

    def __repr__(self) -> str:
        return f"<Deadline in {self.at - monotonic():.3f} s>"


class Backoff:
    """Pauses that double up to a cap, each with jitter so that many clients do not come back at once.

    :param first: the first pause, seconds.
    :param cap: the longest pause, seconds.
    :param jitter: the part of a pause that is drawn by chance, 0 to 1.
    """

    def __init__(self, first: float = 0.1, cap: float = 5.0, jitter: float = 0.3) -> None:
        self._first = first
        self._cap = cap
        self._jitter = jitter
        self._pause = first

    def next(self) -> float:
        """The next pause, seconds."""
        pause = self._pause
        self._pause = min(self._cap, pause * 2)
        return pause * (1 - self._jitter * random.random())

    def reset(self) -> None:
        """Begin again with the first pause, after a success."""
        self._pause = self._first
