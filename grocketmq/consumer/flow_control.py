"""How much may be cached before pulling waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from grocketmq.consumer.config import ConsumerConfig
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.model.route import MessageQueue

__all__ = ["FlowControl"]

#: Seconds for each of a consumer's queues; the sum is what Java waits for one, at most.
PAUSE_A_QUEUE = 0.002
LONGEST_PAUSE = 0.05
#: Queues whose messages are added up each time that a queue is asked about.
_LOOKS = 64


class FlowControl:
    """The bounds of a consumer, for each queue and over all of them.

    :param settings: the consumer's.
    :param queues: its queues.
    :param orderly: whether it consumes in order: then a slow message holds back its own queue only, and no span needs a bound.
    """

    def __init__(self, settings: ConsumerConfig, queues: Mapping[MessageQueue, ProcessQueue], *, orderly: bool = False) -> None:
        self._settings = settings
        self._queues = queues
        self._orderly = orderly
        #: Sums over all queues, those of the round that is under way, and the queues it has not looked at.
        self._count = self._size_bytes = 0
        self._count_so_far = self._size_so_far = 0
        self._left: Iterator[ProcessQueue] = iter(())

    @property
    def pause(self) -> float:
        """Seconds until a queue that is held back is looked at again.

        All queues together are drained by the same listeners: the more there are, the longer that takes.  Fast listeners must
        not run dry meanwhile.
        """
        return min(LONGEST_PAUSE, PAUSE_A_QUEUE * len(self._queues))

    def holds_back(self, held: ProcessQueue) -> bool:
        """Whether a queue must not be pulled now; never blocks.

        :param held: the queue's messages.
        """
        return self.fills(held) or self._all_together_too_much()

    def fills(self, held: ProcessQueue) -> bool:
        """Whether one queue by itself has too much cached; never blocks.

        :param held: the queue's messages.
        """
        settings = self._settings
        limit = settings.max_cached_messages_per_queue
        if settings.max_cached_messages_per_topic is not None:
            limit = max(1, settings.max_cached_messages_per_topic // max(1, len(self._queues)))
        return (
            held.count > limit
            or held.size_bytes > settings.max_cached_bytes_per_queue
            or (not self._orderly and held.span > settings.max_span_concurrently)
        )

    def _all_together_too_much(self) -> bool:
        most, most_bytes = self._settings.max_cached_messages, self._settings.max_cached_bytes
        if most is None and most_bytes is None:
            return False
        self._add_up()
        return (most is not None and self._count > most) or (most_bytes is not None and self._size_bytes > most_bytes)

    def _add_up(self) -> None:
        """Bring the sums up to date.

        Of many queues only some are looked at each time, so that asking costs the same however many there are; the sums are
        then those of a short while ago.
        """
        if len(self._queues) <= _LOOKS:
            self._count = sum(held.count for held in self._queues.values())
            self._size_bytes = sum(held.size_bytes for held in self._queues.values())
            return
        for _ in range(_LOOKS):
            held = next(self._left, None)
            if held is None:
                self._count, self._size_bytes = self._count_so_far, self._size_so_far
                self._count_so_far = self._size_so_far = 0
                self._left = iter(list(self._queues.values()))
                return
            self._count_so_far += held.count
            self._size_so_far += held.size_bytes
