"""Calls from other threads of the system than the one whose event loop serves a client.

Nothing of gevent may be touched from another thread, so such a call is handed over: it runs in a greenlet of the owner's event
loop, in the caller's context, with its own deadlines, and the caller waits.  That takes about 0.2 ms more than a call at home.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import wraps
from types import MethodType
from typing import Any, TypeVar, cast

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.event import Event
from gevent.monkey import get_original

from grocketmq.errors import ClientStateError, RequestTimeout
from grocketmq.runtime.deadline import waitable

__all__ = ["Home", "from_any_thread", "get_ident"]

#: The system's own, in a patched process too.
get_ident = get_original("_thread", "get_ident")
allocate_lock = get_original("_thread", "allocate_lock")

#: Seconds in which the owner's event loop must turn; then it is stuck, or its thread runs no event loop at all.
PATIENCE = 3.0

F = TypeVar("F", bound=Callable[..., Any])


class Home:
    """The thread that owns a client, with its event loop; made in that thread."""

    def __init__(self) -> None:
        self.thread: int = get_ident()
        self.hub = gevent.get_hub()

    def in_child(self) -> Home | None:
        """What takes its place in a forked child; None: the thread that first uses the client there."""
        return None

    def call(self, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function in the owner's thread and wait for its result; blocks the calling thread, or just its greenlet where
        that thread runs an event loop.

        :raises RequestTimeout: when the owner's event loop does not turn within the function's own ``timeout``.
        :raises ClientStateError: when it does not turn for longer than any listener should hold it.
        """
        asked = _timeout_of(run, args, kwargs)
        patience = waitable(min(PATIENCE, asked)) if asked > 0 else PATIENCE
        job = _Job(run, args, kwargs)
        try:
            self.post(job.begin)
            try:
                self._wait_for(job, patience)
            except BaseException:
                self.post(job.cancel)
                raise
        finally:
            job.close()
        return job.result()

    def _wait_for(self, job: _Job, patience: float) -> None:
        """Until it is done, as long as the owner's event loop turns."""
        while not job.wait(patience):
            if job.turned:
                job.turned = False
                self.post(job.note_turn)
                continue
            begun = job.ticket.pop(None, None) is None
            if begun and job.wait(patience):
                return
            what = (
                f"the event loop of the thread that owns this client did not run for {patience:g} s, so the call was "
                f"{'cut off' if begun else 'not made'}"
            )
            if patience < PATIENCE:  # it may have been busy, no more
                raise RequestTimeout(what)
            raise ClientStateError(f"{what}; a thread that does not run gevent all the time should leave it to a ThreadBridge")

    def post(self, callback: Callable[[], object]) -> None:
        """Have the owner's event loop call something; never blocks.

        :raises ClientStateError: when that event loop has ended.
        """
        try:
            self.hub.loop.run_callback_threadsafe(callback)
        except (ValueError, AttributeError) as error:  # the loop was destroyed
            raise ClientStateError("the thread that owns this client has ended") from error


def _timeout_of(run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """What a call gives as its ``timeout``, by name or by place; 0.0 for none, and for what is no number, which it refuses."""
    code = getattr(run, "__code__", None)
    if code is not None:
        names = code.co_varnames[isinstance(run, MethodType) : code.co_argcount]
        kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
    asked = kwargs.get("timeout")
    return asked if isinstance(asked, (int, float)) else 0.0


class _Job:
    """One call on its way to the owner's thread and back."""

    def __init__(self, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._run = run
        self._args = args
        self._kwargs = kwargs
        self._context = copy_context()
        #: Taken by the one who begins the job or gives it up, whichever comes first.
        self.ticket = {None: True}
        #: Whether the owner's event loop has turned since this was last set to False.
        self.turned = False
        self._greenlet: gevent.Greenlet | None = None
        self._value: Any = None
        self._error: Exception | None = None
        self._done = False
        self._hub = get_hub_if_exists()
        if self._hub is None:
            self._lock = allocate_lock()
            self._lock.acquire()
            self._wake: Callable[[], object] = self._lock.release
        else:
            self._event = Event()
            #: None once it is closed; the lock keeps the owner's thread from sending through it meanwhile.
            self._watcher: Any = self._hub.loop.async_(ref=False)
            self._watcher_lock = allocate_lock()
            self._watcher.start(self._event.set)
            self._wake = self._wake_greenlet

    # -- in the calling thread -----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> bool:
        """Whether it is done within so many seconds."""
        if self._hub is None:
            return bool(self._lock.acquire(timeout=seconds)) or self._done
        return bool(self._event.wait(seconds)) or self._done

    def close(self) -> None:
        """The caller waits no longer, however that came."""
        if self._hub is not None:
            with self._watcher_lock:
                watcher, self._watcher = self._watcher, None
                watcher.stop()
                watcher.close()

    def result(self) -> Any:
        """What the function returned, or raised."""
        if self._error is not None:
            raise self._error
        return self._value

    # -- in the owner's thread -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Run in a greenlet, unless the caller has given up."""
        self.turned = True
        if self.ticket.pop(None, None):
            self._greenlet = gevent.spawn(self._execute)
            self._greenlet.name = f"call from another thread: {getattr(self._run, '__qualname__', self._run)}"
            self._greenlet.rawlink(self._finish)

    def note_turn(self) -> None:
        """Tell that the event loop turns."""
        self.turned = True

    def cancel(self) -> None:
        """The caller waits no longer."""
        self.ticket.clear()
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def _execute(self) -> None:
        try:
            self._value = self._context.run(self._run, *self._args, **self._kwargs)
        except Exception as error:
            self._error = error

    def _finish(self, greenlet: gevent.Greenlet) -> None:
        if greenlet.exception is not None or isinstance(greenlet.value, gevent.GreenletExit):
            self._error = ClientStateError("the call was cut off in the thread that owns the client")
        self._done = True
        self._wake()

    def _wake_greenlet(self) -> None:
        with self._watcher_lock:
            if self._watcher is not None:
                self._watcher.send()


def from_any_thread(method: F) -> F:
    """Decorator for public methods of what has a ``_home``: calls from other threads are handed over to it."""

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        home = self._home
        if home is None or home.thread == get_ident():
            return method(self, *args, **kwargs)
        return home.call(method, (self, *args), kwargs)

    return cast(F, call)
