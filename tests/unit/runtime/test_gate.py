"""The gate keeps the order of its line, its budget, and lets the loop's sockets and timers run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from time import perf_counter

import gevent
import pytest
from gevent import socket

from grocketmq.runtime.gate import FairGate
from tests.helpers import wait_for


@pytest.fixture
def gates() -> Iterator[Callable[[float], FairGate]]:
    made: list[FairGate] = []

    def make(budget: float) -> FairGate:
        made.append(FairGate(budget))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


def burn(seconds: float) -> None:
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


@pytest.fixture
def greenlets() -> Iterator[list[gevent.Greenlet]]:
    made: list[gevent.Greenlet] = []
    yield made
    gevent.killall(made)


def in_line(gate: FairGate, greenlets: list[gevent.Greenlet], count: int, work: float = 0.0) -> list[int]:
    """Have so many greenlets wait in line; the numbers of those that came through are put into the list."""
    passed: list[int] = []

    def pass_one(number: int) -> None:
        gate.pass_through()
        passed.append(number)
        burn(work)

    burn(gate.budget * 1.5)
    greenlets += [gevent.spawn(pass_one, number) for number in range(count)]
    wait_for_line(gate, count)
    return passed


def wait_for_line(gate: FairGate, count: int) -> None:
    """Run the callbacks only, no timer: the line does not move yet."""
    for _ in range(5):
        if len(gate._line) == count:
            return
        gevent.sleep(0)
    raise AssertionError(f"{len(gate._line)} in line instead of {count}")


def test_passes_at_once_while_there_is_budget(gates: Callable[[float], FairGate]) -> None:
    gate = gates(60.0)
    turns: list[int] = []
    gevent.get_hub().loop.run_callback(turns.append, 1)
    for _ in range(1000):
        gate.pass_through()
    assert turns == [], "it did not switch"
    gevent.sleep(0)


def test_blocks_when_the_budget_is_used_up(gates: Callable[[float], FairGate]) -> None:
    gate = gates(0.002)
    gevent.sleep(0.001)
    turns: list[int] = []
    gevent.get_hub().loop.run_callback(turns.append, 1)
    burn(0.004)
    gate.pass_through()
    assert turns == [1]


def test_order_of_the_line(gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]) -> None:
    gate = gates(0.001)
    passed = in_line(gate, greenlets, 20, work=0.0007)
    gevent.joinall(greenlets, timeout=5)
    assert passed == list(range(20))


def test_nobody_passes_those_in_line(gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]) -> None:
    gate = gates(0.001)
    passed = in_line(gate, greenlets, 3)
    gate._turn_began = perf_counter()  # there is budget again, but also a line
    gate.pass_through()
    assert passed == [0, 1, 2]


def test_budget_of_one_turn(gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]) -> None:
    """Of ten pieces that take the whole budget each, one runs a turn."""
    gate = gates(0.002)
    by_turn: list[int] = []
    passed = in_line(gate, greenlets, 10, work=0.0025)
    with_timer = gevent.get_hub().loop.timer(0, 0.001)
    with_timer.start(lambda: by_turn.append(len(passed)))
    gevent.joinall(greenlets, timeout=5)
    with_timer.stop()
    with_timer.close()
    assert len(passed) == 10
    assert max(later - earlier for earlier, later in itertools.pairwise(by_turn)) <= 2


def test_sockets_and_timers_run_meanwhile(gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]) -> None:
    """Between two ticks of a timer, and between two bytes through a socket, few of the pieces of work are done."""
    gate = gates(0.005)
    done = 0
    at_tick: list[int] = []
    at_byte: list[int] = []
    left, right = socket.socketpair()

    def tick() -> None:
        while True:
            gevent.sleep(0.001)
            at_tick.append(done)

    def talk() -> None:
        while left.recv(1):
            at_byte.append(done)
            left.send(b"x")

    def talk_back() -> None:
        right.send(b"x")
        while right.recv(1):
            gevent.sleep(0.001)
            right.send(b"x")

    def work() -> None:
        nonlocal done
        for _ in range(10):
            gate.pass_through()
            burn(0.002)
            done += 1

    watchers = [gevent.spawn(watch) for watch in (tick, talk, talk_back)]
    workers = [gevent.spawn(work) for _ in range(20)]
    greenlets += [*watchers, *workers]
    gevent.joinall(workers, timeout=20)
    assert done == 200
    gevent.killall(watchers)
    left.close()
    right.close()
    for seen in (at_tick, at_byte):
        assert max(later - earlier for earlier, later in itertools.pairwise([0, *seen, done])) <= 20


def test_killed_in_line(gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]) -> None:
    gate = gates(0.001)
    passed = in_line(gate, greenlets, 5)
    greenlets[0].kill(block=False)
    greenlets[3].kill(block=False)
    gevent.joinall(greenlets, timeout=5)
    assert passed == [1, 2, 4]
    assert not gate._line


def test_timed_out_in_line(gates: Callable[[float], FairGate]) -> None:
    gate = gates(0.001)

    class Ours(Exception):
        pass

    gevent.sleep(0.001)
    burn(0.003)
    waiting = gevent.getcurrent()
    gevent.get_hub().loop.run_callback(lambda: waiting.throw(Ours()))
    with pytest.raises(Ours):
        gate.pass_through()
    assert not gate._line
    gate.pass_through()


def test_all_in_line_killed_and_then_another_comes(
    gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]
) -> None:
    gate = gates(0.001)
    passed = in_line(gate, greenlets, 3)
    gevent.killall(greenlets)
    assert passed == []
    again = in_line(gate, greenlets, 2)
    gevent.joinall(greenlets, timeout=5)
    assert again == [0, 1]


def test_killed_when_just_let_in(gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]) -> None:
    """The first one kills the others while the gate lets them in: nobody stays in line, and the gate works on."""
    gate = gates(60.0)
    gate.budget = 0.001
    passed: list[int] = []

    def pass_one(number: int) -> None:
        gate.pass_through()
        passed.append(number)
        if number == 0:
            gate.budget = 60.0  # there is room for all of them in this turn
            gevent.killall(greenlets[1:], block=False)
        gevent.sleep(0)
        passed.append(-number)

    burn(0.002)
    greenlets += [gevent.spawn(pass_one, number) for number in range(3)]
    wait_for_line(gate, 3)
    gevent.joinall(greenlets, timeout=5)
    assert passed[0] == 0
    assert passed.count(0) == 2
    assert -1 not in passed
    assert -2 not in passed
    assert not gate._line
    gate.pass_through()


def test_error_of_one_does_not_stop_the_others(
    gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet], greenlet_errors: list[str]
) -> None:
    gate = gates(0.001)
    passed: list[int] = []

    def pass_one(number: int) -> None:
        gate.pass_through()
        passed.append(number)
        if number == 1:
            raise ValueError("on purpose")

    burn(0.002)
    greenlets += [gevent.spawn(pass_one, number) for number in range(4)]
    wait_for_line(gate, 4)
    gevent.joinall(greenlets, timeout=5)
    assert passed == [0, 1, 2, 3]
    assert "on purpose" in "".join(greenlet_errors)
    greenlet_errors.clear()


def test_close_lets_everyone_through(gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]) -> None:
    gate = gates(0.001)
    passed = in_line(gate, greenlets, 10, work=0.002)
    gate.close()
    gate.close()
    gevent.joinall(greenlets, timeout=5)
    assert passed == list(range(10))
    burn(0.002)
    gate.pass_through()


def test_close_with_a_line_that_is_killed(gates: Callable[[float], FairGate], greenlets: list[gevent.Greenlet]) -> None:
    gate = gates(0.001)
    passed = in_line(gate, greenlets, 3)
    gate.close()
    gevent.killall(greenlets)
    gate.pass_through()
    wait_for(lambda: not gate._line)
    assert passed in ([], [0, 1, 2])


def test_close_leaves_no_watcher(greenlets: list[gevent.Greenlet]) -> None:
    loop = gevent.get_hub().loop
    before = loop.activecnt
    for line in (0, 3):
        gate = FairGate(0.001)
        in_line(gate, greenlets, line)
        gate.close()
        gevent.joinall(greenlets, timeout=5)
    wait_for(lambda: loop.activecnt <= before)
