"""Tasks have names, errors are counted, loops come back, and all of them end."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from grocketmq.runtime import tasks as module
from grocketmq.runtime.tasks import PeriodicTask, TaskGroup
from tests.helpers import wait_for

HOUR = 3600.0


@pytest.fixture
def group() -> Iterator[TaskGroup]:
    group = TaskGroup("owner")
    yield group
    group.kill()


@pytest.fixture
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The errors of these tests are on purpose."""
    caplog.set_level(logging.CRITICAL, "grocketmq")


class Failing:
    """Fails so many times, then goes on."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.left = times
        self.error = error or ValueError("on purpose")
        self.runs = 0
        self.at: list[float] = []

    def __call__(self) -> None:
        self.runs += 1
        self.at.append(time.monotonic())
        if self.left:
            self.left -= 1
            raise self.error


# Once


def test_spawn_names_its_greenlet_and_passes_arguments(group: TaskGroup) -> None:
    seen: list[object] = []
    stop = Event()
    greenlet = group.spawn("work", lambda *args: (seen.extend(args), stop.wait(5)), 1, 2)
    group.spawn("another", stop.wait, 5)
    assert greenlet.name == "owner:work"
    assert group.names() == ["owner:another", "owner:work"]
    wait_for(lambda: seen == [1, 2])
    stop.set()
    assert group.join(5)
    assert len(group) == 0


def test_error_is_logged_and_counted(group: TaskGroup, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        group.spawn("work", Failing(1))
    assert group.join(5)
    assert group.failures == {"work": 2}
    assert "owner:work failed (2 times so far)" in caplog.text
    assert "on purpose" in caplog.text


def test_spawn_later(group: TaskGroup) -> None:
    ran = Event()
    greenlet = group.spawn_later(0.01, "late", ran.set)
    assert group.names() == ["owner:late"]
    assert not ran.is_set()
    assert ran.wait(5)
    greenlet.join(5)
    wait_for(lambda: len(group) == 0)


def test_what_was_never_started_is_killed_too(group: TaskGroup) -> None:
    ran: list[int] = []
    group.spawn_later(HOUR, "late", ran.append, 1)
    group.spawn("now", ran.append, 2)
    group.kill()
    assert group.join(0.1)
    wait_for(lambda: len(group) == 0)
    assert ran == []


# Loops


@pytest.mark.usefixtures("_quiet")
def test_loop_is_started_again_with_growing_pauses(group: TaskGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.gevent, "sleep", pauses.append)
    run = Failing(6)
    group.loop("loop", run)
    assert group.join(5)
    assert run.runs == 7
    assert group.failures == {"loop": 6}
    assert all(0.05 < pause <= 5.0 for pause in pauses)
    assert pauses[-1] > 3 * pauses[0]


@pytest.mark.usefixtures("_quiet")
def test_loop_that_was_healthy_for_long_comes_back_soon(group: TaskGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.gevent, "sleep", pauses.append)
    monkeypatch.setattr(module, "HEALTHY", -1.0)
    group.loop("loop", Failing(6))
    assert group.join(5)
    assert all(pause <= 0.1 for pause in pauses)


def test_loop_ends_when_it_returns_or_is_killed(group: TaskGroup) -> None:
    group.loop("short", lambda: None)
    endless = group.loop("endless", lambda: gevent.sleep(HOUR))
    wait_for(lambda: group.names() == ["owner:endless"])
    group.kill()
    assert endless.dead
    assert not group.failures


@pytest.mark.usefixtures("_quiet")
def test_kill_ends_a_loop_in_its_pause(group: TaskGroup) -> None:
    run = Failing(1000)
    greenlet = group.loop("loop", run)
    wait_for(lambda: run.runs == 1)
    group.kill()
    assert greenlet.dead
    assert run.runs == 1


@pytest.mark.usefixtures("_quiet")
def test_a_timeout_that_is_let_through_is_a_failure_like_others(group: TaskGroup) -> None:
    """Nobody waits for it at the root of a greenlet; a loop that died of it would never be seen again."""
    loop, periodic = Failing(1, gevent.Timeout()), Failing(1, gevent.Timeout())
    group.loop("loop", loop)
    group.periodic("tick", 0.005, periodic)
    group.spawn("once", Failing(1, gevent.Timeout()))
    wait_for(lambda: loop.runs == 2 and periodic.runs >= 2)
    assert group.failures == {"loop": 1, "tick": 1, "once": 1}


@pytest.mark.usefixtures("_quiet")
def test_a_timeout_in_the_pause_after_a_failure_ends_no_loop(group: TaskGroup) -> None:
    """A listener that let a Timeout run on has failed; it fires while the loop waits for its next turn."""
    left_running = gevent.Timeout(0.001)
    run = Failing(1)

    def loop() -> None:
        if run.left:
            left_running.start()
        run()

    try:
        group.loop("loop", loop)
        wait_for(lambda: run.runs == 2)
    finally:
        left_running.close()
    assert group.failures == {"loop": 2}


# Periodic


class Counting:
    """Notes its runs; ``answer`` is what it returns."""

    def __init__(self, answer: float | None = None) -> None:
        self.answer = answer
        self.runs = 0

    def __call__(self) -> float | None:
        self.runs += 1
        return self.answer


def test_periodic_runs_at_its_interval(group: TaskGroup) -> None:
    run = Counting()
    task = group.periodic("tick", 0.005, run)
    assert task.greenlet is not None
    assert task.greenlet.name == "owner:tick"
    wait_for(lambda: run.runs >= 5)


def test_periodic_waits_before_the_first_run(group: TaskGroup) -> None:
    run = Counting()
    task = group.periodic("tick", HOUR, run, first=HOUR)
    gevent.sleep(0.02)
    assert run.runs == 0
    task.wake()
    wait_for(lambda: run.runs == 1)


def test_wakes_before_a_run_count_as_one(group: TaskGroup) -> None:
    run = Counting()
    task = group.periodic("tick", HOUR, run, first=HOUR)
    for _ in range(5):
        task.wake()
    wait_for(lambda: run.runs == 1)
    gevent.sleep(0.02)
    assert run.runs == 1


def test_wake_during_a_run_is_not_lost(group: TaskGroup) -> None:
    entered, leave = Event(), Event()
    run = Counting()

    def slow() -> None:
        run()
        entered.set()
        leave.wait(5)

    task = group.periodic("tick", HOUR, slow)
    assert entered.wait(5)
    task.wake()
    leave.set()
    wait_for(lambda: run.runs == 2)


def test_run_may_ask_for_its_own_pause(group: TaskGroup) -> None:
    run = Counting(0.001)
    group.periodic("tick", HOUR, run)
    wait_for(lambda: run.runs >= 5)
    run.answer = None
    runs = run.runs
    gevent.sleep(0.03)
    assert run.runs <= runs + 1


def test_run_without_pause_lets_others_run(group: TaskGroup) -> None:
    run = Counting(0.0)
    group.periodic("tick", 0.0, run)
    gevent.sleep(0.01)
    assert run.runs > 1


@pytest.mark.usefixtures("_quiet")
def test_failing_run_is_counted_and_tried_again_after_the_interval(group: TaskGroup) -> None:
    run = Failing(3)
    group.periodic("tick", 0.005, run)
    wait_for(lambda: run.runs >= 5)
    assert group.failures == {"tick": 3}
    assert min(later - earlier for earlier, later in zip(run.at, run.at[1:], strict=False)) > 0.003


def test_least_gap_holds_however_often_it_is_woken(group: TaskGroup) -> None:
    at: list[float] = []
    task = group.periodic("tick", HOUR, lambda: at.append(time.monotonic()))
    task.least_gap = 0.03
    while len(at) < 4:
        task.wake()
        gevent.sleep(0.001)
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert min(gaps) > 0.025


def test_wake_within_the_least_gap_is_not_lost(group: TaskGroup) -> None:
    run = Counting()
    task = group.periodic("tick", HOUR, run)
    task.least_gap = 0.02
    wait_for(lambda: run.runs == 1)
    task.wake()
    wait_for(lambda: run.runs == 2)


@pytest.mark.parametrize("least_gap", [0.0, HOUR])
def test_stop_ends_a_pause(group: TaskGroup, least_gap: float) -> None:
    run = Counting()
    task = group.periodic("tick", HOUR, run)
    task.least_gap = least_gap
    wait_for(lambda: run.runs == 1)
    group.stop_periodic()
    assert group.join(5)
    assert run.runs == 1


def test_stop_lets_the_run_under_way_end(group: TaskGroup) -> None:
    entered = Event()
    ended: list[bool] = []

    def slow() -> None:
        entered.set()
        gevent.sleep(0.02)
        ended.append(True)

    task: PeriodicTask = group.periodic("tick", 0.0, slow)
    assert entered.wait(5)
    task.stop()
    assert group.join(5)
    assert ended == [True]


# Ending


def test_join_gives_up_in_time(group: TaskGroup) -> None:
    group.spawn("long", gevent.sleep, HOUR)
    began = time.monotonic()
    assert not group.join(0.02)
    assert time.monotonic() - began < 2
    assert group.names() == ["owner:long"]


def test_join_waits_for_what_is_spawned_meanwhile(group: TaskGroup) -> None:
    ran = Event()

    def first() -> None:
        gevent.sleep(0.01)
        group.spawn("second", second)

    def second() -> None:
        gevent.sleep(0.01)
        ran.set()

    group.spawn("first", first)
    assert group.join(None)
    assert ran.is_set()


def test_join_and_kill_from_within_leave_the_caller(group: TaskGroup) -> None:
    after: list[bool] = []

    def end_all() -> None:
        after.append(group.join(0.02))
        group.kill()
        after.append(group.join(None))

    other = group.spawn("other", gevent.sleep, HOUR)
    caller = group.spawn("caller", end_all)
    caller.join(5)
    assert after == [False, True]
    assert other.dead
    assert caller.successful()


def test_kill_waits_for_clean_up(group: TaskGroup) -> None:
    cleaned = []

    def work() -> None:
        try:
            gevent.sleep(HOUR)
        finally:
            gevent.sleep(0.01)
            cleaned.append(1)

    for _ in range(3):
        group.spawn("work", work)
    gevent.sleep(0)
    group.kill()
    assert cleaned == [1, 1, 1]
    assert len(group) == 0


def test_kill_ends_periodic_tasks_and_those_of_the_past(group: TaskGroup) -> None:
    run = Counting()
    group.periodic("tick", HOUR, run)
    wait_for(lambda: run.runs == 1)
    group.kill()
    group.kill()
    wait_for(lambda: len(group) == 0)
    assert not group.failures


def test_a_kill_is_no_failure(group: TaskGroup) -> None:
    greenlet = group.spawn("work", gevent.sleep, HOUR)
    gevent.sleep(0)
    greenlet.kill()
    assert not group.failures
    assert isinstance(greenlet.value, gevent.GreenletExit)
