"""Keeps one client logged in at one server: connects, waits for the end, connects again.

There is never more than one link: the old one is closed before the next is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import gevent
from gevent.event import Event

from grocketmq.errors import AuthError, ConnectError, ForkError, GRocketMQError
from grocketmq.kapokmq import ids
from grocketmq.kapokmq.link import Link
from grocketmq.remoting.stream import ByteStream
from grocketmq.runtime.deadline import Backoff, Deadline
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["Session", "SessionOwner"]

log = logging.getLogger(__name__)

#: Seconds before the first try after a lost link; further ones double up to ``check_time``.
FIRST_PAUSE = 0.2
#: The part of each pause that is drawn by chance, so that the clients of a restarted server do not come all at once.
JITTER = 0.5
#: A link that lived so many seconds was a good one: the next pause is the shortest again.
HEALTHY = 5.0
#: Seconds for its greenlet to end by itself when its link has ended.
END_TIMEOUT = 0.1


class SessionOwner(Protocol):
    """What a session tells, from callbacks of the event loop or its own greenlet; none may block."""

    def opened(self, session: Session) -> None:
        """It is logged in; its link is open."""

    def received(self, session: Session, text: str) -> None:
        """A text came."""

    def lost(self, session: Session, cause: GRocketMQError) -> None:
        """The link has ended."""

    def gave_up(self, session: Session, cause: GRocketMQError) -> None:
        """The server refused the key; there will be no link any more."""


class Session:
    """One login kept up from :meth:`start` to :meth:`close`.

    :param owner: is told what happens.
    :param address: ``host:port``.
    :param target: path of the request.
    :param secret_key: what the server asks for.
    :param open_stream: connects; blocks at most as many seconds as it is given.
    :param connect_timeout: seconds for connection and login together.
    :param check_time: the longest pause between two tries, seconds.
    :param ping_interval: seconds between pings.
    """

    def __init__(
        self,
        owner: SessionOwner,
        address: str,
        target: str,
        secret_key: str,
        *,
        open_stream: Callable[[str, float], ByteStream],
        connect_timeout: float,
        check_time: float,
        ping_interval: float,
    ) -> None:
        self.address = address
        #: The link while there is one that is logged in; it may have ended a moment ago.
        self.link: Link | None = None
        #: Why there is none.
        self.error: GRocketMQError | None = None
        #: Whether it has ended for good.
        self.given_up = False
        self._owner = owner
        self._target = target
        self._secret_key = secret_key
        self._open_stream = open_stream
        self._connect_timeout = connect_timeout
        self._check_time = check_time
        self._ping_interval = ping_interval
        self._tried = Event()
        #: Set when it has logged in, or never will.
        self._settled = Event()
        self._stopping = Event()
        self._greenlet: gevent.Greenlet | None = None

    def __repr__(self) -> str:
        return f"<Session at {self.address}, {'logged in' if self.connected else self.error or 'not logged in'}>"

    @property
    def connected(self) -> bool:
        """Whether it is logged in."""
        return self.link is not None and self.link.open

    @property
    def tried(self) -> bool:
        """Whether its first try has ended, well or not."""
        return bool(self._tried.is_set())

    def start(self, tasks: TaskGroup) -> None:
        """Begin to connect; never blocks.

        :param tasks: owns the session's greenlet.
        """
        self._greenlet = tasks.loop(f"link {self.address}", self._live)

    def wait_open(self, deadline: Deadline, patient: bool) -> None:
        """Wait until it is logged in; blocks at most until the deadline.

        :param patient: whether to wait for further tries when the first one fails.
        :raises GRocketMQError: why it is not.
        """
        (self._settled if patient else self._tried).wait(deadline.remaining())
        if self.given_up or not self._settled.is_set():
            raise self.error or ConnectError(f"{self.address}: not logged in in time")

    def close(self, deadline: Deadline) -> None:
        """Close the link and end; blocks at most until the deadline, or for the second of a close handshake."""
        self._stopping.set()
        if self.link is not None:
            self.link.close(deadline)
        if self._greenlet is not None:
            # Waits for the clean end after a close handshake, and cuts off a try to connect.
            self._greenlet.join(END_TIMEOUT if self._tried.is_set() else 0)
            self._greenlet.kill()

    def _live(self) -> None:
        backoff = Backoff(FIRST_PAUSE, max(self._check_time, FIRST_PAUSE), JITTER)
        while not self._stopping.wait(ids.pause_before_login(self.address, self._target)):
            began = monotonic()
            try:
                self._connect_and_serve()
            except AuthError as error:
                self._give_up(error)
                return
            except GRocketMQError as error:
                first = not isinstance(self.error, type(error))
                self.error = error
            if monotonic() - began > HEALTHY:
                backoff.reset()
                first = True
            if self._stopping.is_set():
                return
            pause = backoff.next()
            log.log(
                logging.WARNING if first else logging.DEBUG, "%s; trying again in %.1f s at the earliest", self.error, pause
            )
            self._tried.set()
            self._stopping.wait(pause)

    def _connect_and_serve(self) -> None:
        """One link from the connection to its end.

        :raises GRocketMQError: why it ended.
        """
        deadline = Deadline(self._connect_timeout)
        stream = self._open_stream(self.address, self._connect_timeout)
        link = Link(self.address, stream, self._target, self._secret_key, self._opened, self._received, self._ping_interval)
        try:
            try:
                link.log_in(deadline)
            finally:
                if link.key_sent:
                    ids.logged_in(self.address, self._target)
            link.ended.wait()
        finally:
            # State first: whoever is told finds no link here.
            served, self.link = self.link is not None, None
            cause = link.tear_down()
            if served and not isinstance(cause, ForkError):
                self._owner.lost(self, cause)
        raise cause

    def _opened(self, link: Link) -> None:
        self.link, self.error = link, None
        log.info("logged in at %s", self.address)
        self._owner.opened(self)
        self._tried.set()
        self._settled.set()

    def _received(self, text: str) -> None:
        self._owner.received(self, text)

    def _give_up(self, error: AuthError) -> None:
        self.error = error
        self.given_up = True
        self._owner.gave_up(self, error)
        self._tried.set()
        self._settled.set()
        log.error("%s; it is not tried again", error)
