"""Throws into a call at its n-th switch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import greenlet

#: Far more switches than any call takes.
MANY = 60


class Killed(BaseException):
    """As a ``gevent.Timeout``: not an ``Exception``."""


class Broken(Exception):
    """As a signal handler's error: an ``Exception`` that no code of the library expects."""


def killed_at(number: int, call: Callable[[], Any], how: BaseException) -> bool:
    """Run a call in a greenlet, and throw into it when it gives way for the so-many-th time.

    :returns: whether it came so far.
    """
    seen = 0
    hub = gevent.get_hub()

    def run() -> None:
        try:
            call()
        except Killed:
            pass
        except Exception:
            if not isinstance(how, Broken):  # what it was made into is the call's own business
                raise

    job = gevent.Greenlet(run)

    def trace(event: str, args: Any) -> None:
        nonlocal seen
        if event in ("switch", "throw") and args[0] is job and not job.dead:
            seen += 1
            if seen == number:
                hub.loop.run_callback(lambda: None if job.dead else job.throw(how))

    before = greenlet.settrace(trace)
    try:
        job.start()
        assert job.join(20) is None
        assert job.dead, "the call does not end"
    finally:
        greenlet.settrace(before)
    return seen >= number
