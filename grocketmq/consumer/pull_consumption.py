"""The parts of a push consumer that pulls.

The way of a message: the rebalance takes a queue (``rebalance``) and puts a pull request into the pull service's queue;
the pull service (``pull_service``) pulls, keeps the messages in the queue's ``ProcessQueue`` and puts a consume request
into the consume service's queue; a listener greenlet (``concurrently`` or ``orderly``) runs the listener; what is done
leaves the ``ProcessQueue``, which tells the offset to store (``offset_store``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from grocketmq.consumer.concurrently import ConcurrentConsumeService
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.consumption import Consumption
from grocketmq.consumer.flow_control import FlowControl
from grocketmq.consumer.introspection import process_queue_infos, reached_offsets
from grocketmq.consumer.local_offset_store import LocalFileOffsetStore
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.offset_store import OffsetStore, RemoteBrokerOffsetStore
from grocketmq.consumer.orderly import OrderlyConsumeService
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_service import PullService
from grocketmq.consumer.puller import HELD_TIMEOUT, PUSH_HOLD, Puller, PullOptions
from grocketmq.consumer.queue_locks import FIRST_LOCK, LOCK_INTERVAL, QueueLocks
from grocketmq.consumer.rebalance import Rebalance
from grocketmq.consumer.send_back import SendBack
from grocketmq.consumer.service import ConsumeService
from grocketmq.consumer.start_offset import start_offset
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import MessageModel
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.turns import in_turns
from grocketmq.wire.bodies import ProcessQueueInfo

__all__ = ["PullConsumption"]

log = logging.getLogger(__name__)

#: Seconds that a shutdown leaves for storing offsets, even when its listeners have used all its time.
SHORTEST_STORING = 1.0


class PullConsumption(Consumption):
    """See :class:`~grocketmq.consumer.consumption.Consumption`.

    :param member: the consumer.
    :param listener: ``(messages, context) -> answer``.
    :param orderly: whether that consumes in order.
    :param started: when the consumer was started, seconds since the epoch.
    """

    def __init__(
        self,
        member: Membership[PushConsumerConfig],
        listener: Callable[[list[MessageExt], Any], object],
        *,
        orderly: bool,
        started: float,
    ) -> None:
        group, instance, settings = member.group, member.instance, member.settings
        self._member = member
        broadcasting = settings.model is MessageModel.BROADCASTING
        self._store: OffsetStore = settings.offset_store or (
            LocalFileOffsetStore() if broadcasting else RemoteBrokerOffsetStore()
        )
        self._store.open(instance, group)
        self._process_queues: dict[MessageQueue, ProcessQueue] = {}
        self._locks = QueueLocks(group, instance) if orderly and not broadcasting else None
        self._consuming = self._consume_service(listener, orderly)
        options = PullOptions(
            max_nums=settings.pull_batch_size,
            hold=PUSH_HOLD,
            timeout=HELD_TIMEOUT,
            send_subscription=settings.post_subscription_when_pull,
            store_offset=not broadcasting,
        )
        self.fetching = self._pulls = PullService(
            member,
            Puller(group, instance, member.hooks),
            options,
            FlowControl(settings, self._process_queues, orderly=orderly),
            self._store,
            self._consuming,
            self._offset_illegal,
        )
        self._rebalance = Rebalance(
            group,
            instance,
            self._process_queues,
            member.subscriptions,
            None if broadcasting else settings.allocate_strategy,
            self._store,
            self._consuming,
            lambda queue: start_offset(queue, self._store, settings, instance, started),
            self._pulls.put,
        )
        member.tasks.periodic("clean expired", settings.consume_timeout, self._clean_expired, settings.consume_timeout)
        if self._locks is not None:
            member.tasks.periodic("renew locks", LOCK_INTERVAL, self._renew_locks, FIRST_LOCK)

    def _consume_service(self, listener: Callable[[list[MessageExt], Any], object], orderly: bool) -> ConsumeService:
        member, settings = self._member, self._member.settings
        limit = settings.orderly_reconsume_limit if orderly else settings.reconsume_limit
        send_back = SendBack(member.group, member.instance, limit)
        if orderly:
            return OrderlyConsumeService(listener, settings, self._store, send_back, self._locks, member.tasks, member.stats)
        return ConcurrentConsumeService(listener, settings, self._store, send_back, member.tasks, member.stats)

    def prepare(self) -> None:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        self._rebalance.start()

    def rebalance(self) -> bool:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        return self._rebalance.run()

    def persist_offsets(self) -> None:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        self._store.persist(list(self._process_queues))

    def held(self) -> dict[MessageQueue, ProcessQueue]:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        return self._process_queues

    def offsets(self, topic: str) -> dict[MessageQueue, int]:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        return reached_offsets(self._process_queues, topic, self._store)

    def reset_offset(self, queue: MessageQueue, offset: int) -> None:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        log.info("offset of %s is reset to %d, as an operator wants it", queue, offset)
        self._rebalance.move(queue, offset)

    def pull_infos(self) -> dict[MessageQueue, ProcessQueueInfo]:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        return process_queue_infos(self._process_queues, self._store)

    def stop(self, deadline: Deadline) -> None:
        """Pulls stop first, so that nothing new comes; listeners end and move the offsets; these are stored while the
        group is still ours, and locks given back."""
        self._pulls.stop()
        self._consuming.stop(Deadline(min(deadline.remaining(), self._member.settings.await_termination)))
        storing = self._member.tasks.spawn("store offsets", self.persist_offsets)
        storing.join(max(deadline.remaining(), SHORTEST_STORING))
        self._rebalance.stop()
        if self._locks is not None:
            self._locks.unlock_all(self._process_queues)

    def _clean_expired(self) -> None:
        for queue, held in in_turns(list(self._process_queues.items())):
            self._consuming.clean_expired(queue, held)

    def _renew_locks(self) -> float | None:
        """Renew; come back soon while some queue is not locked."""
        assert self._locks is not None
        self._locks.renew(self._process_queues, self._rebalance.rebuild)
        return None if all(held.locked for held in self._process_queues.values()) else FIRST_LOCK

    def _offset_illegal(self, queue: MessageQueue, offset: int) -> None:
        log.warning("offset of %s was refused by its broker; it goes on at %d", queue, offset)
        self._rebalance.move(queue, offset)
