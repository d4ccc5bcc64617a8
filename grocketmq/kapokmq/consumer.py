"""Receiving from a KapokMQ server."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, ClassVar

import gevent
from gevent.event import Event

from grocketmq.errors import ClientStateError, ConfigError, GRocketMQError, RequestTimeout, TooManyRequestsError
from grocketmq.kapokmq import wire
from grocketmq.kapokmq.client import KapokClient
from grocketmq.kapokmq.config import ConsumerConfig, server_address
from grocketmq.kapokmq.message import KapokMessage
from grocketmq.kapokmq.outbox import fresh
from grocketmq.kapokmq.session import Session
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.gate import FairGate
from grocketmq.runtime.lifecycle import ServiceState

__all__ = ["Consumer"]

log = logging.getLogger(__name__)

#: Characters that may wait here, beside ``max_buffered`` messages.
MAX_BUFFERED_CHARS = 32 * 1024 * 1024
#: Acknowledgements that are sent again on a new link, since nobody knows which of them the server had read.
REPEATED_ACKS = 1000
#: Seconds that an acknowledgement may wait until the server reads.
ACK_TIMEOUT = 10.0
_LOG_PAUSE = 1.0

Callback = Callable[[KapokMessage], object]


class Consumer(KapokClient):
    """Receives the messages of one topic from one KapokMQ server, and acknowledges them.

    :param addr: host name or address of the server.
    :param port: its port.
    :param topic: not empty, without ``/``.
    :param consumer_id: likewise; no other consumer of this process may have it while this one runs.
    :param secret_key: the server's.
    :param on_message: as :meth:`on_message`.
    :param options: see :class:`~grocketmq.kapokmq.config.ConsumerConfig`.
    :raises ConfigError: an option, the topic or the id cannot work.
    """

    kind: ClassVar[wire.Kind] = "consumer"

    def __init__(
        self,
        addr: str,
        port: int,
        topic: str,
        consumer_id: str,
        secret_key: str,
        *,
        on_message: Callback | None = None,
        **options: Any,
    ) -> None:
        config = ConsumerConfig(**options)
        super().__init__(topic, consumer_id, secret_key, config)
        self.consumer_id = consumer_id
        self.address = server_address(addr, port)
        #: Messages forgotten because too many waited (``overflow="drop"``).
        self.dropped = 0
        self._config = config
        self._callback: Callback | None = None
        self._handler: gevent.Greenlet | None = None
        self._arrived: Event
        self._gate: FairGate
        self._server: Session | None = None
        self._fatal: GRocketMQError | None = None
        self._buffer: deque[KapokMessage] = deque()
        self._buffered_chars = 0
        self._paused = False
        self._seen: OrderedDict[str, bool] = OrderedDict()
        self._acks: dict[str, None] = {}
        self._sent_acks: deque[str] = deque(maxlen=REPEATED_ACKS)
        if on_message is not None:
            self.on_message(on_message)

    def __repr__(self) -> str:
        return f"<kapokmq.Consumer {self.consumer_id!r} of topic {self.topic!r} at {self.address}, {self.state.value}>"

    @property
    def connected(self) -> bool:
        """Whether the server is logged in at just now."""
        return self._server is not None and self._server.connected

    @property
    def buffered(self) -> int:
        """Messages that wait to be received."""
        return len(self._buffer)

    def on_message(self, callback: Callback) -> Callback:
        """Have a function called with each message, instead of :meth:`receive`; before :meth:`start`, also as a decorator.

        It is called in one greenlet, with one message after the other.  When it returns, the message is acknowledged; when it
        raises, it is not, and the server pushes it again later.

        :param callback: may block in the way of gevent.
        :raises ConfigError: it cannot be called.
        :raises ClientStateError: the consumer is started already.
        """
        if not callable(callback):
            raise ConfigError(f"on_message {callback!r} cannot be called")
        if self.state is not ServiceState.CREATED:
            raise ClientStateError(f"{self!r}: on_message must be given before start()")
        self._callback = callback
        return callback

    def receive(self, timeout: float | None = None) -> KapokMessage:
        """The next message; blocks its greenlet until there is one.

        :param timeout: seconds; None for as long as it takes.
        :raises RequestTimeout: none came.
        :raises AuthError: the server refused the secret key when it was connected to again.
        :raises ClientStateError: the consumer is shut down meanwhile, or messages go to ``on_message``.
        """
        self._check_running()
        if self._callback is not None:
            raise ClientStateError(f"{self!r}: its messages go to on_message")
        return self._next(timeout)

    def __iter__(self) -> Iterator[KapokMessage]:
        """Messages as they come, until the consumer is shut down.

        :raises AuthError: as :meth:`receive`.
        """
        while True:
            try:
                message = self.receive()
            except ClientStateError:
                if self.state in (ServiceState.STOPPING, ServiceState.STOPPED):
                    return
                raise
            yield message

    def ack(self, message: KapokMessage | str) -> None:
        """Acknowledge a message; blocks only while the server does not read.

        KapokMQ confirms no acknowledgement.  While no link is there it is kept; on a new link the latest thousand are sent
        again, which does no harm.

        :param message: the message, or its code.
        :raises ConfigError: it is neither.
        :raises TooManyRequestsError: the server has not read for 10 s.
        """
        self._check_running()
        code = message.message_code if isinstance(message, KapokMessage) else message
        if type(code) is not str or not code or not wire.encodable(code):
            raise ConfigError(f"a message or a message code is acknowledged, not {message!r:.60}")
        self._acknowledge(code)

    def release(self, message: KapokMessage | str) -> None:
        """Forget that a message was handed out, so that it is again when the server pushes it again; never blocks.

        Needed only with ``dedup``, for a message that is not acknowledged.

        :param message: the message, or its code.
        """
        self._seen.pop(message.message_code if isinstance(message, KapokMessage) else message, None)

    def abandon(self) -> None:
        """In a forked child: what was started is the parent's."""
        running = self._state is ServiceState.RUNNING
        super().abandon()
        if running:
            self._gate.abandon()

    # -- start and stop ------------------------------------------------------------------------------------------------------

    def _open(self, deadline: Deadline, patient: bool) -> None:
        self._fatal = None
        self._arrived = Event()
        self._gate = FairGate()
        self._server = self._session(self, self.address)
        self._server.start(self._tasks)
        self._server.wait_open(deadline, patient)
        if self._callback is not None:
            self._spawn_handler()

    def _close(self, deadline: Deadline) -> None:
        server = self._server
        if server is None:
            return
        self._fatal = self._fatal or ClientStateError(f"{self!r} was shut down")
        self._arrived.set()
        if self._handler is not None and self._handler is not gevent.getcurrent():
            self._handler.join(deadline.remaining())  # its acknowledgement goes out still
        server.close(deadline)
        self._server = None
        self._gate.close()
        self._buffer.clear()
        self._buffered_chars = 0

    # -- what the session tells ----------------------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """Send the acknowledgements that may be missing."""
        for code in [*self._sent_acks, *self._acks]:
            self._send_ack(code)
        self._paused = False

    def received(self, session: Session, text: str) -> None:
        """A message was pushed."""
        message = wire.parse_push(text)
        code = message.message_code
        if self._config.dedup and self._is_known(code):
            return
        if self._config.overflow == "drop" and self._is_full():
            self._drop(code)
            return
        message._consumer = self
        self._buffer.append(message)
        self._buffered_chars += len(message.message_data)
        if not self._arrived.is_set():
            self._arrived.set()
        if self._is_full() and self._config.overflow == "pause" and session.link is not None:
            self._paused = True
            session.link.pause()

    def lost(self, session: Session, cause: GRocketMQError) -> None:
        """Acknowledgements gather until the next link."""
        self._paused = False

    def gave_up(self, session: Session, cause: GRocketMQError) -> None:
        """The server refused the key: who receives is told."""
        self._fatal = cause
        self._arrived.set()

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _next(self, timeout: float | None) -> KapokMessage:
        deadline = None if timeout is None else Deadline(timeout)
        self._gate.pass_through()  # who takes one message after the other would hold up everything else
        while not self._buffer:
            if self._fatal is not None:
                raise fresh(self._fatal)
            self._arrived.clear()
            if not self._arrived.wait(None if deadline is None else deadline.remaining()) and not self._buffer:
                raise RequestTimeout(f"{self!r}: no message within {timeout:g} s")
        message = self._buffer.popleft()
        self._buffered_chars -= len(message.message_data)
        if self._paused and self._has_room():
            self._paused = False
            if self._server is not None and self._server.link is not None:
                self._server.link.resume()
        return message

    def _is_full(self) -> bool:
        return len(self._buffer) >= self._config.max_buffered or self._buffered_chars > MAX_BUFFERED_CHARS

    def _has_room(self) -> bool:
        return len(self._buffer) <= self._config.max_buffered // 2 and self._buffered_chars <= MAX_BUFFERED_CHARS // 2

    def _is_known(self, code: str) -> bool:
        """Whether a message came before; one that was acknowledged is so again, since that may have been lost."""
        acked = self._seen.get(code)
        if acked is None:
            self._seen[code] = False
            if len(self._seen) > self._config.dedup:
                self._seen.popitem(last=False)
            return False
        if acked:
            self._send_ack(code)
        return True

    def _drop(self, code: str) -> None:
        self._seen.pop(code, None)
        self.dropped += 1
        if self.dropped == 1:
            log.warning("%r: too many messages wait to be received; further ones are dropped unacknowledged", self)

    def _send_ack(self, code: str) -> None:
        """Send an acknowledgement, or keep it for the next link; never switches."""
        if self._server is not None and self._server.connected:
            assert self._server.link is not None
            self._server.link.send(code)
            self._acks.pop(code, None)
            self._sent_acks.append(code)
        else:
            self._acks[code] = None

    def _acknowledge(self, code: str) -> None:
        if code in self._seen:
            self._seen[code] = True
        link = self._server.link if self._server is not None else None
        if link is not None and not link.wait_for_room(Deadline(ACK_TIMEOUT)):
            raise TooManyRequestsError(f"{self.address} does not read; the acknowledgement was not sent")
        self._send_ack(code)

    def _spawn_handler(self) -> None:
        self._handler = self._tasks.loop("on message", self._handle)
        self._handler.rawlink(self._replace_handler)

    def _replace_handler(self, ended: gevent.Greenlet) -> None:
        """A callback that throws GreenletExit ends its greenlet; the consumer must not become deaf by that."""
        if self._fatal is None:
            log.error("the greenlet of on_message was ended by %r; another one takes its place", ended.exception or ended.value)
            self._spawn_handler()

    def _handle(self) -> None:
        """What the greenlet of ``on_message`` runs."""
        assert self._callback is not None
        logged_at, failures = float("-inf"), 0
        while self._fatal is None:
            try:
                message = self._next(None)
            except GRocketMQError:
                return  # receive() would raise it
            try:
                self._callback(message)
            except (Exception, gevent.Timeout):
                self.release(message)
                failures += 1
                if monotonic() - logged_at >= _LOG_PAUSE:
                    log.exception("on_message failed (%d times so far); %s is not acknowledged", failures, message.message_code)
                    logged_at = monotonic()
                continue
            try:
                self._acknowledge(message.message_code)
            except TooManyRequestsError:
                self._acks[message.message_code] = None  # for the next link
