"""Which client of a group holds which queue, for ordered consumption.

Source: Apache RocketMQ 5.3.3, module broker, classes ``RebalanceLockManager``, ``AdminBrokerProcessor``.
"""

from __future__ import annotations

from grocketmq.codes import RequestCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.clock import Clock
from grocketmq.model.route import MessageQueue
from grocketmq.remoting.server import Channel, Handler
from grocketmq.wire import bodies
from grocketmq.wire.command import RemotingCommand

__all__ = ["QueueLocks"]


class QueueLocks:
    """The locks of one broker.

    :param clock: the time.
    :param expiry: seconds after which a lock that was not renewed is free.
    """

    def __init__(self, clock: Clock, expiry: float) -> None:
        #: group -> queue -> (client id, when it was taken or renewed).
        self.held: dict[str, dict[MessageQueue, tuple[str, float]]] = {}
        self._clock = clock
        self._expiry = expiry

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {RequestCode.LOCK_BATCH_MQ: self._lock, RequestCode.UNLOCK_BATCH_MQ: self._unlock}

    def any_held(self, group: str) -> bool:
        """Whether the group holds a lock, which means that it consumes in order."""
        return any(map(self._valid, self.held.get(group, {}).values()))

    def _valid(self, lock: tuple[str, float]) -> bool:
        return self._clock.monotonic() - lock[1] <= self._expiry

    def _lock(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        asked = bodies.LOCK_REQUEST.decode(request.body)
        locks = self.held.setdefault(asked.consumer_group, {})
        got = []
        for queue in asked.mq_set:
            lock = locks.get(queue)
            if lock is None or lock[0] == asked.client_id or not self._valid(lock):
                locks[queue] = (asked.client_id, self._clock.monotonic())
                got.append(queue)
        return success(request, body=bodies.LOCK_RESPONSE.encode(tuple(got)))

    def _unlock(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        asked = bodies.UNLOCK_REQUEST.decode(request.body)
        locks = self.held.get(asked.consumer_group, {})
        for queue in asked.mq_set:
            if queue in locks and locks[queue][0] == asked.client_id:
                del locks[queue]
        return success(request)
