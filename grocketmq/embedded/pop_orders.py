"""Ordered popping: while messages of a queue are out, nobody of the group gets further ones.

Source: Apache RocketMQ 5.5.0, module broker, class ``ConsumerOrderInfoManager``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from grocketmq.embedded.clock import Clock
from grocketmq.embedded.pop_check_points import PoppedQueue

__all__ = ["Orders"]


@dataclass(slots=True)
class _Out:
    """What is out of one queue.

    :param attempt_id: who may ask again and gets the same.
    :param visible_at: by offset, when another time than the pop's own was asked for, ms since the epoch.
    :param tries: how often an offset was out before.
    """

    attempt_id: str | None
    pop_time: int
    invisible_ms: int
    offsets: Sequence[int]
    acknowledged: set[int] = field(default_factory=set)
    visible_at: dict[int, int] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)

    def blocked_until(self, now_ms: int) -> int:
        """When the last message that is not acknowledged may be had again; 0 when all may."""
        times = (
            self.visible_at.get(offset, self.pop_time + self.invisible_ms)
            for offset in self.offsets
            if offset not in self.acknowledged
        )
        return max((time for time in times if time > now_ms), default=0)

    def next_offset(self) -> int:
        """Where the group stands."""
        return next((offset for offset in self.offsets if offset not in self.acknowledged), self.offsets[-1] + 1)


class Orders:
    """What is out of queues that groups pop in order.

    :param clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._out: dict[PoppedQueue, _Out] = {}

    def blocked(self, queue: PoppedQueue, attempt_id: str | None = None) -> bool:
        """Whether a queue has to wait for acknowledgements.

        :param attempt_id: the asker's; who has what is out may ask again.
        """
        out = self._out.get(queue)
        if out is None or (out.attempt_id is not None and out.attempt_id == attempt_id):
            return False
        return out.blocked_until(self._clock.now_ms()) > 0

    def hand_out(
        self, queue: PoppedQueue, attempt_id: str | None, pop_time: int, invisible_ms: int, offsets: Sequence[int]
    ) -> tuple[dict[int, int], int]:
        """Note what was popped.

        :returns: how often its messages were out before, by offset, and the least of it over all of them.
        """
        before = self._out.get(queue)
        tries: dict[int, int] = {}
        if before is not None:
            if before.attempt_id is not None and before.attempt_id == attempt_id:
                tries = before.tries
            else:
                tries = {offset: before.tries.get(offset, 0) + 1 for offset in offsets if offset in before.offsets}
        self._out[queue] = _Out(attempt_id, pop_time, invisible_ms, offsets, tries=tries)
        least = min(tries.values(), default=0) if len(tries) == len(offsets) else 0
        return tries, least

    def acknowledge(self, queue: PoppedQueue, offset: int, pop_time: int) -> int | None:
        """Note that a message is done.

        :returns: where the group stands now; None when nothing changes, -1 for an offset that is not out.
        """
        out = self._out.get(queue)
        if out is None:
            return offset + 1
        if out.pop_time != pop_time:
            return None
        if offset not in out.offsets:
            return -1
        out.acknowledged.add(offset)
        return out.next_offset()

    def change(self, queue: PoppedQueue, offset: int, pop_time: int, visible_at: int) -> None:
        """Another time from which on a message may be had again, ms since the epoch."""
        out = self._out.get(queue)
        if out is not None and out.pop_time == pop_time:
            out.visible_at[offset] = visible_at

    def forget(self, queue: PoppedQueue) -> None:
        """The group was moved elsewhere: nothing is out any more."""
        self._out.pop(queue, None)

    def forget_topic(self, topic: str) -> None:
        """A topic was deleted."""
        for queue in [queue for queue in self._out if queue.topic == topic]:
            del self._out[queue]
