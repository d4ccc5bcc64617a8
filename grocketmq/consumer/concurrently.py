"""Runs a concurrent listener: a gevent queue of consume requests, and a fixed pool of listener greenlets.

One request holds the messages of one pull.  A listener greenlet takes ``consume_batch_size`` of them at a time, and
while some are left the request stands in line for another to join in: a hand-over a pull, not one a message.

Source: Apache RocketMQ 5.3.3, module client, class ``ConsumeMessageConcurrentlyService``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

import gevent

from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.listener import ConsumeContext, consumed_of
from grocketmq.consumer.listener_pool import ListenerPool
from grocketmq.consumer.offset_store import OffsetStore
from grocketmq.consumer.process_queue import NO_OFFSET, ProcessQueue
from grocketmq.consumer.send_back import FIRST_RETRY_LEVEL, SendBack
from grocketmq.consumer.stats import StatsRecorder
from grocketmq.model.message import MessageExt
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.properties import Property
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import MessageModel
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["ConcurrentConsumeService", "ConsumeRequest"]

log = logging.getLogger(__name__)

Q = TypeVar("Q")

#: Seconds before messages that no broker took back are given to the listener again.
CONSUME_AGAIN_PAUSE = 5.0


@dataclass(slots=True, eq=False)
class ConsumeRequest(Generic[Q]):
    """The messages of one pull on their way to the listener.

    :param queue: where they come from.
    :param process_queue: what keeps them until they are done.
    :param messages: all of them.
    :param taken: how many listener greenlets have taken.
    :param offered: whether it waits in line for another listener greenlet to join in.
    """

    queue: MessageQueue
    process_queue: Q
    messages: list[MessageExt]
    taken: int = 0
    offered: bool = False

    def batches(self, pool: ListenerPool[ConsumeRequest[Q]], size: int) -> Iterator[list[MessageExt]]:
        """For a listener greenlet: the next messages, each time that its listener may be called, until none is left or the
        pool is stopped."""
        self.offered = False
        while batch := self.messages[self.taken : self.taken + size]:
            self.taken += len(batch)
            if not self.offered and self.taken < len(self.messages):
                self.offered = True
                pool.put(self)
            try:
                pool.admit(len(batch))
            except BaseException:  # this greenlet ends; the batch is given to another one
                pool.put(self.of(batch))
                raise
            if pool.stopped:
                return
            yield batch

    def of(self, messages: list[MessageExt]) -> ConsumeRequest[Q]:
        """A request for some of its messages, which were taken already."""
        return ConsumeRequest(self.queue, self.process_queue, messages)


class ConcurrentConsumeService:
    """The consuming half of a concurrent push consumer; see :class:`~grocketmq.consumer.service.ConsumeService`.

    :param listener: ``(messages, context) -> answer``.
    :param settings: the consumer's.
    :param store: its offsets.
    :param send_back: gives messages back.
    :param tasks: owns the greenlets.
    :param stats: counts.
    """

    def __init__(
        self,
        listener: Callable[[list[MessageExt], ConsumeContext], object],
        settings: PushConsumerConfig,
        store: OffsetStore,
        send_back: SendBack,
        tasks: TaskGroup,
        stats: StatsRecorder,
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._store = store
        self._send_back = send_back
        self._stats = stats
        self._pool: ListenerPool[ConsumeRequest[ProcessQueue]] = ListenerPool(
            tasks, settings.listener_concurrency, self._work, settings.max_messages_per_second
        )

    def submit(self, queue: MessageQueue, process_queue: ProcessQueue, messages: list[MessageExt], max_offset: int) -> None:
        """See :class:`~grocketmq.consumer.service.ConsumeService`."""
        process_queue.put(messages, max_offset)
        if is_retry_topic(queue.topic):
            for message in messages:
                message.topic = message.properties.get(Property.RETRY_TOPIC, message.topic)
        self._pool.put(ConsumeRequest(queue, process_queue, messages))

    def pull_pause(self, process_queue: ProcessQueue) -> float:
        """Nothing to wait for."""
        return 0.0

    def acquire(self, queue: MessageQueue) -> bool:
        """Nothing to acquire."""
        return True

    def quiesce(self, queue: MessageQueue, process_queue: ProcessQueue) -> bool:
        """Listeners at work on a queue do not hold it: its next owner gets their messages too."""
        return True

    def release(self, queue: MessageQueue) -> None:
        """Nothing to release."""

    def clean_expired(self, queue: MessageQueue, process_queue: ProcessQueue) -> None:
        """See :class:`~grocketmq.consumer.service.ConsumeService`; in broadcasting nothing is sent back."""
        if self._settings.model is MessageModel.BROADCASTING:
            return
        for message in process_queue.expired(monotonic(), self._settings.consume_timeout):
            if self._send_back.try_send(message, FIRST_RETRY_LEVEL) and message in process_queue:
                process_queue.remove([message])
                self._stats.topic(queue.topic).expired += 1

    def stop(self, deadline: Deadline) -> None:
        """See :class:`~grocketmq.consumer.service.ConsumeService`; what was not handed out is not consumed."""
        self._pool.stop(deadline)

    # -- the listener greenlets ----------------------------------------------------------------------------------------------

    def _work(self, request: ConsumeRequest[ProcessQueue]) -> None:
        """Take batches of a request until none is left: for a short listener this loop is what consuming costs."""
        queue, process_queue = request.queue, request.process_queue
        counts = self._stats.topic(queue.topic)
        for batch in request.batches(self._pool, self._settings.consume_batch_size):
            if process_queue.dropped:
                return
            began = monotonic()
            process_queue.mark_started(batch, began)
            consumed, delay_level = self._call_listener(request, batch)
            counts.listener_calls += 1
            counts.listener_seconds += monotonic() - began
            counts.consumed += consumed
            done = batch
            if consumed < len(batch):
                counts.failed += len(batch) - consumed
                done = self._send_rest_back(request, batch, consumed, delay_level)
            offset = process_queue.remove(done)
            if offset != NO_OFFSET and not process_queue.dropped:  # else its next owner gets them all again
                self._store.update(queue, offset, increase_only=True)

    def _call_listener(self, request: ConsumeRequest[ProcessQueue], batch: list[MessageExt]) -> tuple[int, int]:
        """How many messages were consumed, and the delay of those that are sent back."""
        context = ConsumeContext(request.queue, None, self._settings.delay_level_when_next_consume)
        try:
            answer = self._listener(list(batch), context)
            if answer is None and context.ack_index is None:
                return len(batch), 0
            return consumed_of(answer, context, len(batch)), context.delay_level_when_next_consume
        except (Exception, gevent.Timeout):  # a Timeout that the listener set and let through is a failure of the listener
            if self._settings.model is MessageModel.BROADCASTING:
                self._pool.log_failure(len(batch), request.queue, "in broadcasting they are not delivered again")
            else:
                self._pool.log_failure(len(batch), request.queue)
            return 0, context.delay_level_when_next_consume
        except BaseException:  # this greenlet ends; its messages are given to another one
            self._pool.put(request.of(batch), CONSUME_AGAIN_PAUSE)
            raise

    def _send_rest_back(
        self, request: ConsumeRequest[ProcessQueue], batch: list[MessageExt], consumed: int, delay_level: int
    ) -> list[MessageExt]:
        """Send back what was not consumed; what is done with then.  What no broker takes is consumed again here."""
        if request.process_queue.dropped:  # its next owner gets them all again
            return []
        kept = [message for message in batch[consumed:] if not self._sent_back(request, message, delay_level)]
        if not kept:
            return batch
        self._pool.put(request.of(kept), CONSUME_AGAIN_PAUSE)
        return [message for message in batch if message not in kept]

    def _sent_back(self, request: ConsumeRequest[ProcessQueue], message: MessageExt, delay_level: int) -> bool:
        """Whether this consumer is rid of the message: a broker took it, or it was sent back before for being overdue."""
        if message not in request.process_queue:
            return True
        if self._settings.model is MessageModel.BROADCASTING:
            log.warning("%s was not consumed; in broadcasting it is not delivered again", message)
            return True
        if self._send_back.try_send(message, delay_level):
            self._stats.topic(request.queue.topic).sent_back += 1
            return True
        message.reconsume_times += 1
        return False
