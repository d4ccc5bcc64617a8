"""The brokers' locks, by which at most one member of a group works on a queue in order.

A lock lasts 60 s at the broker.  It is renewed every 20 s, and trusted here for 30 s after that.

Source: Apache RocketMQ 5.3.3, module client, class ``RebalanceImpl`` (``lock``, ``lockAll``, ``unlock``); module broker, class
``RebalanceLockManager``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from grocketmq.client.instance import ClientInstance
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.errors import GRocketMQError
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.turns import in_turns

__all__ = ["LOCK_INTERVAL", "QueueLocks"]

log = logging.getLogger(__name__)

#: Seconds between two renewals, and before the first one.
LOCK_INTERVAL = 20.0
FIRST_LOCK = 1.0
_FIND_TIMEOUT = 3.0
#: Queues in one request; the JSON of more would hold the event loop.
_MOST_AT_ONCE = 200


class QueueLocks:
    """The locks of one orderly consumer.

    :param group: its group.
    :param instance: its instance.
    """

    def __init__(self, group: str, instance: ClientInstance) -> None:
        self._group = group
        self._instance = instance
        #: Queues whose lock was asked for: the broker may have given it, though nobody waited for its answer.
        self._asked: set[MessageQueue] = set()

    def lock(self, queue: MessageQueue) -> bool:
        """Lock one queue; blocks about a second at most.

        :returns: whether it is this client's now; False also when the broker does not answer.
        """
        try:
            address = self._instance.master_address(queue, Deadline(_FIND_TIMEOUT))
            self._asked.add(queue)
            return queue in self._instance.api.lock_queues(address, self._group, self._instance.client_id, [queue])
        except GRocketMQError as error:
            log.warning("%s not locked: %s", queue, error)
            return False

    def renew(self, queues: Mapping[MessageQueue, ProcessQueue], regained: Callable[[MessageQueue], None]) -> None:
        """Renew the locks of all queues, broker by broker; blocks about a second a broker at most.

        :param queues: the consumer's.
        :param regained: told of a queue whose lock was lost for a while: another member may have worked on it.
        """
        # Those that were dropped are about to be let go of.
        mine = [queue for queue, held in in_turns(list(queues.items())) if not held.dropped]
        for address, names in self._by_master(mine):
            try:
                locked = self._instance.api.lock_queues(address, self._group, self._instance.client_id, names)
            except GRocketMQError as error:
                log.warning("%d locks at %s not renewed, tried again later: %s", len(names), address, error)
                continue
            now = monotonic()
            for queue in names:
                held = queues.get(queue)
                if held is None:
                    continue
                lost = not held.locked or held.lock_expired(now)
                held.locked = queue in locked
                if held.locked:
                    held.last_lock = now
                    if lost:
                        regained(queue)

    def unlock(self, queues: Iterable[MessageQueue]) -> None:
        """Give locks back; blocks about a second a broker at most, errors are ignored: locks end by themselves."""
        queues = list(queues)
        self._asked.difference_update(queues)
        for address, names in self._by_master(queues):
            try:
                self._instance.api.unlock_queues(address, self._group, self._instance.client_id, names)
            except GRocketMQError as error:
                log.info("%d locks at %s not given back, they end within a minute: %s", len(names), address, error)

    def unlock_all(self, queues: Iterable[MessageQueue]) -> None:
        """Give back the locks of these queues, and all that were asked for; blocks as :meth:`unlock` does."""
        self.unlock(self._asked.union(queues))

    def _by_master(self, queues: Iterable[MessageQueue]) -> list[tuple[str, list[MessageQueue]]]:
        """Masters, each with some of its queues; a master of many comes again."""
        grouped: dict[str, list[MessageQueue]] = {}
        for queue in in_turns(queues):
            address = self._instance.routes.master(queue.broker_name)
            if address is not None:
                grouped.setdefault(address, []).append(queue)
        return [
            (address, names[start : start + _MOST_AT_ONCE])
            for address, names in grouped.items()
            for start in range(0, len(names), _MOST_AT_ONCE)
        ]
