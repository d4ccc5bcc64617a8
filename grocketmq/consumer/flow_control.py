"""How much may be cached before pulling waits."""

from __future__ import annotations

from collections.abc import Mapping

from grocketmq.consumer.config import ConsumerConfig
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.model.route import MessageQueue

__all__ = ["FlowControl"]

#: Seconds for each of a consumer's queues; the sum is what Java waits for one, at most.
PAUSE_A_QUEUE = 0.002
LONGEST_PAUSE = 0.05


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
        settings = self._settings
        count, size = settings.max_cached_messages, settings.max_cached_bytes
        return (count is not None and sum(held.count for held in self._queues.values()) > count) or (
            size is not None and sum(held.size_bytes for held in self._queues.values()) > size
        )
