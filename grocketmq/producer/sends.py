"""The sends under way."""

from __future__ import annotations

from gevent.event import Event

from grocketmq.runtime.deadline import Deadline

__all__ = ["Sends"]


class Sends:
    """The sends of one start of a producer.  What is left of an earlier one, such as copies in a forked child, is not counted
    with those that came later."""

    __slots__ = ("none", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self.none = Event()

    def wait(self, deadline: Deadline) -> None:
        """Wait until none is under way; blocks at most until the deadline."""
        while self.under_way and not deadline.expired:
            self.none.clear()
            self.none.wait(deadline.remaining())
