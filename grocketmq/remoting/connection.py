"""One connection to one peer, shared by all who call it.

Its greenlet owns its life: resolve, connect, serve, close, fail everything that waits, with the cause.  While it
serves, bytes move in callbacks of the event loop, and no caller's greenlet ever touches the socket.  So a caller that
is killed or timed out at any point leaves no half frame behind and takes nobody's answer with it.

* A call puts its frame into ``_out`` and waits on a ``Waiter`` in ``_pending``.  One ``_flush`` a turn of the loop sends
  all that gathered.
* ``_read`` receives once a callback, decodes what is complete, then wakes the callers.
* One timer scans the deadlines of all pending calls; there is no timer a call.

Whatever a callback raises ends the connection, with that as the cause: gevent would stop the watcher and leave it deaf.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from enum import Enum
from math import inf
from os import getpid
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import Waiter
from gevent.lock import Semaphore

from grocketmq.errors import (
    ClientStateError,
    ConnectionLostError,
    ForkError,
    GRocketMQError,
    RemotingError,
    RequestTimeout,
    TooManyRequestsError,
)
from grocketmq.remoting.stream import ByteStream, send_gathered
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.runtime.threads import get_ident
from grocketmq.runtime.turns import SharedTurn
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.framing import FrameDecoder

__all__ = ["Call", "Connection", "ConnectionState"]

log = logging.getLogger(__name__)

#: Calls that may wait for an answer at once.  10,000 were fine with a broker, 20,000 made it answer SYSTEM_BUSY.
MAX_IN_FLIGHT = 4096
#: Bytes that may wait to be sent; who brings more waits until there is room.
MAX_OUT_BYTES = 8 * 1024 * 1024
#: Those who wait go on when no more than this is left; with all of it sent first, the peer would wait for us.
ROOM_BYTES = MAX_OUT_BYTES // 2
#: Least seconds between two looks at the deadlines; an answer's absence is noticed that much late at most, or twice that much
#: when the event loop was held up.
SCAN_INTERVAL = 0.05
#: Seconds for which no call is judged late while there is more to read than one receive takes.
CATCH_UP_TIME = 1.0
#: When a call has timed out and not a byte came since it was sent, at least so many seconds ago, the peer is gone.
SILENCE_MEANS_DEAD = 3.0

_READ, _WRITE = 1, 2


class ConnectionState(Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


#: Reading a member of an enumeration costs five times a global, and these are asked for every call.
_OPEN = ConnectionState.OPEN


class Call:
    """One request whose answer is awaited."""

    __slots__ = ("deadline", "opaque", "sent_at", "waiter")

    def __init__(self, opaque: int, waiter: Waiter, deadline: float, sent_at: float) -> None:
        self.opaque = opaque
        self.waiter = waiter
        self.deadline = deadline
        self.sent_at = sent_at


class Connection:
    """A multiplexed connection.  :meth:`call` may be used by any number of greenlets of the thread that made it.

    :param address: ``host:port`` of the peer, for messages.
    :param open_stream: makes the stream; runs in the connection's greenlet and may block there.
    :param tasks: owns the connection's greenlet and those that serve the peer's requests.
    :param on_request: serves a request from the peer, in a greenlet of its own.
    :param on_closed: told once, when the connection has ended; must not block.
    :param max_frame_bytes: the longest frame to accept.
    :param reading: how long all connections of a client may read in one turn of the event loop.
    """

    def __init__(
        self,
        address: str,
        open_stream: Callable[[], ByteStream],
        tasks: TaskGroup,
        on_request: Callable[[Connection, RemotingCommand], None],
        on_closed: Callable[[Connection], None],
        max_frame_bytes: int,
        reading: SharedTurn,
    ) -> None:
        self.address = address
        self.state = ConnectionState.CONNECTING
        self.cause: GRocketMQError | None = None
        self._open_stream = open_stream
        self._on_request = on_request
        self._on_closed = on_closed
        self._reading = reading
        self._tasks = tasks
        self._hub = gevent.get_hub()
        self._thread = get_ident()
        self._pid = getpid()
        self._ready = Event()
        self._ended = Event()
        self._permits = Semaphore(MAX_IN_FLIGHT)
        self._pending: dict[int, Call] = {}
        self._out: deque[bytes | memoryview] = deque()
        self._out_bytes = 0
        self._room = Event()
        self._room.set()
        self._flushing = False
        #: When the next look at the deadlines is due; infinity for one that judges however late it comes.
        self._look_due = inf
        #: No call is late before then.
        self._earliest = inf
        self._heard_at = 0.0
        self._unheard_since = 0.0
        self._decoder = FrameDecoder(max_frame_bytes)
        self._stream: ByteStream | None = None
        #: Those of the event loop, once it is connected.
        self._watchers: list[Any] = []
        self._retiring = False
        # The link is for a greenlet that is killed before it runs; after that it finds the connection closed.
        tasks.spawn(f"connection {address}", self._live).rawlink(lambda _: self.close())

    # -- for callers ---------------------------------------------------------------------------------------------------------

    def wait_open(self, deadline: Deadline) -> None:
        """Wait until the connection is open; blocks at most until the deadline.

        :raises ConnectError: when it could not be made.
        :raises RequestTimeout: when it is not open by the deadline.
        """
        self._check_owner()
        if self.state is ConnectionState.CONNECTING and not self._ready.wait(deadline.remaining()):
            raise RequestTimeout(f"{self.address}: not connected in time")
        if self.state is not _OPEN:
            raise self._failure()

    def begin(self, opaque: int, frame: bytes, deadline: Deadline) -> Call:
        """Queue a request; blocks at most until the deadline, and only for room.  Then :meth:`finish` or :meth:`forget` must
        follow, in any greenlet.

        :param opaque: the request's opaque, unique among the calls in flight.
        :param frame: the whole frame.
        :param deadline: when to give up waiting for room and for the answer.
        :raises ConnectionLostError: the connection has ended.
        :raises TooManyRequestsError: no room among the calls in flight.
        """
        self._check_owner()
        if not self._permits.acquire(blocking=False) and not self._permits.acquire(timeout=deadline.remaining()):
            raise TooManyRequestsError(f"{self.address}: {MAX_IN_FLIGHT} calls are in flight and none ended in time")
        try:
            if self.state is not _OPEN or self._out_bytes > MAX_OUT_BYTES or not self._room.is_set():
                self._wait_for_room(deadline)
        except BaseException:
            self._permits.release()
            raise
        # no switch from the check of the state until the frame is queued
        call = self._pending[opaque] = Call(opaque, Waiter(self._hub), deadline.at, monotonic())
        if call.deadline < self._earliest:
            self._earliest = call.deadline
            self._look_later(call.deadline - call.sent_at)
        self._write(frame)
        return call

    def finish(self, call: Call) -> RemotingCommand:
        """Wait for the answer; blocks at most until the call's deadline.

        Ending the wait early (kill, ``gevent.Timeout``) does not take the request back.

        :param call: what :meth:`begin` gave; its room among the calls in flight is given back here.
        :returns: the answer, whatever its code.
        :raises RequestTimeout: no answer in time.
        :raises ConnectionLostError: the connection ended first.
        """
        try:
            answer: RemotingCommand = call.waiter.get()
            return answer
        finally:
            self.forget(call)

    def forget(self, call: Call) -> None:
        """Give back the room of a call that nobody will :meth:`finish`; never blocks."""
        self._pending.pop(call.opaque, None)
        self._permits.release()
        if self._retiring:
            self._leave()

    def post(self, frame: bytes, deadline: Deadline) -> None:
        """Send a frame that gets no answer; blocks only while too much waits to be sent.

        :param frame: the whole frame.
        :param deadline: when to give up waiting for room.
        :raises TooManyRequestsError: no room by the deadline.
        :raises ConnectionLostError: the connection has ended.
        """
        self._check_owner()
        if self.state is not _OPEN or self._out_bytes > MAX_OUT_BYTES or not self._room.is_set():
            self._wait_for_room(deadline)
        self._write(frame)

    def retire(self) -> None:
        """End once the calls in flight have their answers and all that was queued is sent; never blocks."""
        self._retiring = True
        self._leave()

    def fail(self, cause: GRocketMQError) -> None:
        """End the connection; never blocks.  Everyone who waits on it gets the cause, from the connection's own greenlet."""
        if self.state is not ConnectionState.CLOSED:
            self.state = ConnectionState.CLOSED
            self.cause = cause
            for watcher in self._watchers:
                watcher.stop()
            self._ready.set()
            self._ended.set()

    def close(self) -> None:
        """End the connection because this side is done with it; never blocks."""
        self.fail(ConnectionLostError(f"connection to {self.address} was closed by this client"))

    def abandon(self) -> None:
        """In a forked child: close this process's copy of the socket and wake nobody; the parent's goes on."""
        self.state = ConnectionState.CLOSED
        self.cause = ForkError(f"the connection to {self.address} is the parent process's")
        self._pending.clear()
        self._out.clear()
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        if self._stream is not None:
            self._stream.abandon()

    def flushed(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._out

    @property
    def heard(self) -> bool:
        """Whether the peer ever sent anything."""
        return self._heard_at > 0.0

    @property
    def in_flight(self) -> int:
        """Calls that wait for an answer."""
        return len(self._pending)

    def __repr__(self) -> str:
        return f"<Connection {self.address} {self.state.value}, {len(self._pending)} in flight>"

    def _check_owner(self) -> None:
        if get_ident() != self._thread:
            raise ClientStateError(f"{self!r} belongs to another thread's event loop; use the client in its own thread")
        if getpid() != self._pid:
            raise ForkError(f"{self!r} was opened before a fork and cannot be used in the child")

    def _wait_for_room(self, deadline: Deadline) -> None:
        while True:
            if self.state is not _OPEN:
                raise self._failure()
            if self._out_bytes > MAX_OUT_BYTES:
                self._room.clear()
            elif self._room.is_set():
                return
            if not self._room.wait(deadline.remaining()):
                raise TooManyRequestsError(f"{self.address}: over {MAX_OUT_BYTES} bytes wait to be sent, none left in time")

    def _failure(self) -> GRocketMQError:
        """A fresh error for one caller, of the cause's class."""
        cause = self.cause or ConnectionLostError(f"connection to {self.address} is {self.state.value}")
        fresh = cause if isinstance(cause, RemotingError) else ConnectionLostError(f"{self.address}: {cause}")
        error = type(fresh)(*fresh.args)
        error.__cause__ = cause
        return error

    # -- its greenlet --------------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        """Connect, serve until something ends it, clean up."""
        try:
            stream = self._open_stream()
            if self.state is ConnectionState.CLOSED:
                stream.close()
                return
            self._serve(stream)
            self._ended.wait()
        except GRocketMQError as error:
            self.fail(error)
        finally:
            self.fail(ConnectionLostError(f"connection to {self.address} was cut off at shutdown"))
            self._tear_down()

    def _serve(self, stream: ByteStream) -> None:
        loop = self._hub.loop
        self._stream = stream
        self._read_watcher = loop.io(stream.fileno(), _READ)
        self._write_watcher = loop.io(stream.fileno(), _WRITE)
        self._watchers = [self._read_watcher, self._write_watcher, loop.timer(SCAN_INTERVAL, ref=False)]
        self._read_watcher.start(self._guard, self._readable)
        self.state = ConnectionState.OPEN
        if stream.has_more:
            loop.run_callback(self._guard, self._read)
        self._ready.set()

    def _tear_down(self) -> None:
        """Close, then tell everyone; state first, so that nobody who wakes finds the connection half closed."""
        if isinstance(self.cause, ForkError):
            return  # the copy of its greenlet in a forked child ends
        waiting = deque(self._pending.values())
        self._pending.clear()
        self._out.clear()
        self._out_bytes = 0
        for watcher in self._watchers:
            watcher.close()
        if self._stream is not None:
            self._stream.close()
        self._on_closed(self)
        self._room.set()
        self._hub.loop.run_callback(self._reading.run, waiting, lambda call: call.waiter.throw(self._failure()))

    # -- callbacks of the event loop; none of them may switch ----------------------------------------------------------------

    def _guard(self, callback: Callable[[], object]) -> None:
        try:
            if self.state is _OPEN:
                callback()
        except GRocketMQError as error:
            self.fail(error)
        except OSError as error:
            self.fail(ConnectionLostError(f"connection to {self.address} broke: {error}"))
        except Exception as error:
            log.exception("a fault in serving %s; its connection is closed", self.address)
            self.fail(ConnectionLostError(f"connection to {self.address} was closed after {error!r}"))

    def _write(self, frame: bytes) -> None:
        self._out.append(frame)
        self._out_bytes += len(frame)
        if not self._flushing:
            self._flushing = True
            self._hub.loop.run_callback(self._guard, self._flush)

    def _flush(self) -> None:
        """Send what waits."""
        assert self._stream is not None
        self._out_bytes -= send_gathered(self._out, self._stream.send)
        if self._out:
            self._write_watcher.start(self._guard, self._writable)
        else:
            self._flushing = False
            if self._retiring:
                self._leave()
        if not self._room.is_set() and self._out_bytes <= ROOM_BYTES:
            self._room.set()

    def _leave(self) -> None:
        if not self._pending and not self._out:
            self.fail(ConnectionLostError(f"{self.address} asked us to go away"))

    def _writable(self) -> None:
        self._write_watcher.stop()
        self._flush()

    def _readable(self) -> None:
        if not self._reading.is_over():
            self._read()

    def _read(self) -> bool:
        """One receive, then every complete frame; callers are woken after the buffer is in order.

        :returns: whether there may be more to read.
        """
        assert self._stream is not None
        try:
            space = self._decoder.space()
            count = self._stream.recv_into(space)
        except BlockingIOError:
            return False
        if not count:
            self.fail(ConnectionLostError(f"{self.address} closed the connection"))
            return False
        self._heard_at = monotonic()
        take = self._pending.pop
        answered: deque[tuple[Call, RemotingCommand]] = deque()
        for command in self._decoder.received(count):
            if command.flag & 1:
                call = take(command.opaque, None)
                if call is not None:  # else: the caller has left, by timeout or kill
                    answered.append((call, command))
            else:
                self._tasks.spawn(f"request {command.code} from {self.address}", self._on_request, self, command)
        if self._stream.has_more:  # the socket may have nothing to wake us with
            self._hub.loop.run_callback(self._guard, self._read)
        # Callers run at once.  When this turn of the loop has taken long enough, the others get their answers in a later one,
        # whatever becomes of the connection meanwhile.
        self._reading.run(answered, _hand_over)
        if self._decoder.error is not None:
            raise self._decoder.error
        return count == len(space) or self._stream.has_more

    def _look_later(self, seconds: float) -> None:
        """Look at the deadlines then, but an interval from now at the soonest."""
        seconds = max(seconds, SCAN_INTERVAL)
        self._look_due = monotonic() + seconds
        self._watchers[-1].close()
        timer = self._watchers[-1] = self._hub.loop.timer(seconds, ref=False)
        timer.start(self._guard, self._look)

    def _look(self) -> None:
        """Fail the calls whose time is over; close the connection when the peer was silent all that time."""
        now = monotonic()
        held_up = now - self._look_due > SCAN_INTERVAL
        self._earliest = min((call.deadline for call in self._pending.values()), default=inf)
        if now < self._earliest:
            if self._pending:
                self._look_later(self._earliest - now)
            return
        # What came while the loop was busy with other things is not late, so it is read first; if it is much, in other turns.
        more_to_read = self._read()
        if self.state is not _OPEN:
            return
        if held_up or (more_to_read and now < self._earliest + CATCH_UP_TIME):
            self._look_later(0.0)
            if held_up:  # what is late may have been sent only now: the next look judges, an interval from here, or later
                self._look_due = inf
            return
        late = deque(call for call in self._pending.values() if call.deadline <= now)
        for call in late:
            del self._pending[call.opaque]
        if late:
            self._check_silence(min(call.sent_at for call in late), now)
        if self.state is _OPEN:
            self._earliest = min((call.deadline for call in self._pending.values()), default=inf)
            if self._pending:
                self._look_later(self._earliest - now)
        self._reading.run(late, self._time_out)

    def _time_out(self, call: Call) -> None:
        waited = monotonic() - call.sent_at
        call.waiter.throw(RequestTimeout(f"{self.address}: no answer within {waited:.3f} s"))

    def _check_silence(self, sent_at: float, now: float) -> None:
        """A call sent then has timed out: close the connection if the peer was silent for too long by now."""
        if self._unheard_since <= self._heard_at:
            self._unheard_since = sent_at
        if self._heard_at < self._unheard_since <= now - SILENCE_MEANS_DEAD:
            self.fail(ConnectionLostError(f"{self.address} was silent for over {SILENCE_MEANS_DEAD:g} s while calls timed out"))


def _hand_over(answered: tuple[Call, RemotingCommand]) -> None:
    call, command = answered
    call.waiter.switch(command)
