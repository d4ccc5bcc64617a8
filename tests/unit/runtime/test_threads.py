"""Calls from other threads of the system, patched or not."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.monkey import get_original

from grocketmq.errors import ClientStateError, ConfigError, RequestTimeout
from grocketmq.runtime import bridge as bridges
from grocketmq.runtime import threads
from grocketmq.runtime.bridge import ThreadBridge
from grocketmq.runtime.deadline import SHORTEST_WAIT, Deadline
from grocketmq.runtime.lifecycle import Lifecycle, ServiceState
from grocketmq.runtime.pool import in_pool as in_thread
from tests.helpers import wait_for

colour = contextvars.ContextVar("colour", default="none")
native_sleep = get_original("time", "sleep")


class Service(Lifecycle):
    """Tells where its calls run."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def where(self) -> tuple[int, str]:
        self._check_running()
        gevent.sleep(0.01)
        return threads.get_ident(), colour.get()

    def fail(self) -> None:
        raise ZeroDivisionError("on purpose")

    def late(self, timeout: float = 1.0) -> None:
        deadline = Deadline(timeout)
        while True:
            deadline.check("wait")
            gevent.sleep(0.01)

    def for_ever(self) -> None:
        try:
            gevent.sleep(3600)
        finally:
            self.steps.append("ended")

    def end(self) -> None:
        raise gevent.GreenletExit

    def hold(self, timeout: float) -> None:
        self.steps.append("held")
        native_sleep(0.3)  # the whole thread, with its event loop


def in_gevent_thread(run: Callable[[], Any]) -> Any:
    """In a thread that runs an event loop of its own, in a greenlet of it."""

    def thread() -> Any:
        job = gevent.spawn(run)
        ticks = 0
        while not job.ready():
            gevent.sleep(0.001)
            ticks += 1
        assert ticks > 3, "it waits without holding its own event loop"
        gevent.get_hub().destroy(destroy_loop=True)
        return job.get()

    return gevent.get_hub().threadpool.apply(thread)


@pytest.mark.parametrize("elsewhere", [in_thread, in_gevent_thread])
def test_a_call_runs_at_home_in_the_callers_context(elsewhere: Callable[..., Any]) -> None:
    with Service() as service:

        def call() -> Any:
            colour.set("green")
            return service.where()

        mine = threads.get_ident()
        assert elsewhere(call) == (mine, "green")
        assert colour.get() == "none"
        assert service.where() == (mine, "none")


def test_errors_come_back() -> None:
    with Service() as service:
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            in_thread(service.fail)
        with pytest.raises(ClientStateError, match="cut off"):
            in_thread(service.end)
        began = monotonic()
        with pytest.raises(RequestTimeout):
            in_thread(lambda: service.late(timeout=0.1))
        assert monotonic() - began < 1
    with pytest.raises(ClientStateError, match="make a new one"):
        in_thread(service.where)


def test_start_and_shutdown_elsewhere() -> None:
    service = Service()
    service.start()
    in_thread(service.shutdown)
    assert service.state is ServiceState.STOPPED


def test_an_owner_that_does_not_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.1)
    with Service() as service:
        caught: list[str] = []

        def call() -> None:
            try:
                service.where()
            except ClientStateError as error:
                caught.append(str(error))

        start_new_thread = get_original("_thread", "start_new_thread")
        start_new_thread(call, ())
        native_sleep(0.5)  # the whole thread, with its event loop
        assert len(caught) == 1
        assert "ThreadBridge" in caught[0]
        gevent.sleep(0.02)  # the call that was given up does not run now


@pytest.mark.parametrize("how", ["before", "by place", "during"])
def test_an_owner_that_is_busy_for_a_while(how: str) -> None:
    """It costs a call with a short timeout no more than that, whether the call was begun or not."""
    with Service() as service:
        caught: list[Exception] = []

        def call() -> None:
            try:
                if how == "during":
                    service.hold(timeout=0.05)
                elif how == "by place":
                    service.late(0.05)
                else:
                    service.late(timeout=0.05)
            except Exception as error:
                caught.append(error)

        get_original("_thread", "start_new_thread")(call, ())
        if how != "during":
            native_sleep(0.3)
        wait_for(lambda: caught)
        assert isinstance(caught[0], RequestTimeout)
        assert ("cut off" if how == "during" else "not made") in str(caught[0])
        assert service.steps == (["held"] if how == "during" else [])


class Timed:
    """Takes a timeout, by place."""

    def after(self, number: int, timeout: float) -> float:
        return number + timeout

    def before(self, timeout: Any, what: Any = None) -> Any:
        return timeout


@pytest.mark.parametrize(
    ("run", "args", "kwargs", "timeout"),
    [
        (Timed().after, (5, 0.5), {}, 0.5),
        (Timed.after, (Timed(), 5, 0.5), {}, 0.5),
        (Timed().before, (0.5, "x"), {}, 0.5),
        (Timed().before, (0.5,), {"what": "x"}, 0.5),
        (Timed().after, (5,), {"timeout": 2}, 2),
        (Timed().before, ("3",), {}, 0.0),
        (Timed().before, (), {"timeout": "3"}, 0.0),
        (Timed().before, (None,), {}, 0.0),
        (max, (1, 2), {"timeout": 3.0}, 3.0),
    ],
)
def test_the_timeout_of_a_call(run: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float) -> None:
    assert threads._timeout_of(run, args, kwargs) == timeout


def test_a_timeout_that_is_no_number_is_refused_as_at_home() -> None:
    with Service() as service:
        for call in (service.late, lambda timeout: in_thread(lambda: service.late(timeout=timeout))):
            for timeout in ("3", float("nan")):
                with pytest.raises(ConfigError, match="must be a number of seconds"):
                    call(timeout)  # type: ignore[arg-type]


def test_a_timeout_too_short_for_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    patience: list[float] = []
    wait = threads._Job.wait
    monkeypatch.setattr(threads._Job, "wait", lambda job, seconds: patience.append(seconds) or wait(job, 1.0))
    with Service() as service, pytest.raises(RequestTimeout):
        in_thread(lambda: service.late(1e-6))
    assert patience == [SHORTEST_WAIT]


def test_an_owner_that_turns_lets_a_call_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.1)
    with Service() as service, pytest.raises(RequestTimeout):
        in_thread(lambda: service.late(0.3))


def test_a_caller_that_is_killed_takes_its_call_along() -> None:
    with Service() as service:

        def thread() -> None:
            job = gevent.spawn(service.for_ever)
            gevent.sleep(0.05)
            job.kill()
            gevent.get_hub().destroy(destroy_loop=True)

        gevent.get_hub().threadpool.apply(thread)
        gevent.sleep(0.05)
        assert service.steps == ["ended"]


@pytest.mark.parametrize("begun", [True, False])
def test_calls_that_are_given_up_leave_no_watcher(monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    watchers: list[Any] = []

    class Noted(threads._Job):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            watchers.append(self._watcher)

    def give_up() -> list[bool]:
        for _ in range(5):
            with gevent.Timeout(0.02 if begun else 0.0, False):
                service.for_ever()
        gevent.sleep(0.02)
        left = [one.active for one in watchers]
        gevent.get_hub().destroy(destroy_loop=True)
        return left

    monkeypatch.setattr(threads, "_Job", Noted)
    with Service() as service:
        assert gevent.get_hub().threadpool.apply(give_up) == [False] * 5
        wait_for(lambda: service.steps == ["ended"] * 5 or not begun)
        gevent.sleep(0.02)
        monkeypatch.undo()
        assert in_thread(service.where)  # it is as good as before


def test_bridge() -> None:
    service = Service()
    mine = threads.get_ident()
    with ThreadBridge(service) as bridge:
        assert service.state is ServiceState.RUNNING
        there, _ = service.where()
        assert there != mine
        assert in_thread(service.where)[0] == there
        assert bridge.call(threads.get_ident) == there
        with pytest.raises(ClientStateError, match="itself"):
            ThreadBridge(service)
    assert service.state is ServiceState.STOPPED
    wait_for(lambda: there not in sys._current_frames())  # the thread is no more
    bridge.shutdown()


def test_a_client_used_after_its_bridge_starts_no_thread() -> None:
    service = Service()
    with ThreadBridge(service) as bridge:
        pass
    with pytest.raises(ClientStateError, match="make a new one"):
        service.where()
    service.shutdown()
    assert bridge._home.thread == 0
    with pytest.raises(ClientStateError, match="make a new one"):
        bridge.start()


def test_bridge_whose_client_does_not_start() -> None:
    """Those before it do not run on, nor does the thread: a ``with`` never gets to its end."""

    class Bad(Service):
        def _start(self) -> None:
            raise ZeroDivisionError

    good, bad = Service(), Bad()
    bridge = ThreadBridge(good, bad)
    with pytest.raises(ZeroDivisionError), bridge:
        pytest.fail("it did not start")
    assert good.state is bad.state is ServiceState.STOPPED
    assert bridge._home.thread == 0
    bridge.shutdown()


def test_bridge_whose_thread_does_not_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    bridge = ThreadBridge()
    there = bridge.call(threads.get_ident)
    monkeypatch.setattr(bridges, "_THREAD_TIMEOUT", 0.02)
    bridge.call(gevent.spawn_later, 0, native_sleep, 0.2)  # the whole thread, with its event loop
    bridge.shutdown()
    assert "the thread of a ThreadBridge did not end within 0.02 s" in caplog.text
    wait_for(lambda: there not in sys._current_frames())
