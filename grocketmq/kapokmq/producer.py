"""Sending to one KapokMQ server, and what :class:`ClusterProducer` shares with it."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from gevent.event import AsyncResult

from grocketmq.errors import ClientStateError, RequestTimeout
from grocketmq.kapokmq import wire
from grocketmq.kapokmq.client import KapokClient
from grocketmq.kapokmq.config import ProducerConfig, server_address
from grocketmq.kapokmq.outbox import Answer, Outbox
from grocketmq.kapokmq.session import Session
from grocketmq.runtime.deadline import Deadline

__all__ = ["Producer", "SendingClient"]

#: Results of ``send_async`` that :meth:`SendingClient.ack` did not fetch are kept up to so many failed or unfinished ones.
MAX_UNCOLLECTED = 100_000


class SendingClient(KapokClient):
    """What producers for one server and for a cluster can do."""

    kind: ClassVar[wire.Kind] = "producer"

    def __init__(self, topic: str, producer_id: str, secret_key: str, config: ProducerConfig) -> None:
        super().__init__(topic, producer_id, secret_key, config)
        self.producer_id = producer_id
        self._config = config
        self._outbox: Outbox | None = None
        self._uncollected: deque[AsyncResult] = deque()
        self._acked = 0

    @property
    def connected(self) -> bool:
        """Whether a server is logged in at just now."""
        return self._outbox is not None and self._outbox.usable.is_set()

    def send(self, data: str, delay: int = 0, timeout: float | None = None) -> None:
        """Send a message and wait until the server has acknowledged it; blocks its greenlet.

        While no server is logged in at, it waits for one.  An acknowledgement means that the server has taken the message; a
        server that does not keep a write-ahead log loses it if it is killed in that moment.

        :param data: the text, without lone surrogates.
        :param delay: whole seconds before it is delivered; it comes with the server's next check (5 s) after that.
        :param timeout: seconds for everything; None for ``ack_timeout``.
        :raises MessageError: the text or the delay cannot be sent; nothing was sent.
        :raises RequestTimeout: no server was reached in time; nothing was sent.
        :raises AckTimeout: sent, and not acknowledged in time; a ``RequestTimeout`` and a ``SendOutcomeUnknown``.
        :raises SendOutcomeUnknown: sent, and the link was lost before the acknowledgement (without ``retry``).
        :raises TooManyRequestsError: too many are under way; nothing was sent.
        :raises AuthError: the server refused the secret key when it was connected to again.
        """
        self._check_running()
        text = wire.encode_message(data, delay)
        outbox = self._outbox
        assert outbox is not None
        deadline = Deadline(self._config.ack_timeout if timeout is None else timeout)
        pending = outbox.put(text, deadline, Answer())
        try:
            pending.result.get()
        except BaseException:
            outbox.take_back(pending)
            raise

    def send_and_wait_ack(self, data: str, delay: int = 0, timeout: float | None = None) -> None:
        """The same as :meth:`send`, which always waits; for code that wants to say so."""
        self.send(data, delay, timeout)

    def send_delay(self, data: str, seconds: int, timeout: float | None = None) -> None:
        """As :meth:`send`, to be delivered later.

        :param seconds: whole seconds before it is delivered.
        """
        self.send(data, seconds, timeout)

    def send_async(self, data: str, delay: int = 0, timeout: float | None = None) -> AsyncResult:
        """Send a message and do not wait; blocks only while ``max_in_flight`` messages are under way.

        :returns: gets True when the server has acknowledged it, or the error that :meth:`send` would raise.
        :raises MessageError: as :meth:`send`.
        :raises TooManyRequestsError: as :meth:`send`.
        """
        self._check_running()
        text = wire.encode_message(data, delay)
        assert self._outbox is not None
        result = AsyncResult()
        self._outbox.put(text, Deadline(self._config.ack_timeout if timeout is None else timeout), result)
        waiting = self._uncollected
        while waiting and waiting[0].successful():  # so those that nobody collects take no room
            waiting.popleft()
            self._acked += 1
        if len(waiting) >= MAX_UNCOLLECTED:
            waiting.popleft()
        waiting.append(result)
        return result

    def ack(self, timeout: float | None = None) -> bool:
        """The outcome of the oldest :meth:`send_async` that was not fetched by this call; blocks until it is there.

        :param timeout: seconds; None for as long as its send may take.
        :returns: True.
        :raises RequestTimeout: it is not there yet; another call waits for the same.
        :raises ClientStateError: every outcome has been fetched.
        :raises GRocketMQError: the error of that send.
        """
        self._check_running()
        deadline = None if timeout is None else Deadline(timeout)
        while True:
            if self._acked:
                self._acked -= 1
                return True
            if not self._uncollected:
                raise ClientStateError(f"{self!r}: no send_async is left whose outcome was not fetched")
            oldest = self._uncollected[0]
            if oldest.ready():
                self._uncollected.popleft()
                return bool(oldest.get())
            if deadline is not None and deadline.expired:
                raise RequestTimeout(f"{self!r}: no acknowledgement within {timeout:g} s")
            oldest.wait(None if deadline is None else deadline.remaining())

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every message that was sent has its outcome, whatever it is; blocks.

        :param timeout: seconds; None for ``ack_timeout``.
        :raises RequestTimeout: some have none yet.
        """
        self._check_running()
        assert self._outbox is not None
        if not self._outbox.wait_idle(self._config.ack_timeout if timeout is None else timeout):
            raise RequestTimeout(f"{self!r}: {self._outbox.under_way} messages are not acknowledged yet")

    def _close(self, deadline: Deadline) -> None:
        outbox = self._outbox
        if outbox is not None:
            outbox.drain(deadline)
            outbox.end(ClientStateError(f"{self!r} was shut down"))
            self._close_sessions(deadline)
            outbox.close()
            self._outbox = None

    def _close_sessions(self, deadline: Deadline) -> None:
        raise NotImplementedError


class Producer(SendingClient):
    """Sends messages of one topic to one KapokMQ server.

    :param addr: host name or address of the server.
    :param port: its port.
    :param topic: not empty, without ``/``.
    :param producer_id: likewise; no other producer of this process may have it while this one runs.
    :param secret_key: the server's.
    :param options: see :class:`~grocketmq.kapokmq.config.ProducerConfig`.
    :raises ConfigError: an option, the topic or the id cannot work.
    """

    def __init__(self, addr: str, port: int, topic: str, producer_id: str, secret_key: str, **options: Any) -> None:
        super().__init__(topic, producer_id, secret_key, ProducerConfig(**options))
        self.address = server_address(addr, port)
        self._server: Session | None = None

    def __repr__(self) -> str:
        return f"<kapokmq.Producer {self.producer_id!r} of topic {self.topic!r} at {self.address}, {self.state.value}>"

    def _open(self, deadline: Deadline, patient: bool) -> None:
        self._outbox = Outbox(repr(self.producer_id), self._config.max_in_flight, self._config.retry)
        self._server = self._session(self._outbox, self.address)
        self._server.start(self._tasks)
        self._server.wait_open(deadline, patient)

    def _close_sessions(self, deadline: Deadline) -> None:
        if self._server is not None:
            self._server.close(deadline)
            self._server = None
