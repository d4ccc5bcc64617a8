"""``start()`` and ``shutdown()``: the same states and the same rules for every client.

::

    CREATED --start--> STARTING --> RUNNING --shutdown--> STOPPING --> STOPPED
       ^                  |            |
       +---- failed ------+            +--- in a forked child ---> FORKED --start--> STARTING ...
"""

from __future__ import annotations

import os
from enum import Enum
from types import FunctionType, TracebackType
from typing import Any, ClassVar, TypeVar

from gevent.lock import RLock

from grocketmq.errors import ClientStateError, ForkError
from grocketmq.runtime.forks import drop_in_child, notice_fork, watch_hub
from grocketmq.runtime.threads import Home, from_any_thread

__all__ = ["Lifecycle", "ServiceState"]

_Self = TypeVar("_Self", bound="Lifecycle")


class ServiceState(Enum):
    """Where a service is in its life."""

    CREATED = "created, not started"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "shutting down"
    STOPPED = "shut down"
    FORKED = "started by the parent process"


#: Reading a member of an enumeration costs five times a global.
_RUNNING = ServiceState.RUNNING

_ADVICE = {
    ServiceState.CREATED: "call start() first",
    ServiceState.STARTING: "wait until start() has returned",
    ServiceState.STOPPING: "make a new one to go on",
    ServiceState.STOPPED: "make a new one to go on",
}


class Lifecycle:
    """Mixin for what is started once and shut down once; subclasses write ``_start``, ``_shutdown`` and ``_renew``.

    The thread that starts it owns it; public methods that are called in another thread run in that one all the same.
    """

    #: Public methods that run in the thread that calls them.
    _RUN_ANYWHERE: ClassVar[frozenset[str]] = frozenset({"abandon"})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, member in list(vars(cls).items()):
            if isinstance(member, FunctionType) and not name.startswith("_") and name not in cls._RUN_ANYWHERE:
                setattr(cls, name, from_any_thread(member))

    def __init__(self) -> None:
        self._home: Home | None = None
        self._state = ServiceState.CREATED
        self._pid = 0
        self._turn = RLock()
        #: What it was before the start under way; a start that fails goes back to it.
        self._before = ServiceState.CREATED

    @property
    def state(self) -> ServiceState:
        """Where it is in its life."""
        notice_fork()
        return self._state

    @property
    def restarts_after_fork(self) -> bool:
        """Whether it is started anew in a forked child, when it is first used there; else that raises ``ForkError``."""
        return False

    @from_any_thread
    def start(self) -> None:
        """Start; blocks its greenlet until it is started, and does nothing when it runs already.

        :raises ClientStateError: after :meth:`shutdown`; make a new object then.
        :raises ForkError: in a forked child of the process that started it, unless it may be started anew there.
        """
        notice_fork()
        with self._turn:
            if self._state is ServiceState.RUNNING:
                return
            if self._state is ServiceState.FORKED:
                self._check_restart()
                self._renew()
            elif self._state is not ServiceState.CREATED:
                raise ClientStateError(f"{self!r} is {self._state.value}; make a new one instead of starting it again")
            self._before = self._state
            self._state = ServiceState.STARTING
            self._pid = os.getpid()
            self._home = self._home or Home()
            drop_in_child(self)
            watch_hub()
            try:
                self._start()
            except BaseException:
                self._undo_start()
                raise
            self._state = ServiceState.RUNNING

    @from_any_thread
    def undo_start(self) -> None:
        """Take a start back, for those who start several as one: stops what runs, which may then be started again."""
        with self._turn:
            if self.state is ServiceState.RUNNING:
                self._state = ServiceState.STOPPING
                self._undo_start()

    def _undo_start(self) -> None:
        try:
            self._abort_start()
        finally:
            self._renew()
            self._state = self._before

    @from_any_thread
    def shutdown(self, timeout: float = 10.0) -> None:
        """Stop; blocks its greenlet until everything has ended, and does nothing when it is stopped already.

        One that was broken off (by a kill, by a ``gevent.Timeout``) can be called again to finish the work.

        :param timeout: seconds that work under way may take to end; what has not ended by then is cut off.
        """
        notice_fork()
        with self._turn:
            if self._state in (ServiceState.CREATED, ServiceState.STOPPED, ServiceState.FORKED):
                self._state = ServiceState.STOPPED
                return
            self._state = ServiceState.STOPPING
            self._shutdown(timeout)
            self._state = ServiceState.STOPPED

    def _start(self) -> None:
        """Bring it up; on an error ``_abort_start`` follows."""

    def _abort_start(self) -> None:
        """Bring down what a start that failed has brought up; ``_shutdown`` must cope with that, or this be written too."""
        self._shutdown(0.0)

    def _shutdown(self, timeout: float) -> None:
        """Bring it down within about ``timeout`` seconds; must cope with having been broken off before."""

    def _renew(self) -> None:
        """Make anew what belongs to one start in one process, such as task groups, before the next."""

    def abandon(self) -> None:
        """In a forked child: what was started is the parent's; see :class:`~grocketmq.runtime.forks.Inherited`."""
        self._turn = RLock()
        self._home = self._home and self._home.in_child()
        if self._state is ServiceState.STOPPING:
            self._state = ServiceState.STOPPED
        elif self._state is ServiceState.RUNNING or self._state is ServiceState.STARTING:
            self._state = ServiceState.FORKED

    def _check_running(self) -> None:
        """For the first line of every public call; blocks only in a forked child, while it is started anew there.

        :raises ClientStateError: unless it runs.
        :raises ForkError: in a forked child of the process that started it, unless it may be started anew there.
        """
        if self._state is not _RUNNING or os.getpid() != self._pid:
            self._check_state_in(ServiceState.RUNNING)

    def _check_started(self) -> None:
        """For the first line of public calls that the own start and shutdown make too.

        :raises ClientStateError: before ``start()`` and after ``shutdown()``.
        :raises ForkError: in a forked child of the process that started it, unless it may be started anew there.
        """
        self._check_state_in(ServiceState.STARTING, ServiceState.RUNNING, ServiceState.STOPPING)

    def _check_not_stopped(self) -> None:
        """For public calls that may come before ``start()`` too.

        :raises ClientStateError: once ``shutdown()`` was called.
        :raises ForkError: when it was started, in a forked child, unless it may be started anew there.
        """
        if self._state is not ServiceState.CREATED:
            self._check_state_in(ServiceState.STARTING, ServiceState.RUNNING)

    def _check_state_in(self, *states: ServiceState) -> None:
        notice_fork()
        if self._state in states:
            return
        if self._state is ServiceState.FORKED:
            self._check_restart()
            self.start()
        elif self._state is ServiceState.STARTING and self._before is ServiceState.FORKED:
            self.start()  # it waits for the one who starts it
        else:
            raise ClientStateError(f"{self!r} cannot be used now; {_ADVICE[self._state]}")

    def _check_restart(self) -> None:
        if not self.restarts_after_fork:
            raise ForkError(
                f"{self!r} was started in process {self._pid} and cannot be used in its forked child {os.getpid()}; "
                "start it after the fork (gunicorn: post_worker_init), or let it be started anew with restart_after_fork=True"
            )

    def __enter__(self: _Self) -> _Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()
