"""``start()`` and ``shutdown()``: the same states and the same rules for every client.

::

    CREATED --start--> STARTING --> RUNNING --shutdown--> STOPPING --> STOPPED
       ^                  |
       +---- failed ------+
"""

from __future__ import annotations

import os
from enum import Enum
from types import TracebackType
from typing import TypeVar

from gevent.lock import RLock

from grocketmq.errors import ClientStateError, ForkError

__all__ = ["Lifecycle", "ServiceState"]

_Self = TypeVar("_Self", bound="Lifecycle")


class ServiceState(Enum):
    """Where a service is in its life."""

    CREATED = "created, not started"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "shutting down"
    STOPPED = "shut down"


_ADVICE = {
    ServiceState.CREATED: "call start() first",
    ServiceState.STARTING: "wait until start() has returned",
    ServiceState.STOPPING: "make a new one to go on",
    ServiceState.STOPPED: "make a new one to go on",
}


class Lifecycle:
    """Mixin for what is started once and shut down once; subclasses write ``_start`` and ``_shutdown``."""

    def __init__(self) -> None:
        self._state = ServiceState.CREATED
        self._pid = 0
        self._turn = RLock()

    @property
    def state(self) -> ServiceState:
        """Where it is in its life."""
        return self._state

    def start(self) -> None:
        """Start; blocks its greenlet until it is started, and does nothing when it runs already.

        :raises ClientStateError: after :meth:`shutdown`; make a new object then.
        """
        with self._turn:
            if self._state is ServiceState.RUNNING:
                self._check_process()
                return
            if self._state is not ServiceState.CREATED:
                raise ClientStateError(f"{self!r} is {self._state.value}; make a new one instead of starting it again")
            self._state = ServiceState.STARTING
            self._pid = os.getpid()
            try:
                self._start()
            except BaseException:
                try:
                    self._shutdown(0.0)
                finally:
                    self._state = ServiceState.CREATED
                raise
            self._state = ServiceState.RUNNING

    def shutdown(self, timeout: float = 10.0) -> None:
        """Stop; blocks its greenlet until everything has ended, and does nothing when it is stopped already.

        One that was broken off (by a kill, by a ``gevent.Timeout``) can be called again to finish the work.

        :param timeout: seconds that work under way may take to end; what has not ended by then is cut off.
        """
        with self._turn:
            if self._state in (ServiceState.CREATED, ServiceState.STOPPED):
                self._state = ServiceState.STOPPED
                return
            self._state = ServiceState.STOPPING
            self._shutdown(timeout)
            self._state = ServiceState.STOPPED

    def _start(self) -> None:
        """Bring it up; on an error ``_shutdown`` is called and must cope with half a start."""

    def _shutdown(self, timeout: float) -> None:
        """Bring it down within about ``timeout`` seconds; must cope with having been broken off before."""

    def _check_running(self) -> None:
        """For the first line of every public call.

        :raises ClientStateError: unless it runs.
        :raises ForkError: in a forked child of the process that started it.
        """
        self._check_state_in(ServiceState.RUNNING)

    def _check_started(self) -> None:
        """For the first line of public calls that the own start and shutdown make too.

        :raises ClientStateError: before ``start()`` and after ``shutdown()``.
        :raises ForkError: in a forked child of the process that started it.
        """
        self._check_state_in(ServiceState.STARTING, ServiceState.RUNNING, ServiceState.STOPPING)

    def _check_not_stopped(self) -> None:
        """For public calls that may come before ``start()`` too.

        :raises ClientStateError: once ``shutdown()`` was called.
        :raises ForkError: when it was started, in a forked child.
        """
        if self._state is not ServiceState.CREATED:
            self._check_state_in(ServiceState.STARTING, ServiceState.RUNNING)

    def _check_state_in(self, *states: ServiceState) -> None:
        if self._state not in states:
            raise ClientStateError(f"{self!r} cannot be used now; {_ADVICE[self._state]}")
        self._check_process()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkError(
                f"{self!r} was started in process {self._pid} and cannot be used in its forked child {os.getpid()}; "
                "start clients after the fork (gunicorn: post_fork or post_worker_init)"
            )

    def __enter__(self: _Self) -> _Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()
