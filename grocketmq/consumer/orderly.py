"""Runs an orderly listener: one batch of a queue at a time, in the order of its offsets.

Whoever works on a queue holds its lock at the broker.  Losing the lock does not stop a batch under way, so a message
may be given to two members' listeners, one after the other; it never overtakes another of its queue.

Source: Apache RocketMQ 5.3.3, module client, class ``ConsumeMessageOrderlyService``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import gevent

from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.listener import OrderlyContext, orderly_outcome_of
from grocketmq.consumer.listener_pool import ListenerPool
from grocketmq.consumer.offset_store import OffsetStore
from grocketmq.consumer.process_queue import NO_OFFSET, ProcessQueue
from grocketmq.consumer.queue_locks import QueueLocks
from grocketmq.consumer.send_back import SendBack
from grocketmq.consumer.stats import StatsRecorder
from grocketmq.model.message import MessageExt
from grocketmq.model.results import ConsumeOrderlyStatus
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["OrderlyConsumeService", "OrderlyRequest"]

#: A listener greenlet leaves a queue after so many seconds, so that others get their turn.
LONGEST_TURN = 60.0
#: Seconds before a queue is looked at again ...
AFTER_TURN = 0.01
WHILE_LOCKED_OUT = 3.0
WHILE_ANOTHER_WORKS = 0.1
WHILE_UNLOCKED = 1.0
#: A suspended queue waits at least and at most so many seconds.
SHORTEST_SUSPENSION = 0.01
LONGEST_SUSPENSION = 30.0
#: Seconds to wait for a batch under way when its queue is given up, and until it is given up all the same.
QUIESCE_PAUSE = 0.5
FORCE_AFTER = 20.0


@dataclass(slots=True, eq=False)
class OrderlyRequest:
    """A queue that has messages to be consumed.

    :param queue: its name.
    :param process_queue: its messages.
    :param batch: those that are in hand.
    """

    queue: MessageQueue
    process_queue: ProcessQueue
    batch: list[MessageExt] = field(default_factory=list)


class OrderlyConsumeService:
    """The consuming half of an orderly push consumer; see :class:`~grocketmq.consumer.service.ConsumeService`.

    :param listener: ``(messages, context) -> answer``.
    :param settings: the consumer's.
    :param store: its offsets.
    :param send_back: gives messages to the dead letters.
    :param locks: the brokers' locks; None when every member gets all messages.
    :param tasks: owns the greenlets.
    :param stats: counts.
    """

    def __init__(
        self,
        listener: Callable[[list[MessageExt], OrderlyContext], object],
        settings: PushConsumerConfig,
        store: OffsetStore,
        send_back: SendBack,
        locks: QueueLocks | None,
        tasks: TaskGroup,
        stats: StatsRecorder,
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._store = store
        self._send_back = send_back
        self._locks = locks
        self._stats = stats
        self._working: set[MessageQueue] = set()
        self._pool: ListenerPool[OrderlyRequest] = ListenerPool(
            tasks, settings.listener_concurrency, self._work, settings.max_messages_per_second
        )

    def submit(self, queue: MessageQueue, process_queue: ProcessQueue, messages: list[MessageExt], max_offset: int) -> None:
        """See :class:`~grocketmq.consumer.service.ConsumeService`."""
        if process_queue.put(messages, max_offset):
            self._pool.put(OrderlyRequest(queue, process_queue))

    def pull_pause(self, process_queue: ProcessQueue) -> float:
        """A queue is pulled only while its lock is held."""
        return 0.0 if self._locks is None or process_queue.locked else WHILE_UNLOCKED

    def acquire(self, queue: MessageQueue) -> bool:
        """Lock it."""
        return self._locks is None or self._locks.lock(queue)

    def quiesce(self, queue: MessageQueue, process_queue: ProcessQueue) -> bool:
        """Wait for the batch under way; 20 s after the first try the queue is let go of all the same."""
        if process_queue.unlocking_since is None:
            process_queue.unlocking_since = monotonic()
        deadline = Deadline(QUIESCE_PAUSE)
        while queue in self._working and not deadline.expired:
            gevent.sleep(0.005)
        return queue not in self._working or monotonic() - process_queue.unlocking_since > FORCE_AFTER

    def release(self, queue: MessageQueue) -> None:
        """Give its lock back."""
        if self._locks is not None:
            self._locks.unlock([queue])

    def clean_expired(self, queue: MessageQueue, process_queue: ProcessQueue) -> None:
        """An orderly message is never overdue: to give it up would break the order."""

    def stop(self, deadline: Deadline) -> None:
        """See :class:`~grocketmq.consumer.service.ConsumeService`."""
        self._pool.stop(deadline)

    # -- the listener greenlets ----------------------------------------------------------------------------------------------

    def _work(self, request: OrderlyRequest) -> None:
        if request.queue in self._working:  # a batch from before the queue was given up and taken again
            self._pool.put(request, WHILE_ANOTHER_WORKS)
            return
        self._working.add(request.queue)
        pause: float | None = self._settings.suspend_queue_time
        try:
            pause = self._in_order(request)
        except BaseException:
            request.process_queue.put_back(request.batch)  # no batch is lost by what a listener throws, nor by a fault of ours
            raise
        finally:
            self._working.discard(request.queue)
            if pause is not None:
                self._pool.put(request, pause)

    def _in_order(self, request: OrderlyRequest) -> float | None:
        """Batch after batch; the seconds before the queue is due again, None when it is done with."""
        held = request.process_queue
        turn_ends = monotonic() + LONGEST_TURN
        while not held.dropped and not self._pool.stopped:
            if self._locks is not None and (not held.locked or held.lock_expired(monotonic())):
                return WHILE_LOCKED_OUT  # the renewal gets the lock again, or the queue is taken away
            if monotonic() > turn_ends:
                return AFTER_TURN
            request.batch = batch = held.take(self._settings.consume_batch_size)
            if not batch:
                return None
            self._pool.admit(len(batch))
            pause = self._consume(request, batch)
            request.batch = []
            if pause is not None:
                return pause
        return None

    def _consume(self, request: OrderlyRequest, batch: list[MessageExt]) -> float | None:
        """One call of the listener; the seconds to suspend the queue, None to go on."""
        if request.process_queue.dropped or self._pool.stopped:  # while it waited to be admitted
            return None
        context = OrderlyContext(request.queue, suspend_queue_time=self._settings.suspend_queue_time)
        began = monotonic()
        status = ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT
        pause = self._settings.suspend_queue_time
        try:
            status = orderly_outcome_of(self._listener(list(batch), context))
            pause = min(max(context.suspend_queue_time, SHORTEST_SUSPENSION), LONGEST_SUSPENSION)
        except (Exception, gevent.Timeout):
            self._pool.log_failure(len(batch), request.queue)
        counts = self._stats.topic(request.queue.topic)
        counts.listener_calls += 1
        counts.listener_seconds += monotonic() - began
        request.process_queue.last_consume = monotonic()
        return self._settle(request, batch, status, pause, auto_commit=context.auto_commit)

    def _settle(
        self,
        request: OrderlyRequest,
        batch: list[MessageExt],
        status: ConsumeOrderlyStatus,
        pause: float,
        *,
        auto_commit: bool,
    ) -> float | None:
        """What the listener's answer means; the seconds to suspend the queue, None to go on.

        Unlike Java, ROLLBACK is never taken for a success, with ``auto_commit`` neither.
        """
        held = request.process_queue
        counts = self._stats.topic(request.queue.topic)
        if status is ConsumeOrderlyStatus.ROLLBACK:
            counts.failed += len(batch)
            held.rollback()
            return pause
        if status is ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT:
            counts.failed += len(batch)
            if held.dropped or self._again(batch):  # of a dropped queue, the next owner gets the batch again
                held.put_back(batch)
                return pause
        else:
            counts.consumed += len(batch)
        if status is ConsumeOrderlyStatus.COMMIT or auto_commit:
            self._commit(request)
        return None

    def _commit(self, request: OrderlyRequest) -> None:
        """Move the offset; a queue that is being given up is still ours until it is let go of."""
        offset = request.process_queue.commit()
        if offset != NO_OFFSET and not request.process_queue.released:
            self._store.update(request.queue, offset, increase_only=False)

    def _again(self, batch: list[MessageExt]) -> bool:
        """Whether the batch must be consumed again; messages that were often enough go to the dead letters."""
        again = False
        limit = self._settings.max_reconsume_times
        for message in batch:
            if limit is None or message.reconsume_times < limit or not self._send_back.try_send_anew(message):
                message.reconsume_times += 1
                again = True
        return again
