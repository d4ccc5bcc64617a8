"""Lateness of the event loop, and who is to blame."""

from __future__ import annotations

from time import perf_counter

import gevent

from grocketmq.runtime.holding import HoldWatch
from grocketmq.runtime.lag import INTERVAL, HubLag


def burn(seconds: float) -> None:
    until = perf_counter() + seconds
    while perf_counter() < until:
        pass


def wait_for(caught: list[tuple[float, str]]) -> None:
    with gevent.Timeout(5, AssertionError("nothing was reported")):
        while not caught:
            gevent.sleep(0.01)


def listener() -> None:
    gevent.sleep(0.01)
    burn(0.4)
    gevent.sleep(0.01)


def another() -> None:
    burn(0.4)


def test_the_one_who_holds_the_loop_is_caught_with_its_stack() -> None:
    caught: list[tuple[float, str]] = []
    watch = HoldWatch(0.1, listener.__code__, lambda held, stack: caught.append((held, stack)))
    try:
        gevent.spawn(listener).join()
        wait_for(caught)
        [(held, stack)] = caught
        assert 0.3 < held < 5
        assert "in listener" in stack
        assert "in burn" in stack
    finally:
        watch.close()


def test_others_and_rest_are_not_reported() -> None:
    caught: list[tuple[float, str]] = []
    watch = HoldWatch(0.1, listener.__code__, lambda held, stack: caught.append((held, stack)))
    try:
        gevent.spawn(another).join()
        gevent.sleep(0.5)  # the loop rests
        assert caught == []
    finally:
        watch.close()


def test_any_code() -> None:
    caught: list[tuple[float, str]] = []
    watch = HoldWatch(0.1, None, lambda held, stack: caught.append((held, stack)))
    try:
        gevent.spawn(another).join()
        wait_for(caught)
        assert "in another" in caught[0][1]
    finally:
        watch.close()


def test_lag() -> None:
    lag = HubLag()
    try:
        gevent.sleep(INTERVAL * 1.5)
        burn(0.3)
        gevent.sleep(INTERVAL * 1.5)
        assert lag.worst >= 0.15
        assert lag.last <= lag.worst
    finally:
        lag.close()
