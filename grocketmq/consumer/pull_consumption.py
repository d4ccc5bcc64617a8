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

from grocketmq.client.instance import ClientInstance
from grocketmq.consumer.concurrently import ConcurrentConsumeService
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.flow_control import FlowControl
from grocketmq.consumer.introspection import process_queue_info
from grocketmq.consumer.local_offset_store import LocalFileOffsetStore
from grocketmq.consumer.offset_store import OffsetStore, RemoteBrokerOffsetStore
from grocketmq.consumer.orderly import OrderlyConsumeService
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_service import HOLD, PULL_TIMEOUT, PullService
from grocketmq.consumer.puller import Puller, PullOptions
from grocketmq.consumer.queue_locks import FIRST_LOCK, LOCK_INTERVAL, QueueLocks
from grocketmq.consumer.rebalance import Rebalance
from grocketmq.consumer.send_back import SendBack
from grocketmq.consumer.service import ConsumeService
from grocketmq.consumer.start_offset import start_offset
from grocketmq.consumer.stats import StatsRecorder
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import MessageModel
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.bodies import PopProcessQueueInfo, ProcessQueueInfo

__all__ = ["PullConsumption"]

log = logging.getLogger(__name__)

#: Seconds that a shutdown leaves for storing offsets, even when its listeners have used all its time.
SHORTEST_STORING = 1.0


class PullConsumption:
    """See :class:`~grocketmq.consumer.consumption.Consumption`.

    :param group: the consumer's group.
    :param instance: its instance.
    :param settings: its settings.
    :param subscriptions: what it is subscribed to.
    :param listener: ``(messages, context) -> answer``.
    :param orderly: whether that consumes in order.
    :param started: when the consumer was started, seconds since the epoch.
    :param tasks: owns the greenlets.
    :param stats: counts.
    """

    def __init__(
        self,
        group: str,
        instance: ClientInstance,
        settings: PushConsumerConfig,
        subscriptions: Subscriptions,
        listener: Callable[[list[MessageExt], Any], object],
        *,
        orderly: bool,
        started: float,
        tasks: TaskGroup,
        stats: StatsRecorder,
    ) -> None:
        self._group = group
        self._instance = instance
        self._settings = settings
        self._await = settings.await_termination
        self._tasks = tasks
        broadcasting = settings.model is MessageModel.BROADCASTING
        self._store: OffsetStore = settings.offset_store or (
            LocalFileOffsetStore() if broadcasting else RemoteBrokerOffsetStore()
        )
        self._store.open(instance, group)
        self._process_queues: dict[MessageQueue, ProcessQueue] = {}
        self._locks = QueueLocks(group, instance) if orderly and not broadcasting else None
        self._consuming = self._consume_service(listener, orderly, tasks, stats)
        options = PullOptions(
            max_nums=settings.pull_batch_size,
            hold=HOLD,
            timeout=PULL_TIMEOUT,
            send_subscription=settings.post_subscription_when_pull,
            store_offset=not broadcasting,
        )
        self._pulls = PullService(
            Puller(group, instance),
            options,
            settings.pull_interval,
            FlowControl(settings, self._process_queues, orderly=orderly),
            subscriptions,
            self._store,
            self._consuming,
            instance,
            tasks,
            stats,
            self._offset_illegal,
        )
        self._rebalance = Rebalance(
            group,
            instance,
            self._process_queues,
            subscriptions,
            None if broadcasting else settings.allocate_strategy,
            self._store,
            self._consuming,
            lambda queue: start_offset(queue, self._store, settings, instance, started),
            self._pulls.put,
        )
        tasks.periodic("clean expired", settings.consume_timeout, self._clean_expired, settings.consume_timeout)
        if self._locks is not None:
            tasks.periodic("renew locks", LOCK_INTERVAL, self._renew_locks, FIRST_LOCK)

    def _consume_service(
        self, listener: Callable[[list[MessageExt], Any], object], orderly: bool, tasks: TaskGroup, stats: StatsRecorder
    ) -> ConsumeService:
        settings = self._settings
        if orderly:
            send_back = SendBack(self._group, self._instance, settings.orderly_reconsume_limit)
            return OrderlyConsumeService(listener, settings, self._store, send_back, self._locks, tasks, stats)
        send_back = SendBack(self._group, self._instance, settings.reconsume_limit)
        return ConcurrentConsumeService(listener, settings, self._store, send_back, tasks, stats)

    @property
    def paused(self) -> bool:
        """Whether nothing more is to be pulled for now."""
        return self._pulls.paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._pulls.paused = paused

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
        reached = {queue: self._store.in_memory(queue) for queue in self._process_queues if queue.topic == topic}
        return {queue: offset for queue, offset in reached.items() if offset is not None}

    def reset_offset(self, queue: MessageQueue, offset: int) -> None:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        held = self._process_queues.get(queue)
        if held is not None:
            held.dropped = True
            self._offset_illegal(queue, offset)

    def pull_infos(self) -> dict[MessageQueue, ProcessQueueInfo]:
        """See :class:`~grocketmq.consumer.consumption.Consumption`."""
        return {
            queue: process_queue_info(held, self._store.in_memory(queue) or 0) for queue, held in self._process_queues.items()
        }

    def pop_infos(self) -> dict[MessageQueue, PopProcessQueueInfo]:
        """Nothing is popped."""
        return {}

    def stop(self, deadline: Deadline) -> None:
        """Pulls stop first, so that nothing new comes; listeners end and move the offsets; these are stored while the
        group is still ours, and locks given back."""
        self._pulls.stop()
        self._consuming.stop(Deadline(min(deadline.remaining(), self._await)))
        storing = self._tasks.spawn("store offsets", self.persist_offsets)
        storing.join(max(deadline.remaining(), SHORTEST_STORING))
        self._rebalance.stop()
        if self._locks is not None:
            self._locks.unlock(list(self._process_queues))

    def _clean_expired(self) -> None:
        self._consuming.clean_expired(self._process_queues)

    def _renew_locks(self) -> float | None:
        """Renew; come back soon while some queue is not locked."""
        assert self._locks is not None
        self._locks.renew(self._process_queues, self._rebalance.rebuild)
        return None if all(held.locked for held in self._process_queues.values()) else FIRST_LOCK

    def _offset_illegal(self, queue: MessageQueue, offset: int) -> None:
        """The broker refused the offset, or an operator reset it: go on where the broker says, with nothing of before.

        The offset is frozen until the queue is let go, so that listeners still at work cannot move it back.
        """
        log.warning("offset of %s was refused by its broker; it goes on at %d", queue, offset)
        self._store.update_and_freeze(queue, offset)
        self._rebalance.give_back(queue)
        self._instance.rebalance_soon()
