"""``ThreadBridge``: clients for programs that do not run gevent."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any

from gevent.monkey import get_original

from grocketmq.errors import ClientStateError
from grocketmq.runtime.forks import drop_in_child
from grocketmq.runtime.lifecycle import Lifecycle, ServiceState
from grocketmq.runtime.threads import Home, allocate_lock

__all__ = ["ThreadBridge"]

log = logging.getLogger(__name__)

start_new_thread = get_original("_thread", "start_new_thread")

#: Seconds for a new thread to run its event loop, and for it to end.
_THREAD_TIMEOUT = 10.0


class ThreadBridge:
    """Runs clients in a thread of the system's with an event loop of its own, for programs that do not run gevent: a threaded
    web server, a ``ThreadPoolExecutor``, a plain script.

    ::

        producer = Producer("web")
        with ThreadBridge(producer):
            ...                          # producer.send(...) from any thread, at the same time

    Calls from all other threads are handed over to that thread.  Listeners run in it: one that blocks it, say with
    ``time.sleep``, holds up everything there.  In a forked child the thread is started anew with the first call of a
    client that may be started anew there.

    :param clients: not started; they are started in this order and shut down in the reverse one.
    :raises ClientStateError: when one was started already.
    """

    def __init__(self, *clients: Lifecycle) -> None:
        self._clients = clients
        self._home = _BridgeHome()
        for client in clients:
            if client.state is not ServiceState.CREATED:
                raise ClientStateError(f"{client!r} was started already; a ThreadBridge must start it itself")
            client._home = self._home

    def start(self) -> None:
        """Start the thread and the clients in it; blocks the calling thread until they have started.

        When one does not start, all are shut down and the thread ends; then make new ones.
        """
        atexit.register(self.shutdown)
        try:
            for client in self._clients:
                client.start()
        except BaseException:
            self.shutdown(0.0)
            raise

    def shutdown(self, timeout: float = 10.0) -> None:
        """Shut the clients down and end the thread; blocks the calling thread until that is done.

        :param timeout: seconds that each client's work under way may take to end.
        """
        atexit.unregister(self.shutdown)
        if self._home.thread:
            for client in reversed(self._clients):
                client.shutdown(timeout)
            self._home.stop()
            for client in self._clients:
                client._home = None  # a later call says that it is shut down, and needs no thread for that

    def call(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call any function in its thread, in a greenlet, and wait for the result; blocks the calling thread.

        :param run: the function.
        :param args: its arguments.
        :param kwargs: likewise.
        """
        return self._home.call(run, args, kwargs)

    def __enter__(self) -> ThreadBridge:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()


class _BridgeHome(Home):
    """A thread that is started when it is first needed, in each process anew."""

    def __init__(self) -> None:
        self.abandon()
        drop_in_child(self)

    def abandon(self) -> None:
        """In a forked child: the thread is not there."""
        self.thread = 0
        self._turn = allocate_lock()

    def in_child(self) -> Home:
        """Itself: it starts its thread again."""
        return self

    def call(self, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See :class:`~grocketmq.runtime.threads.Home`."""
        if not self.thread:
            with self._turn:
                if not self.thread:
                    self._start_thread()
        return super().call(run, args, kwargs)

    def _start_thread(self) -> None:
        self._running, self._ended = allocate_lock(), allocate_lock()
        self._running.acquire()
        self._ended.acquire()
        start_new_thread(self._live, ())
        if not self._running.acquire(timeout=_THREAD_TIMEOUT):
            raise ClientStateError(f"the thread of a ThreadBridge did not start within {_THREAD_TIMEOUT:g} s")

    def _live(self) -> None:
        """What the thread runs: its event loop, until :meth:`stop`."""
        super().__init__()
        self._stopper = self.hub.loop.async_()
        self._running.release()
        try:
            self.hub.wait(self._stopper)
        finally:
            self._stopper.close()  # else libuv's loop has something to wait for, and destroy() never returns
            self.hub.destroy(destroy_loop=True)
            self._ended.release()

    def stop(self) -> None:
        """End the thread; blocks the calling one until it has ended."""
        self.thread = 0
        self._stopper.send()
        if not self._ended.acquire(timeout=_THREAD_TIMEOUT):
            log.error(
                "the thread of a ThreadBridge did not end within %g s; something in it holds its event loop", _THREAD_TIMEOUT
            )
