"""Loops over many things that do not hold the event loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import TypeVar

import gevent

__all__ = ["in_turns"]

T = TypeVar("T")

#: Seconds of such a loop between two looks at sockets and timers.
BUDGET = 0.001
#: So many steps are taken between two looks at the clock.
_STEPS = 32
#: Seconds to sleep; for 0 gevent would come back here up to 50 times before it looks at a socket.
_A_TURN = 1e-6


def in_turns(things: Iterable[T], budget: float = BUDGET) -> Iterator[T]:
    """Go through things as they are; blocks after each millisecond until the event loop has had a turn.

    Other greenlets run meanwhile: what is gone through must not change, and what is done with it must not have to be done
    at one moment.

    :param things: what to go through; each step should take some ten microseconds at most.
    :param budget: seconds until others get their turn.
    """
    began = perf_counter()
    for number, thing in enumerate(things, 1):
        yield thing
        if not number % _STEPS and perf_counter() - began > budget:
            gevent.sleep(_A_TURN)
            began = perf_counter()
