"""One WebSocket connection to a KapokMQ server, logged in.

Bytes move in callbacks of the event loop, as in ``remoting/connection.py``: a caller that is killed leaves no half frame
behind, and all that gathers in a turn of the loop goes in one send.  Whatever a callback raises ends the link, with that as
the cause.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.event import Event

from grocketmq.errors import AuthError, ConnectError, ConnectionLostError, ForkError, GRocketMQError, RemoteProtocolError
from grocketmq.kapokmq import wire
from grocketmq.kapokmq.websocket import WebSocket
from grocketmq.remoting.stream import ByteStream, send_gathered
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.forks import drop_in_child

__all__ = ["CLOSE_TIMEOUT", "Link"]

log = logging.getLogger(__name__)

#: Seconds that the server gets to answer a close frame.
CLOSE_TIMEOUT = 1.0
#: So many ping intervals without a byte mean that the server is gone.  A producer's server with a full message channel
#: answers no pings until it is drained, so few would cut a link that is merely held up.
SILENT_PINGS = 3
#: What one callback receives before the loop turns.
RECEIVE_BYTES = 64 * 1024
#: Who sends waits while more waits to be sent.
MAX_OUT_BYTES = 4 * 1024 * 1024
#: Receives before something is judged late.
CATCH_UP_READS = 64

_READ, _WRITE = 1, 2


class Link:
    """A connection from the request to its end; belongs to the hub in which it was made.

    :param address: ``host:port``, for messages.
    :param stream: connected; the link closes it.
    :param target: path of the request.
    :param secret_key: what the server asks for.
    :param on_open: told when it is logged in, before any text; as ``on_text``.
    :param on_text: gets each text after the login, in a callback of the loop: it must not block.
    :param ping_interval: seconds between pings.
    """

    def __init__(
        self,
        address: str,
        stream: ByteStream,
        target: str,
        secret_key: str,
        on_open: Callable[[Link], None],
        on_text: Callable[[str], None],
        ping_interval: float,
    ) -> None:
        loop = gevent.get_hub().loop
        self.address = address
        #: Whether it is logged in and has not ended.
        self.open = False
        #: Why it has ended.
        self.cause: GRocketMQError | None = None
        #: Set when it has ended.
        self.ended = Event()
        #: Whether the key was sent: from then on the server may count the login.
        self.key_sent = False
        #: Bytes that wait to be sent.
        self.out_bytes = 0
        self._secret_key = secret_key
        self._on_open = on_open
        self._deliver = on_text
        self._on_text: Callable[[str], None] = self._log_in
        self._stream = stream
        self._ping_interval = ping_interval
        self._websocket = WebSocket(address, target)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._out: deque[bytes | memoryview] = deque()
        self._flushing = False
        self._paused = False
        self._ready = Event()
        self._room = Event()
        self._heard_at = monotonic()
        self._loop = loop
        self._watchers = [
            loop.io(stream.fileno(), _READ),
            loop.io(stream.fileno(), _WRITE),
            loop.timer(ping_interval, ping_interval, ref=False),
        ]
        self._read_watcher, self._write_watcher, self._ping_timer = self._watchers
        drop_in_child(self)

    def __repr__(self) -> str:
        return f"<Link to {self.address}, {'open' if self.open else self.cause or 'logging in'}>"

    def log_in(self, deadline: Deadline) -> None:
        """Ask for a WebSocket and log in; blocks at most until the deadline.

        :raises AuthError: the server refused the key.
        :raises RemotingError: the link ended, or the server did not answer in time.
        :raises RemoteProtocolError: what it answered is not KapokMQ.
        """
        self._read_watcher.start(self._guard, self._read)
        self._send_replies()
        if self._stream.has_more:
            self._loop.run_callback(self._guard, self._read)
        if not self._ready.wait(deadline.remaining()):
            waits = "the answer to the secret key" if self.key_sent else "the login"
            self.fail(ConnectError(f"{self.address} accepted the connection, but {waits} did not come in time"))
        if self.cause is not None:
            raise self.cause

    def send(self, text: str, at_once: bool = False) -> None:
        """Send a text; never blocks.  Only on an open link.

        :param at_once: whether to hand it to the system now, instead of with all that gathers in this turn of the loop.
        """
        self._write(self._websocket.text(text), at_once)

    def wait_for_room(self, deadline: Deadline) -> bool:
        """Wait until less waits to be sent, or the link has ended; blocks at most until the deadline.

        :returns: False when it did not come so far.
        """
        while self.out_bytes > MAX_OUT_BYTES and self.cause is None:
            self._room.clear()
            if not self._room.wait(deadline.remaining()):
                return False
        return True

    def pause(self) -> None:
        """Read nothing more for now; the server will stop pushing, to everybody, when its buffers are full."""
        if not self._paused and self.cause is None:
            self._paused = True
            self._read_watcher.stop()

    def resume(self) -> None:
        """Read on after :meth:`pause`."""
        if self._paused and self.cause is None:
            self._paused = False
            self._heard_at = monotonic()
            self._read_watcher.start(self._guard, self._read)
            self._loop.run_callback(self._guard, self._read)

    def catch_up(self) -> None:
        """Take in what came while the loop was busy; never blocks."""
        for _ in range(CATCH_UP_READS):
            if self.cause is not None or self._paused or not self._guard(self._read):
                return

    def fail(self, cause: GRocketMQError) -> None:
        """End the link; never blocks.  :meth:`tear_down` must follow."""
        if self.cause is None:
            self.cause = cause
            self.open = False
            for watcher in self._watchers:
                watcher.stop()
            self._ready.set()
            self._room.set()
            self.ended.set()

    def close(self, deadline: Deadline) -> None:
        """Send what waits and a close frame, and wait for the server's; blocks at most until the deadline, or 1 s."""
        if self.cause is None:
            self.resume()
            if closing := self._websocket.close():
                self._write(closing)
            self.ended.wait(min(deadline.remaining(), CLOSE_TIMEOUT))
        self.fail(ConnectionLostError(f"the link to {self.address} was closed by this client"))

    def abandon(self) -> None:
        """In a forked child: close this process's copy of the socket and wake nobody; the parent's goes on."""
        self.open = False
        self.cause = ForkError(f"the link to {self.address} is the parent process's")
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        self._watchers.clear()
        self._stream.abandon()

    def tear_down(self) -> GRocketMQError:
        """Close the socket; never blocks.

        :returns: why the link has ended.
        """
        if isinstance(self.cause, ForkError):
            return self.cause  # the copy of its greenlet in a forked child ends
        self.fail(ConnectionLostError(f"the link to {self.address} was cut off"))
        for watcher in self._watchers:
            watcher.close()
        self._watchers.clear()
        self._stream.close()
        self._out.clear()
        self.out_bytes = 0
        assert self.cause is not None
        return self.cause

    # -- callbacks of the event loop; none of them may switch ----------------------------------------------------------------

    def _guard(self, callback: Callable[[], bool | None]) -> bool | None:
        try:
            if self.cause is None:
                return callback()
        except GRocketMQError as error:
            self.fail(error)
        except OSError as error:
            self.fail(ConnectionLostError(f"the link to {self.address} broke: {error}"))
        except Exception as error:
            log.exception("a fault in serving %s; its link is closed", self.address)
            self.fail(ConnectionLostError(f"the link to {self.address} was closed after {error!r}"))
        return False

    def _read(self) -> bool:
        """One receive.

        :returns: whether anything came.
        """
        if self._paused:
            return False
        try:
            count = self._stream.recv_into(self._buffer)
        except BlockingIOError:
            return False
        if not count:
            self.fail(ConnectionLostError(f"{self.address} closed the connection"))
            return False
        self._heard_at = monotonic()
        for text in self._websocket.received(bytes(self._buffer[:count])):
            self._on_text(text)
        if self._websocket.reply:
            self._send_replies()
        if self._websocket.error is not None:
            self._flush()  # the answer to a close frame, as far as it goes at once
            raise self._websocket.error
        if self._stream.has_more:
            self._loop.run_callback(self._guard, self._read)
        return True

    def _log_in(self, text: str) -> None:
        """What comes before the login is complete."""
        if text == wire.PROMPT and not self.key_sent:
            self.key_sent = True
            self.send(self._secret_key)
        elif text == wire.LOGGED_IN and self.key_sent:
            self.open = True
            self._on_text = self._deliver
            self._ping_timer.start(self._guard, self._ping)
            self._on_open(self)
            self._ready.set()
        elif text == wire.WRONG_KEY and self.key_sent:
            raise AuthError(f"{self.address} refused the secret key")
        else:
            raise RemoteProtocolError(f"{self.address}: login: {wire.quoted(text)} was not expected; is it a KapokMQ server?")

    def _ping(self) -> None:
        if self._paused:
            return
        silent = monotonic() - self._heard_at
        if silent > self._ping_interval * SILENT_PINGS:
            raise ConnectionLostError(f"{self.address} was silent for {silent:.0f} s, {SILENT_PINGS} pings are unanswered")
        self._write(self._websocket.ping())

    def _send_replies(self) -> None:
        self._write(bytes(self._websocket.reply))
        self._websocket.reply.clear()

    def _write(self, frame: bytes, at_once: bool = False) -> None:
        self._out.append(frame)
        self.out_bytes += len(frame)
        if not self._flushing:
            self._flushing = True
            if at_once:
                self._guard(self._flush)
            else:
                self._loop.run_callback(self._guard, self._flush)

    def _flush(self) -> None:
        self.out_bytes -= send_gathered(self._out, self._stream.send)
        if self._out:
            self._write_watcher.start(self._guard, self._writable)
        else:
            self._flushing = False
        if self.out_bytes <= MAX_OUT_BYTES and not self._room.is_set():
            self._room.set()

    def _writable(self) -> None:
        self._write_watcher.stop()
        self._flush()
