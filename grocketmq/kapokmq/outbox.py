"""Messages on their way to one server or several, until each is acknowledged, refused or unknown.

A message waits while no link is open, is written to one, and stands in that link's line until its ``ok`` comes: the server
sends one for each message, in order and without an id.  One timer looks at all deadlines.  A message whose time is over stays
in the line, for its ``ok`` may still come and must not be taken for the next one's.
"""

from __future__ import annotations

import random
from collections import deque
from time import monotonic

import gevent
from gevent.event import AsyncResult, Event
from gevent.hub import Waiter
from gevent.lock import Semaphore

from grocketmq.errors import (
    AckTimeout,
    ClientStateError,
    ConnectionLostError,
    GRocketMQError,
    RemoteProtocolError,
    RequestTimeout,
    SendOutcomeUnknown,
    TooManyRequestsError,
)
from grocketmq.kapokmq import wire
from grocketmq.kapokmq.link import Link
from grocketmq.kapokmq.session import Session
from grocketmq.runtime.deadline import Deadline, waitable
from grocketmq.runtime.forks import drop_in_child

__all__ = ["Answer", "Outbox", "Pending", "fresh"]

#: Characters of all messages under way; more wait.  One message alone may be longer.
MAX_CHARS = 32 * 1024 * 1024
#: Seconds between two looks at the deadlines.
SCAN_INTERVAL = 0.05


class Answer:
    """As ``AsyncResult``, for one greenlet that waits already; it goes on in the callback that brings the value."""

    __slots__ = ("_hub", "_ready", "_waiter")

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._waiter = Waiter(self._hub)
        self._ready = False

    def ready(self) -> bool:
        """Whether it has its value or error."""
        return self._ready

    def set(self, value: object) -> None:
        """Give the value; only from a callback of the event loop."""
        self._ready = True
        self._waiter.switch(value)

    def set_exception(self, error: Exception) -> None:
        """Give the error; from any greenlet."""
        self._ready = True
        self._hub.loop.run_callback(self._waiter.throw, error)

    def get(self) -> object:
        """Wait for the value; blocks."""
        return self._waiter.get()


class Pending:
    """A message under way.

    :param text: what is sent.
    :param deadline: when its sender stops waiting.
    :param result: gets True, or the error.
    """

    __slots__ = ("at", "result", "text", "written")

    def __init__(self, text: str, deadline: Deadline, result: Answer | AsyncResult) -> None:
        self.text = text
        self.at = deadline.at
        self.result = result
        self.written = False


class Outbox:
    """Sends through whichever sessions are logged in; the owner of those sessions.

    :param name: what messages of errors call the client.
    :param max_in_flight: messages under way at once, those whose sender gave up included.
    :param retry: whether a message is sent again when its link is lost before its ``ok`` came.
    """

    def __init__(self, name: str, max_in_flight: int, retry: bool) -> None:
        #: Why nothing can be sent any more, once that is so.
        self.fatal: GRocketMQError | None = None
        #: Set while a session is logged in.
        self.usable = Event()
        self._name = name
        self._permits = Semaphore(max_in_flight)
        self._retry = retry
        self._lines: dict[Session, deque[Pending]] = {}
        self._links: list[tuple[Link, deque[Pending]]] = []
        self._waiting: deque[Pending] = deque()
        self._held = 0
        self._held_chars = 0
        self._room = Event()
        self._idle = Event()
        self._idle.set()
        self._timer = gevent.get_hub().loop.timer(SCAN_INTERVAL, SCAN_INTERVAL, ref=False)
        self._scanning = False
        drop_in_child(self)

    @property
    def under_way(self) -> int:
        """Messages that wait to be sent, or for their ``ok``."""
        return self._held

    # -- for the client ------------------------------------------------------------------------------------------------------

    def put(self, text: str, deadline: Deadline, result: Answer | AsyncResult) -> Pending:
        """Send a text, or keep it until a link is open; blocks only for room, at most until the deadline.

        :param result: gets True, or the error.
        :returns: the message.
        :raises TooManyRequestsError: there was no room in time.
        :raises GRocketMQError: nothing can be sent any more.
        """
        if self.fatal is not None:
            raise fresh(self.fatal)
        if not self._permits.acquire(blocking=False) and not self._permits.acquire(timeout=deadline.remaining()):
            raise self._no_room()
        try:
            if self._held_chars + len(text) > MAX_CHARS:
                self._wait_for_room(len(text), deadline)
            if self.fatal is not None:
                raise fresh(self.fatal)
        except BaseException:
            self._permits.release()
            raise
        # no switch from here on
        pending = Pending(text, deadline, result)
        if not self._held:
            self._idle.clear()
        self._held += 1
        self._held_chars += len(text)
        if not self._scanning:
            self._scanning = True
            self._timer.start(self._scan)
        if not self._write(pending):
            self._waiting.append(pending)
        return pending

    def take_back(self, pending: Pending) -> None:
        """Forget a message that was not sent yet; its sender was killed."""
        try:
            self._waiting.remove(pending)
        except ValueError:
            return  # it was sent, or is done
        self._release(pending)

    def wait_idle(self, timeout: float) -> bool:
        """Wait until nothing is under way; blocks at most ``timeout`` seconds."""
        return self._held == 0 or bool(self._idle.wait(waitable(timeout)))

    def drain(self, deadline: Deadline) -> None:
        """Wait for the ``ok`` of what was sent while a link is there; blocks at most until the deadline."""
        while self._held and self.usable.is_set() and not deadline.expired:
            self._idle.wait(min(SCAN_INTERVAL, deadline.remaining()))

    def end(self, cause: GRocketMQError) -> None:
        """Fail whatever is left, and everything from now on; never blocks."""
        self.fatal = self.fatal or cause
        for pending in self._waiting:
            self._settle(pending, self._not_sent(pending, cause))
            self._release(pending)
        self._waiting.clear()
        self._room.set()

    def close(self) -> None:
        """Give the timer back; after :meth:`end`."""
        self._timer.stop()
        self._timer.close()

    def abandon(self) -> None:
        """In a forked child: the senders are the parent's."""
        self.close()
        self._lines.clear()
        self._links.clear()
        self._waiting.clear()

    def _wait_for_room(self, chars: int, deadline: Deadline) -> None:
        while self._held and self._held_chars + chars > MAX_CHARS and self.fatal is None:
            self._room.clear()
            if not self._room.wait(deadline.remaining()):
                raise self._no_room()

    def _no_room(self) -> TooManyRequestsError:
        return TooManyRequestsError(
            f"{self._name}: {self._held} messages are under way and none ended in time; nothing was sent"
        )

    # -- what sessions tell --------------------------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        """Send what waited for a link."""
        assert session.link is not None
        line = self._lines[session] = deque()
        self._links.append((session.link, line))
        self.usable.set()
        waiting, self._waiting = self._waiting, deque()
        for pending in waiting:
            if not self._write(pending):
                self._waiting.append(pending)

    def received(self, session: Session, text: str) -> None:
        """The next message in the line is acknowledged."""
        line = self._lines[session]
        if text != wire.ACKNOWLEDGED or not line:
            raise RemoteProtocolError(
                f"{session.address}: {wire.quoted(text)} "
                + ("acknowledges a message that was not sent" if text == wire.ACKNOWLEDGED else "is no acknowledgement")
            )
        pending = line.popleft()  # all is in order before its sender goes on
        self._release(pending)
        if not pending.result.ready():
            pending.result.set(True)

    def lost(self, session: Session, cause: GRocketMQError) -> None:
        """Whether the server has what stands in the line is not known."""
        line = self._lines.pop(session)
        self._links = [(link, other) for link, other in self._links if other is not line]
        if not self._links:
            self.usable.clear()
        again = []
        for pending in line:
            if self._retry and self.fatal is None and not pending.result.ready():
                again.append(pending)
            else:
                self._settle(pending, _unknown(session, cause))
                self._release(pending)
        self._waiting.extendleft(reversed([one for one in again if not self._write(one)]))

    def gave_up(self, session: Session, cause: GRocketMQError) -> None:
        """The only server refused the key."""
        self.end(cause)

    # -- inside; nothing here switches ---------------------------------------------------------------------------------------

    def _write(self, pending: Pending) -> bool:
        """Hand a message to a link drawn by chance.

        :returns: False when none is open.
        """
        if len(self._links) == 1:
            link, line = self._links[0]
            if not link.open:
                return False
        else:
            usable = [(link, line) for link, line in self._links if link.open]
            if not usable:
                return False
            link, line = random.choice(usable)
        # Who waits for nobody gets the shortest way; where several send at once, one write for all is faster.
        link.send(pending.text, at_once=self._held == 1)
        pending.written = True
        line.append(pending)
        return True

    def _release(self, pending: Pending) -> None:
        self._held -= 1
        self._held_chars -= len(pending.text)
        self._permits.release()
        if not self._room.is_set():
            self._room.set()
        if not self._held:
            self._idle.set()

    def _settle(self, pending: Pending, error: GRocketMQError) -> None:
        if not pending.result.ready():
            pending.result.set_exception(error)

    def _not_sent(self, pending: Pending, cause: GRocketMQError) -> GRocketMQError:
        if pending.written:  # on a link that was lost
            return _caused(SendOutcomeUnknown(f"{self._name}: sent, but not acknowledged: {cause}"), cause)
        if isinstance(cause, ClientStateError):
            return ConnectionLostError(f"{self._name} was shut down before the message was sent")
        return fresh(cause)

    def _scan(self) -> None:
        """Raise in senders whose time is over."""
        if not self._held:
            self._scanning = False
            self._timer.stop()
            return
        now = monotonic()
        if any(one.at <= now for one in self._waiting):
            late = [one for one in self._waiting if one.at <= now]
            self._waiting = deque(one for one in self._waiting if one.at > now)
            for pending in late:
                kind = AckTimeout if pending.written else RequestTimeout
                what = "was sent, then its link was lost, and" if pending.written else "was not sent:"
                self._settle(pending, kind(f"{self._name}: the message {what} no server was reached in time"))
                self._release(pending)
        for link, line in self._links:
            if any(one.at <= now and not one.result.ready() for one in line):
                link.catch_up()
                for pending in line:
                    if pending.at <= now:
                        self._settle(pending, AckTimeout(f"{link.address}: sent, but no acknowledgement came in time"))


def _unknown(session: Session, cause: GRocketMQError) -> GRocketMQError:
    return _caused(
        SendOutcomeUnknown(f"{session.address}: sent, but the link was lost before the acknowledgement: {cause}"), cause
    )


def fresh(error: GRocketMQError) -> GRocketMQError:
    """An error of the same class and text, for one caller."""
    return _caused(type(error)(*error.args), error)


def _caused(error: GRocketMQError, cause: GRocketMQError) -> GRocketMQError:
    error.__cause__ = cause
    return error
