"""Long loops let others run."""

from __future__ import annotations

from collections import deque
from time import perf_counter

import gevent
import pytest
from gevent import socket

from grocketmq.runtime.turns import SharedTurn, in_turns


def busy(seconds: float) -> None:
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


@pytest.mark.parametrize("count", [0, 1, 31, 32, 1000])
def test_nothing_is_left_out(count: int) -> None:
    assert list(in_turns(range(count), budget=0.0)) == list(range(count))


def test_sockets_are_looked_at_during_a_long_loop() -> None:
    """Given a byte that waits in a socket, when a loop takes 100 ms, then the byte is read long before its end."""
    here, there = socket.socketpair()
    done: list[int] = []
    seen: list[int] = []

    def read() -> None:
        there.recv(1)
        seen.append(len(done))

    reader = gevent.spawn(read)
    gevent.sleep(0)
    here.send(b"x")
    for number in in_turns(range(1000)):
        busy(0.0001)
        done.append(number)
    reader.join(1)
    here.close()
    there.close()
    assert seen[0] < 300


def test_a_short_loop_does_not_switch() -> None:
    others: list[int] = []
    other = gevent.spawn(others.append, 1)
    assert len(list(in_turns(range(1000), budget=60.0))) == 1000
    assert others == []
    other.join()


def test_a_loop_can_be_broken_off() -> None:
    greenlet = gevent.spawn(lambda: [busy(0.001) for _ in in_turns(range(1_000_000))])
    gevent.sleep(0.01)
    greenlet.kill(timeout=1)
    assert greenlet.dead


def test_a_shared_turn_is_over_until_the_loop_has_turned() -> None:
    turn = SharedTurn(budget=0.005)
    gevent.sleep(0.002)
    assert not turn.is_over()
    assert not turn.is_over()
    busy(0.01)
    assert turn.is_over()
    gevent.sleep(0.002)
    assert not turn.is_over()


def test_what_is_run_in_shared_turns_is_done_in_order_and_lets_the_loop_turn() -> None:
    """Two that share a turn both get on."""
    turn, done, ticks = SharedTurn(budget=0.001), [], []

    def work(thing: tuple[str, int]) -> None:
        busy(0.0001)
        done.append(thing)

    timer = gevent.get_hub().loop.timer(0.001, 0.001)
    timer.start(lambda: ticks.append(len(done)))
    things = {name: [(name, number) for number in range(200)] for name in "ab"}
    for name in "ab":
        gevent.get_hub().loop.run_callback(turn.run, deque(things[name]), work)
    with gevent.Timeout(10):
        while len(done) < 400:
            gevent.sleep(0.001)
    timer.stop()
    timer.close()
    for name in "ab":
        assert [thing for thing in done if thing[0] == name] == things[name]
    assert len([count for count in ticks if 0 < count < 400]) >= 3
