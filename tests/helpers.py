"""Small things that many tests need."""

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")


def wait_for(condition: Callable[[], T], timeout: float = 20, message: str | None = None) -> T:
    """Switch to other greenlets until ``condition()`` is true, and return its value.

    :param timeout: seconds, by default more than a machine needs that is busy with other things; the condition is asked at
        least once.
    :param message: what was expected, in the words of the test; default the condition's name.
    :raises AssertionError: it did not become true in time.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() >= deadline:
            expected = message or getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"not so within {timeout:g} s: {expected} (last value {value!r})")
        gevent.sleep(0.005)
    return value
