"""Deadlines never go below zero, and pauses double up to a cap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import ConfigError, RequestTimeout
from grocketmq.runtime import deadline as module
from grocketmq.runtime.deadline import SHORTEST_WAIT, Backoff, Deadline, waitable


@pytest.mark.parametrize(
    ("seconds", "wait"), [(2.0, 2.0), (SHORTEST_WAIT, SHORTEST_WAIT), (1e-9, SHORTEST_WAIT), (0.0, 0.0), (-1.0, 0.0)]
)
def test_what_a_loop_can_time(seconds: float, wait: float) -> None:
    assert waitable(seconds) == wait


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_deadline(clock: list[float]) -> None:
    deadline = Deadline(2.0)
    assert deadline.at == 1002.0
    assert (deadline.remaining(), deadline.expired, deadline.check("send")) == (2.0, False, 2.0)
    clock[0] += 1.5
    assert (deadline.remaining(), deadline.expired) == (0.5, False)
    clock[0] += 0.4999
    assert (deadline.remaining(), deadline.expired, deadline.check("send")) == (SHORTEST_WAIT, False, SHORTEST_WAIT)
    clock[0] += 0.0001
    assert (deadline.remaining(), deadline.expired) == (0.0, True)
    clock[0] += 100
    assert deadline.remaining() == 0.0
    with pytest.raises(RequestTimeout, match="no time left to find the route"):
        deadline.check("find the route")


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_deadline_that_is_over_at_once(seconds: float) -> None:
    deadline = Deadline(seconds)
    assert deadline.expired
    assert deadline.remaining() == 0.0
    with pytest.raises(TimeoutError):
        deadline.check("send")


def test_backoff_doubles_up_to_the_cap_and_begins_again() -> None:
    backoff = Backoff(0.1, 0.5, jitter=0)
    assert [backoff.next() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    backoff.reset()
    assert backoff.next() == 0.1


@given(st.floats(0.001, 10), st.floats(0.001, 100), st.floats(0, 1))
def test_backoff_stays_within_its_bounds(first: float, cap: float, jitter: float) -> None:
    backoff, whole = Backoff(first, cap, jitter), Backoff(first, cap, 0)
    for _ in range(12):
        pause, longest = backoff.next(), whole.next()
        assert longest * (1 - jitter) <= pause <= longest <= max(first, cap)


def test_backoff_is_drawn_by_chance() -> None:
    assert len({Backoff(1.0, 1.0, 0.3).next() for _ in range(20)}) > 1


@pytest.mark.parametrize("seconds", ["5", None, b"1", float("nan")])
def test_what_is_no_number_of_seconds(seconds: object) -> None:
    with pytest.raises(ConfigError, match="must be a number of seconds"):
        Deadline(seconds)  # type: ignore[arg-type]
