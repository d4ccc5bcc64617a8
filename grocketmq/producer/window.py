"""A bound on what is under way, by count and by bytes."""

from __future__ import annotations

from gevent.event import Event

from grocketmq.errors import TooManyRequestsError
from grocketmq.producer.config import Backpressure
from grocketmq.runtime.deadline import Deadline

__all__ = ["SendWindow"]


class SendWindow:
    """Lets sends in while there is room.

    :param bound: how much may be under way; one message that is larger than ``max_bytes`` alone is let in when nothing else is.
    """

    def __init__(self, bound: Backpressure) -> None:
        self._bound = bound
        self._messages = 0
        self._bytes = 0
        self._room = Event()

    def enter(self, size: int, deadline: Deadline) -> None:
        """Take room; blocks at most until the deadline.

        :param size: the body's bytes.
        :param deadline: when to give up.
        :raises TooManyRequestsError: when there is no room by then; nothing was sent.
        """
        while self._messages and (self._messages >= self._bound.max_messages or self._bytes + size > self._bound.max_bytes):
            self._room.clear()
            if not self._room.wait(deadline.remaining()):
                raise TooManyRequestsError(
                    f"{self._messages} messages of {self._bytes} bytes are under way (backpressure={self._bound}) "
                    "and none ended in time"
                )
        self._messages += 1
        self._bytes += size

    def leave(self, size: int) -> None:
        """Give room back; never blocks.

        :param size: as it was given to :meth:`enter`.
        """
        self._messages -= 1
        self._bytes -= size
        if not self._room.is_set():
            self._room.set()

    @property
    def messages(self) -> int:
        """Messages under way."""
        return self._messages
