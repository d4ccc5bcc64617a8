"""Who holds the event loop: catches a function that keeps everything else from running, with its stack.

While the loop is held nothing in its thread can look, so a thread of the system's does.  It reports nothing itself: what it
caught is told by the loop when it turns again, with the time that it was held.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from time import perf_counter
from types import CodeType

import gevent
from gevent.hub import Hub
from gevent.monkey import get_original

from grocketmq.runtime.forks import drop_in_child
from grocketmq.runtime.threads import get_ident

__all__ = ["HoldWatch"]

start_new_thread = get_original("_thread", "start_new_thread")
native_sleep = get_original("time", "sleep")

#: The look is taken so many times within the limit.
_LOOKS = 4
#: Frames of the stack that are told.
_FRAMES = 12


class HoldWatch:
    """Watches one event loop for one function; belongs to the hub in which it was made.

    :param limit: seconds that the loop may be held.
    :param code: the function's code; None when it has none, such as a built-in: then every hold is reported.
    :param report: told, in the loop, for how many seconds the function held it, and the stack that it was caught with.
    """

    def __init__(self, limit: float, code: CodeType | None, report: Callable[[float, str], object]) -> None:
        self._limit = limit
        self._code = code
        self._report = report
        self._thread = get_ident()
        self._turned_at = perf_counter()
        #: What the thread has found: the stack, when the hold began, when it was last seen.
        self._caught: tuple[str, float, float] | None = None
        self._closed = False
        self._check = gevent.get_hub().loop.check(ref=False)
        self._check.start(self._turn)
        drop_in_child(self)
        start_new_thread(self._look, ())

    def close(self) -> None:
        """End; never blocks, its thread ends within a quarter of the limit."""
        self._closed = True
        self._check.stop()
        self._check.close()

    def abandon(self) -> None:
        """In a forked child: its thread is not there."""
        if not self._closed:
            self.close()

    def _turn(self) -> None:
        self._turned_at = perf_counter()
        caught, self._caught = self._caught, None
        if caught is not None:
            stack, began, seen = caught
            self._report(seen - began, stack)

    def _look(self) -> None:
        """What the thread runs."""
        while not self._closed:
            native_sleep(self._limit / _LOOKS)
            began, now = self._turned_at, perf_counter()
            if now - began > self._limit:
                stack = self._stack()
                if stack is not None and began == self._turned_at:
                    self._caught = (self._caught[0] if self._caught else stack, began, now)

    def _stack(self) -> str | None:
        """The stack of the thread that is watched, None when the function is not in it, as while the loop rests."""
        frame = top = sys._current_frames().get(self._thread)
        if top is None or top.f_code is Hub.run.__code__:
            return None
        while frame is not None and self._code is not None and frame.f_code is not self._code:
            frame = frame.f_back
        return None if frame is None else "".join(traceback.format_stack(top, limit=_FRAMES))
