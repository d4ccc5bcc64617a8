"""Runs a concurrent listener: a gevent queue of consume requests, and a fixed pool of listener greenlets.

One request holds the messages of one pull.  A listener greenlet takes ``consume_batch_size`` of them at a time, and
while some are left it lets an idle one of the pool join in: a hand-over a pull, not one a message.

Source: Apache RocketMQ 5.3.3, module client, class ``ConsumeMessageConcurrentlyService``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import gevent
from gevent.queue import Queue

from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.listener import ConsumeContext, outcome_of
from grocketmq.consumer.offset_store import OffsetStore
from grocketmq.consumer.process_queue import NO_OFFSET, ProcessQueue
from grocketmq.consumer.send_back import FIRST_RETRY_LEVEL, SendBack
from grocketmq.consumer.stats import ConsumerStats
from grocketmq.model.message import MessageExt
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.properties import Property
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.gate import FairGate
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["ConcurrentConsumeService", "ConsumeRequest"]

log = logging.getLogger(__name__)

#: Seconds before messages that no broker took back are given to the listener again.
CONSUME_AGAIN_PAUSE = 5.0
_LOG_PAUSE = 1.0


@dataclass(slots=True, eq=False)
class ConsumeRequest:
    """The messages of one pull on their way to the listener.

    :param queue: where they come from.
    :param process_queue: what keeps them until they are done.
    :param messages: all of them.
    :param taken: how many listener greenlets have taken.
    """

    queue: MessageQueue
    process_queue: ProcessQueue
    messages: list[MessageExt]
    taken: int = 0

    def take(self, count: int) -> list[MessageExt]:
        """The next messages, none when all are taken."""
        batch = self.messages[self.taken : self.taken + count]
        self.taken += len(batch)
        return batch

    @property
    def has_more(self) -> bool:
        """Whether some are left to take."""
        return self.taken < len(self.messages)


class ConcurrentConsumeService:
    """The consuming half of a push consumer.

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
        stats: ConsumerStats,
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._store = store
        self._send_back = send_back
        self._tasks = tasks
        self._stats = stats
        self._gate = FairGate()
        self._requests: Queue[ConsumeRequest | None] = Queue()
        self._idle = 0
        self._stopped = False
        self._logged_at = float("-inf")
        self._unlogged = 0
        self._listeners = [tasks.loop(f"listener {number}", self._listen) for number in range(settings.listener_concurrency)]

    def submit(self, queue: MessageQueue, process_queue: ProcessQueue, messages: list[MessageExt]) -> None:
        """Have messages consumed; never blocks.

        :param queue: where they come from.
        :param process_queue: where they wait, and stay until they are done.
        :param messages: what was pulled.
        """
        self._requests.put(ConsumeRequest(queue, process_queue, messages))

    def stop(self, deadline: Deadline) -> None:
        """Hand out nothing more, and wait for listeners; blocks at most until the deadline.

        What was not handed out is not consumed, so the group gets it again.
        """
        self._stopped = True
        for _ in self._listeners:
            self._requests.put(None)
        gevent.joinall(self._listeners, timeout=deadline.remaining())
        running = [one for one in self._listeners if not one.dead]
        if running:
            log.warning("%d listener calls did not end in time; their messages will be delivered again", len(running))
            gevent.killall(running, block=False)
        self._gate.close()

    def clean_expired(self, queues: dict[MessageQueue, ProcessQueue]) -> None:
        """Send back what listeners have held too long, so that it does not hold back the offset; blocks for the calls."""
        for process_queue in list(queues.values()):
            for message in process_queue.expired(monotonic(), self._settings.consume_timeout):
                if self._send_back.send(message, FIRST_RETRY_LEVEL) and message in process_queue:
                    process_queue.remove([message])
                    self._stats.expired += 1

    # -- the listener greenlets ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            self._idle += 1
            try:
                request = self._requests.get()
            finally:
                self._idle -= 1
            if request is None or self._stopped:
                return
            self._work_on(request)

    def _work_on(self, request: ConsumeRequest) -> None:
        while not self._stopped and not request.process_queue.dropped:
            batch = request.take(self._settings.consume_batch_size)
            if not batch:
                return
            if self._idle and request.has_more:
                self._requests.put(request)
            self._gate.pass_through()
            self._consume(request, batch)

    def _consume(self, request: ConsumeRequest, batch: list[MessageExt]) -> None:
        if request.process_queue.dropped:
            return
        if is_retry_topic(request.queue.topic):
            for message in batch:
                message.topic = message.properties.get(Property.RETRY_TOPIC, message.topic)
        context = ConsumeContext(request.queue, delay_level_when_next_consume=self._settings.delay_level_when_next_consume)
        began = monotonic()
        request.process_queue.mark_started(batch, began)
        try:
            consumed = outcome_of(self._listener(list(batch), context), context, len(batch)).consumed
        except (Exception, gevent.Timeout):  # a Timeout that the listener set and let through is a failure of the listener
            self._log_failure(request, batch)
            consumed = 0
        self._stats.listener_calls += 1
        self._stats.listener_seconds += monotonic() - began
        self._finish(request, batch, consumed, context.delay_level_when_next_consume)

    def _log_failure(self, request: ConsumeRequest, batch: list[MessageExt]) -> None:
        """Once a second at most: a listener that always fails must not fill the disk."""
        self._unlogged += 1
        if monotonic() - self._logged_at >= _LOG_PAUSE:
            log.exception(
                "the listener failed with %d messages of %s (%d failures since the last such line); they are delivered again",
                len(batch),
                request.queue,
                self._unlogged,
            )
            self._logged_at, self._unlogged = monotonic(), 0

    def _finish(self, request: ConsumeRequest, batch: list[MessageExt], consumed: int, delay_level: int) -> None:
        """Send back what was not consumed, forget the rest, move the offset."""
        self._stats.consumed += consumed
        done = batch
        if consumed < len(batch):
            self._stats.failed += len(batch) - consumed
            kept = [message for message in batch[consumed:] if not self._give_back(request, message, delay_level)]
            if kept:
                self._consume_again(request, kept)
                done = [message for message in batch if message not in kept]
        offset = request.process_queue.remove(done)
        if offset != NO_OFFSET and not request.process_queue.dropped:
            self._store.update(request.queue, offset, increase_only=True)

    def _give_back(self, request: ConsumeRequest, message: MessageExt, delay_level: int) -> bool:
        """Whether this consumer is rid of the message: a broker took it, or it was sent back before for being overdue."""
        if message not in request.process_queue:
            return True
        if self._send_back.send(message, delay_level):
            self._stats.sent_back += 1
            return True
        message.reconsume_times += 1
        return False

    def _consume_again(self, request: ConsumeRequest, messages: list[MessageExt]) -> None:
        self._tasks.spawn_later(
            CONSUME_AGAIN_PAUSE,
            f"consume again {request.queue}",
            self.submit,
            request.queue,
            request.process_queue,
            messages,
        )
