"""Which queue the next try of a send goes to."""

from __future__ import annotations

import random

from grocketmq.model.route import MessageQueue, TopicPublishInfo
from grocketmq.producer.faults import FaultTable

__all__ = ["QueuePicker"]

#: Topics whose turn is kept; beyond that all begin anew.
MAX_TURNS = 10_000


class QueuePicker:
    """Goes round each topic's queues, beginning at a random one, and avoids the broker that just failed.

    :param faults: which brokers to stay away from besides; None to look at the last try only.

    Source: Apache RocketMQ 5.3.3, module client, class ``MQFaultStrategy``.
    """

    def __init__(self, faults: FaultTable | None = None) -> None:
        self.faults = faults
        self._turns: dict[str, int] = {}

    def pick(self, info: TopicPublishInfo, avoid: str | None = None) -> MessageQueue:
        """The next queue; never blocks.

        :param info: the topic's queues, at least one.
        :param avoid: the broker that failed in the last try; taken only when there is no other.
        """
        queues, turn = info.queues, self._turns.get(info.topic)
        if turn is None:
            turn = self._first_turn(info)
        if self.faults is not None:
            sound = self._pick_sound(info, turn, avoid, self.faults)
            if sound is not None:
                return sound
        queue = queues[turn % len(queues)]
        if queue.broker_name == avoid:
            for step in range(1, len(queues)):
                other = queues[(turn + step) % len(queues)]
                if other.broker_name != avoid:
                    turn, queue = turn + step, other
                    break
        self._turns[info.topic] = turn + 1
        return queue

    def _pick_sound(self, info: TopicPublishInfo, turn: int, avoid: str | None, faults: FaultTable) -> MessageQueue | None:
        """Of a broker without a penalty; else of one that answered last; None when there is neither."""
        queues = info.queues
        for sound in (faults.is_available, faults.is_reachable):
            for step in range(turn, turn + len(queues)):
                queue = queues[step % len(queues)]
                if queue.broker_name != avoid and sound(queue.broker_name):
                    self._turns[info.topic] = step + 1
                    return queue
        return None

    def _first_turn(self, info: TopicPublishInfo) -> int:
        """Whose turn it is first, as an index that grows round after round."""
        if len(self._turns) >= MAX_TURNS:
            self._turns.clear()
        turn = self._turns[info.topic] = random.randrange(len(info.queues))
        return turn
