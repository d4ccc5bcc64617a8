"""What producers and consumers have in common: an id, options, start and stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar

from grocketmq.errors import ForkError
from grocketmq.kapokmq import ids, wire
from grocketmq.kapokmq.config import KapokConfig, check_key
from grocketmq.kapokmq.session import Session, SessionOwner
from grocketmq.remoting.stream import ByteStream, connect
from grocketmq.remoting.tls import TLSConfig, tls_connector
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.lifecycle import Lifecycle
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["KapokClient"]


class KapokClient(Lifecycle):
    """Base of the KapokMQ clients.

    :param topic: what it sends to or gets from.
    :param client_id: its id, which nobody else of its kind in this process may have.
    :param secret_key: the server's.
    :param config: its options.
    """

    kind: ClassVar[wire.Kind]
    #: What sessions tell needs no way home: they are there.
    _RUN_ANYWHERE: ClassVar[frozenset[str]] = Lifecycle._RUN_ANYWHERE | {"opened", "received", "lost", "gave_up"}

    def __init__(self, topic: str, client_id: str, secret_key: str, config: KapokConfig) -> None:
        super().__init__()
        wire.check_name("topic", topic)
        wire.check_name(f"{self.kind}_id", client_id)
        check_key(secret_key)
        self.topic = topic
        self._id = client_id
        self._secret_key = secret_key
        self._options = config
        self._tasks = TaskGroup(f"kapokmq {self.kind} {client_id}")
        self._has_id = False
        self._connect_timeout: float | None = None
        self._open_stream: Callable[[str, float], ByteStream] = connect

    def connect(self, timeout: float | None = None) -> None:
        """As :meth:`start`, but with a timeout it tries again until that is over; blocks that long at most.

        :param timeout: seconds; None for one try.
        :raises AuthError: the server refused the secret key.
        :raises RemotingError: it was not reached, or did not answer.
        """
        self._connect_timeout = timeout
        try:
            self.start()
        finally:
            self._connect_timeout = None

    def close(self, timeout: float = 10.0) -> None:
        """As :meth:`shutdown`.

        :param timeout: seconds that work under way may take to end.
        """
        self.shutdown(timeout)

    def _start(self) -> None:
        ids.reserve(self.kind, self._id)
        self._has_id = True
        config = self._options
        if config.protocol == "wss":
            self._open_stream = tls_connector(TLSConfig.of(config.ssl_context) or TLSConfig())
        if self._connect_timeout is None:
            # Time for one whole try, after the pause that an id must keep between two logins.
            self._open(Deadline(config.connect_timeout + 2 * ids.LOGIN_GAP), False)
        else:
            self._open(Deadline(self._connect_timeout), True)

    def _shutdown(self, timeout: float) -> None:
        if not self._has_id:  # another client has it
            return
        self._close(Deadline(timeout))
        self._tasks.kill()
        ids.release(self.kind, self._id)
        self._has_id = False

    def _open(self, deadline: Deadline, patient: bool) -> None:
        """Log in; blocks at most until the deadline.

        :param patient: whether to try again until then.
        """
        raise NotImplementedError

    def _close(self, deadline: Deadline) -> None:
        """End what is under way and log out; copes with half a start and with having been broken off."""
        raise NotImplementedError

    def _session(self, owner: SessionOwner, address: str) -> Session:
        config = self._options
        return Session(
            owner,
            address,
            wire.target(self.kind, self.topic, self._id),
            self._secret_key,
            open_stream=self._open_stream,
            connect_timeout=config.connect_timeout,
            check_time=config.check_time,
            ping_interval=config.ping_interval,
        )

    def _check_restart(self) -> None:
        raise ForkError(
            f"{self!r} was started in process {self._pid} and cannot be used in its forked child {os.getpid()}; "
            "make and start it after the fork (gunicorn: post_worker_init)"
        )
