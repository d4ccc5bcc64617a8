"""All ways through start and shutdown."""

from __future__ import annotations

import os
import subprocess
import sys

import gevent
import pytest
from gevent.event import Event

from grocketmq.errors import ClientStateError, ForkError
from grocketmq.runtime.lifecycle import Lifecycle, ServiceState
from grocketmq.runtime.tasks import TaskGroup
from tests.meta.source import ROOT


class Service(Lifecycle):
    """Notes its steps; events hold them up, errors make them fail."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.hold_start = Event()
        self.hold_shutdown = Event()
        self.hold_start.set()
        self.hold_shutdown.set()
        self.start_error: BaseException | None = None
        self.shutdown_error: BaseException | None = None
        self.tasks = TaskGroup("service")

    def __repr__(self) -> str:
        return "<Service>"

    def use(self) -> str:
        self._check_running()
        return "used"

    def _start(self) -> None:
        self.steps.append("start")
        self.hold_start.wait(5)
        if self.start_error is not None:
            raise self.start_error

    def _shutdown(self, timeout: float) -> None:
        self.steps.append(f"shutdown {timeout:g}")
        self.hold_shutdown.wait(5)
        self.tasks.join(timeout)
        self.tasks.kill()
        if self.shutdown_error is not None:
            raise self.shutdown_error


def test_from_start_to_end() -> None:
    service = Service()
    assert service.state is ServiceState.CREATED
    with pytest.raises(ClientStateError, match=r"<Service> .*call start\(\) first"):
        service.use()
    service.start()
    assert service.state is ServiceState.RUNNING
    assert service.use() == "used"
    service.shutdown(3)
    assert service.state is ServiceState.STOPPED
    with pytest.raises(ClientStateError, match=r"<Service> .*make a new one"):
        service.use()
    assert service.steps == ["start", "shutdown 3"]


def test_twice_is_as_good_as_once() -> None:
    service = Service()
    service.start()
    service.start()
    service.shutdown()
    service.shutdown()
    assert service.steps == ["start", "shutdown 10"]


def test_context_manager_shuts_down_after_an_error() -> None:
    service = Service()
    with pytest.raises(ValueError, match="inside"), service as entered:
        assert entered is service
        assert service.state is ServiceState.RUNNING
        raise ValueError("inside")
    assert service.state is ServiceState.STOPPED


def test_shutdown_before_start_ends_it() -> None:
    service = Service()
    service.shutdown()
    assert service.state is ServiceState.STOPPED
    with pytest.raises(ClientStateError, match="make a new one"):
        service.start()
    assert service.steps == []


def test_no_second_life() -> None:
    service = Service()
    service.start()
    service.shutdown()
    with pytest.raises(ClientStateError, match="make a new one"):
        service.start()
    assert service.steps == ["start", "shutdown 10"]


@pytest.mark.parametrize("error", [ValueError("no"), gevent.GreenletExit(), gevent.Timeout(), KeyboardInterrupt()])
def test_failed_start_can_be_tried_again(error: BaseException) -> None:
    service = Service()
    service.start_error = error
    with pytest.raises(type(error)) as caught:
        service.start()
    assert caught.value is error
    assert service.state is ServiceState.CREATED
    assert service.steps == ["start", "shutdown 0"]
    service.start_error = None
    service.start()
    assert service.state is ServiceState.RUNNING
    service.shutdown()


def test_failed_start_with_failed_clean_up_can_be_tried_again() -> None:
    service = Service()
    service.start_error, service.shutdown_error = ValueError("start"), ValueError("clean up")
    with pytest.raises(ValueError, match="clean up") as caught:
        service.start()
    assert caught.value.__context__ is service.start_error
    service.start_error = service.shutdown_error = None
    service.start()
    assert service.state is ServiceState.RUNNING
    service.shutdown()


def test_a_shutdown_that_failed_is_finished_by_the_next() -> None:
    service = Service()
    service.start()
    service.shutdown_error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        service.shutdown()
    assert service.state is ServiceState.STOPPING
    with pytest.raises(ClientStateError):
        service.use()
    service.shutdown_error = None
    service.shutdown()
    assert service.state is ServiceState.STOPPED


def test_concurrent_starts_start_once() -> None:
    service = Service()
    service.hold_start.clear()
    starters = [gevent.spawn(service.start) for _ in range(5)]
    gevent.sleep(0)
    assert service.state is ServiceState.STARTING
    with pytest.raises(ClientStateError, match="<Service>"):
        service.use()
    service.hold_start.set()
    gevent.joinall(starters, timeout=5, raise_error=True)
    assert service.steps == ["start"]
    service.shutdown()


def test_killed_while_starting() -> None:
    service = Service()
    service.hold_start.clear()
    starter, second = gevent.spawn(service.start), gevent.spawn(service.start)
    gevent.sleep(0)
    starter.kill()
    service.hold_start.set()
    second.join(5)
    assert service.state is ServiceState.RUNNING, "the second one had its turn"
    assert service.steps == ["start", "shutdown 0", "start"]
    service.shutdown()


def test_concurrent_shutdowns_shut_down_once_and_all_wait() -> None:
    service = Service()
    service.start()
    service.hold_shutdown.clear()
    stoppers = [gevent.spawn(service.shutdown) for _ in range(3)]
    gevent.sleep(0)
    assert service.state is ServiceState.STOPPING
    assert not any(stopper.ready() for stopper in stoppers)
    with pytest.raises(ClientStateError, match="<Service>"):
        service.use()
    service.hold_shutdown.set()
    gevent.joinall(stoppers, timeout=5, raise_error=True)
    assert service.steps == ["start", "shutdown 10"]


def test_shutdown_waits_for_a_start_under_way() -> None:
    service = Service()
    service.hold_start.clear()
    starter = gevent.spawn(service.start)
    gevent.sleep(0)
    stopper = gevent.spawn(service.shutdown)
    gevent.sleep(0)
    assert service.steps == ["start"]
    service.hold_start.set()
    gevent.joinall([starter, stopper], timeout=5, raise_error=True)
    assert service.steps == ["start", "shutdown 10"]
    assert service.state is ServiceState.STOPPED


def test_shutdown_from_within_a_task() -> None:
    service = Service()
    service.start()
    other = service.tasks.spawn("other", gevent.sleep, 3600)
    caller = service.tasks.spawn("caller", service.shutdown, 0.01)
    caller.join(5)
    assert caller.successful()
    assert other.dead
    assert service.state is ServiceState.STOPPED


def test_shutdown_from_within_two_tasks() -> None:
    service = Service()
    service.start()
    callers = [service.tasks.spawn(f"caller {number}", service.shutdown, 0.01) for number in range(2)]
    gevent.joinall(callers, timeout=5)
    assert all(caller.dead for caller in callers)
    assert service.state is ServiceState.STOPPED


FORK = """
import os, sys
import gevent
from tests.unit.runtime.test_lifecycle import Service
from grocketmq.errors import ForkError
from grocketmq.runtime.lifecycle import ServiceState

service = Service()
service.start()
pid = os.fork()
if pid == 0:
    gevent.sleep(0)
    assert service.state is ServiceState.FORKED
    for call in (service.use, service.start):
        try:
            call()
        except ForkError as error:
            assert f"its forked child {os.getpid()}" in str(error), error
        else:
            os._exit(1)
    service.shutdown()
    assert (service.state, service.steps) == (ServiceState.STOPPED, ["start"])
    os._exit(42)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert service.use() == "used"
service.shutdown()
print(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_used_in_a_forked_child() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("42\n", "")
    assert issubclass(ForkError, ClientStateError)
