"""What a consumer remembers of a queue it pops from, and of the brokers' clocks.

Source: Apache RocketMQ 5.3.3, module client, class ``PopProcessQueue``.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic, time

from grocketmq.model.message import MessageExt
from grocketmq.wire.pop_info import PopCheckPoint

__all__ = ["POP_IDLE_LIMIT", "BrokerClocks", "PopQueue"]

#: Seconds without a pop after which a queue counts as broken and is rebuilt.
POP_IDLE_LIMIT = 120.0


class PopQueue:
    """A queue to pop from (id -1: any of its broker): how much of it was popped and is not done.  Nothing here switches.

    :param now: the time of its making, monotonic seconds.
    """

    __slots__ = ("accumulated", "count", "dropped", "last_pop", "size_bytes")

    def __init__(self, now: float) -> None:
        #: Messages popped and neither acknowledged nor put off.
        self.count = 0
        #: Bytes of their bodies.
        self.size_bytes = 0
        #: How many messages the broker had beyond the last pop that found some.
        self.accumulated = 0
        #: Set when nothing is to be popped any more; what was popped is this consumer's all the same.
        self.dropped = False
        #: When the last pop was sent.
        self.last_pop = now

    def hold(self, messages: Iterable[MessageExt]) -> None:
        """Messages were popped."""
        for message in messages:
            self.count += 1
            self.size_bytes += len(message.body)

    def release(self, messages: Iterable[MessageExt]) -> None:
        """Messages are done, one way or another."""
        for message in messages:
            self.count -= 1
            self.size_bytes -= len(message.body)

    def expired(self, now: float) -> bool:
        """Whether it was not popped for too long."""
        return now - self.last_pop > POP_IDLE_LIMIT


class BrokerClocks:
    """What time it is at the brokers: the check points of popped messages hold times of theirs, which may differ from ours.

    Nothing here switches.
    """

    def __init__(self) -> None:
        self._ahead_ms: dict[str, float] = {}

    def note(self, broker_name: str, now_ms: int) -> None:
        """A broker has just told its time.

        :param broker_name: the broker.
        :param now_ms: its time, ms since the epoch.
        """
        self._ahead_ms[broker_name] = now_ms - monotonic() * 1000

    def expired(self, point: PopCheckPoint) -> bool:
        """Whether a message may have gone to another consumer by now.

        :param point: what it was popped by.
        """
        ahead = self._ahead_ms.get(point.broker_name)
        now_ms = time() * 1000 if ahead is None else monotonic() * 1000 + ahead
        return now_ms >= point.pop_time + point.invisible_time
