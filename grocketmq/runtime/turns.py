"""Work that does not hold the event loop: loops over many things, and callbacks of many watchers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any, TypeVar

import gevent

__all__ = ["SharedTurn", "in_small_turns", "in_turns"]

T = TypeVar("T")

#: Seconds of such a loop between two looks at sockets and timers; few, since several may follow each other.
BUDGET = 0.0005
#: Seconds that callbacks of many watchers may take together.
SHARED_BUDGET = 0.001
#: So many steps are taken between two looks at the clock.
_STEPS = 32
#: The same where each step sets off more than it does itself.
_FEW_STEPS = 2


class SharedTurn:
    """What the callbacks of many watchers may take together between two looks at sockets and timers.

    Who asks first in a turn of the loop begins it.  A callback of a readable socket that finds it over returns at once: the
    socket is still readable in the next turn.

    :param budget: seconds.
    """

    __slots__ = ("_began", "_budget", "_loop", "_turn")

    def __init__(self, budget: float = SHARED_BUDGET) -> None:
        self._loop = gevent.get_hub().loop
        self._budget = budget
        self._turn = self._began = -1.0

    def is_over(self) -> bool:
        """Whether the budget of this turn is used up; never blocks."""
        turn = self._loop.now()  # the loop looks at the clock once a turn
        if turn != self._turn:
            self._turn, self._began = turn, perf_counter()
            return False
        return perf_counter() - self._began > self._budget

    def run(self, things: deque[T], each: Callable[[T], object]) -> None:
        """Do something with each of many things: with some in this turn, with the others in later ones.  For callbacks of the
        loop; never blocks.

        :param things: what is left to do; emptied.
        :param each: must not block, either.
        """
        while things:
            for _ in range(min(len(things), _STEPS)):
                each(things.popleft())
            if things and self.is_over():
                self._later(things, each)
                return

    def _later(self, things: deque[T], each: Callable[[T], object]) -> None:
        timer = self._loop.timer(0)
        timer.start(self._go_on, timer, things, each)

    def _go_on(self, timer: Any, things: deque[T], each: Callable[[T], object]) -> None:
        timer.close()
        if self.is_over():
            self._later(things, each)
        else:
            self.run(things, each)


def in_turns(things: Iterable[T], budget: float = BUDGET, steps: int = _STEPS) -> Iterator[T]:
    """Go through things as they are; blocks after each half millisecond until the event loop has had a turn.

    Other greenlets run meanwhile: what is gone through must not change, and what is done with it must not have to be done
    at one moment.

    :param things: what to go through; each step should take some ten microseconds at most.
    :param budget: seconds until others get their turn.
    :param steps: how many are taken between two looks at the clock.
    """
    # Seconds to sleep: for 0 gevent would come back here up to 50 times before it looks at a socket.
    a_turn = gevent.get_hub().loop.approx_timer_resolution
    began = perf_counter()
    for number, thing in enumerate(things, 1):
        yield thing
        if not number % steps and perf_counter() - began > budget:
            gevent.sleep(a_turn)
            began = perf_counter()


def in_small_turns(things: Iterable[T]) -> Iterator[T]:
    """As :func:`in_turns`, a few things in a turn: for steps that begin a call, open a connection or end a greenlet.

    :param things: what to go through.
    """
    return in_turns(things, 0.0, _FEW_STEPS)
