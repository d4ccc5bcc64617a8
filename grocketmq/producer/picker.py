"""Which queue the next try of a send goes to."""

from __future__ import annotations

import random

from grocketmq.model.route import MessageQueue, TopicPublishInfo

__all__ = ["QueuePicker"]

#: Topics whose turn is kept; beyond that all begin anew.
MAX_TURNS = 10_000


class QueuePicker:
    """Goes round each topic's queues, beginning at a random one, and avoids the broker that just failed.

    Source: Apache RocketMQ 5.3.3, module client, class ``MQFaultStrategy`` (without the latency table).
    """

    def __init__(self) -> None:
        self._turns: dict[str, int] = {}

    def pick(self, info: TopicPublishInfo, avoid: str | None = None) -> MessageQueue:
        """The next queue; never blocks.

        :param info: the topic's queues, at least one.
        :param avoid: the broker that failed in the last try; taken only when there is no other.
        """
        queues = info.queues
        turn = self._turns.get(info.topic)
        if turn is None:
            if len(self._turns) >= MAX_TURNS:
                self._turns.clear()
            turn = random.randrange(len(queues))
        queue = queues[turn % len(queues)]
        if queue.broker_name == avoid:
            for step in range(1, len(queues)):
                other = queues[(turn + step) % len(queues)]
                if other.broker_name != avoid:
                    turn, queue = turn + step, other
                    break
        self._turns[info.topic] = turn + 1
        return queue
