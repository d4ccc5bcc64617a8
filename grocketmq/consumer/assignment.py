"""Takes the queues that a lite pull consumer is told to take, or its share of those its group has."""

from __future__ import annotations

from grocketmq.consumer.rebalance import Rebalance
from grocketmq.model.route import MessageQueue

__all__ = ["Assignment"]


class Assignment(Rebalance):
    """A rebalance that may be told the queues to take."""

    #: The queues to take; None for a share.
    wanted: frozenset[MessageQueue] | None = None

    def _topic(self, topic: str) -> bool:
        if self.wanted is None:
            return super()._topic(topic)
        return self._take(topic, sorted(queue for queue in self.wanted if queue.topic == topic), 0.0)
