"""Runs the listener of a consumer that pops: a gevent queue of consume requests, and a fixed pool of listener greenlets.

What becomes of a message:

=================================================  ====================================================================
consumed                                           acknowledged
not consumed                                       its invisible time is changed, to a delay that grows with each try
not consumed, and tried ``max_reconsume_times``    it goes to the group's dead-letter topic, and is acknowledged
popped longer ago than its invisible time          nothing: another consumer has it now, or will have it
=================================================  ====================================================================

The third rule is that of RocketMQ's own proxy.  Java's push consumer acknowledges such a message, so that it is gone.

Source: Apache RocketMQ 5.3.3, module client, class ``ConsumeMessagePopConcurrentlyService``; module proxy, class
``ConsumerProcessor``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

import gevent

from grocketmq.consumer.concurrently import CONSUME_AGAIN_PAUSE, ConsumeRequest
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.listener import ConsumeContext, consumed_of
from grocketmq.consumer.listener_pool import ListenerPool
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.pop_acks import AckService, PopAcks
from grocketmq.consumer.pop_queue import PopQueue
from grocketmq.consumer.send_back import SendBack
from grocketmq.errors import GRocketMQError
from grocketmq.model.message import MessageExt
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.properties import Property
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline

__all__ = ["PopConsumeService", "retry_delay"]

log = logging.getLogger(__name__)

#: Seconds until a message's next try, by how often it was tried before.
RETRY_DELAYS = (10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200)
#: The delay level that means the dead letters.
_DEAD_LETTER_LEVEL = -1


def retry_delay(level: int, reconsume_times: int) -> int:
    """Seconds until a message's next try; never blocks.

    :param level: a place in ``RETRY_DELAYS``, 0 for one that grows with each try.
    :param reconsume_times: how often it was tried again before.
    """
    return RETRY_DELAYS[min(level or reconsume_times, len(RETRY_DELAYS) - 1)]


class PopConsumeService:
    """The consuming half of a push consumer that pops.

    :param member: the consumer.
    :param listener: ``(messages, context) -> answer``.
    :param acks: puts messages off.
    :param ack_service: acknowledges them.
    :param send_back: gives them to the dead letters.
    """

    def __init__(
        self,
        member: Membership[PushConsumerConfig],
        listener: Callable[[list[MessageExt], ConsumeContext], object],
        acks: PopAcks,
        ack_service: AckService,
        send_back: SendBack,
    ) -> None:
        self._listener = listener
        self._settings = settings = member.settings
        self._acks = acks
        self._ack_service = ack_service
        self._send_back = send_back
        self._stats = member.stats
        self._pool: ListenerPool[ConsumeRequest[PopQueue]] = ListenerPool(
            member.tasks, settings.listener_concurrency, self._work, settings.max_messages_per_second
        )

    def submit(self, queue: MessageQueue, popped: PopQueue, messages: list[MessageExt]) -> None:
        """Take over what a pop found; never blocks.

        :param queue: what was popped.
        :param popped: holds the messages.
        :param messages: at least one.
        """
        self._pool.put(ConsumeRequest(queue, popped, messages))

    def failed(self, queue: MessageQueue, popped: PopQueue, messages: list[MessageExt], level: int = 0) -> None:
        """Messages were not consumed: put them off, or give them to the dead letters; blocks for the calls.

        :param queue: what was popped.
        :param popped: holds the messages.
        :param messages: those that failed.
        :param level: see :func:`retry_delay`; -1 for the dead letters.
        """
        for message in messages:
            too_often = message.reconsume_times >= self._settings.reconsume_limit
            if too_often or level == _DEAD_LETTER_LEVEL:
                self._bury(queue, popped, message)
            else:
                self._put_off(queue, popped, message, retry_delay(level, message.reconsume_times))

    def stop(self, deadline: Deadline) -> None:
        """Hand out nothing more, wait for listeners and acknowledgements; blocks at most until the deadline."""
        self._pool.stop(deadline)
        self._ack_service.drain(deadline)

    # -- the listener greenlets ----------------------------------------------------------------------------------------------

    def _work(self, request: ConsumeRequest[PopQueue]) -> None:
        for batch in request.batches(self._pool, self._settings.consume_batch_size):
            fresh = self._sort_out(request, batch)
            if fresh:
                self._consume(request, fresh)

    def _sort_out(self, request: ConsumeRequest[PopQueue], batch: list[MessageExt]) -> list[MessageExt]:
        """Those of a batch that the listener is to have.

        A message that was tried too often comes only when it took its consumer down each time: nobody put it off.
        """
        batch = self._without_expired(request, batch, "has waited for the listener")
        fresh = [message for message in batch if message.reconsume_times <= self._settings.reconsume_limit]
        for message in batch:
            if message.reconsume_times > self._settings.reconsume_limit:
                self._bury(request.queue, request.process_queue, message)
        return fresh

    def _consume(self, request: ConsumeRequest[PopQueue], batch: list[MessageExt]) -> None:
        if is_retry_topic(request.queue.topic):
            for message in batch:
                message.topic = message.properties.get(Property.RETRY_TOPIC, message.topic)
        context = ConsumeContext(request.queue, delay_level_when_next_consume=self._settings.delay_level_when_next_consume)
        began = monotonic()
        try:
            consumed = consumed_of(self._listener(list(batch), context), context, len(batch))
        except (Exception, gevent.Timeout):  # a Timeout that the listener set and let through is a failure of the listener
            self._pool.log_failure(len(batch), request.queue)
            consumed = 0
        except BaseException:  # this greenlet ends; its messages are given to another one
            self._pool.put(request.of(batch), CONSUME_AGAIN_PAUSE)
            raise
        counts = self._stats.topic(request.queue.topic)
        counts.listener_calls += 1
        counts.listener_seconds += monotonic() - began
        counts.consumed += consumed
        counts.failed += len(batch) - consumed
        done = self._without_expired(request, batch[:consumed], "was with the listener")
        self._ack_service.put(request.queue.topic, request.process_queue, done)
        failed = self._without_expired(request, batch[consumed:], "was with the listener")
        self.failed(request.queue, request.process_queue, failed, context.delay_level_when_next_consume)

    def _without_expired(self, request: ConsumeRequest[PopQueue], messages: list[MessageExt], why: str) -> list[MessageExt]:
        expired = [message for message in messages if self._acks.expired(message)]
        if expired:
            log.warning(
                "%s of %s %s for longer than its invisible time of %g s and will be delivered again (%d such messages)",
                expired[0],
                request.queue,
                why,
                self._settings.pop_invisible_time,
                len(expired),
            )
            self._stats.topic(request.queue.topic).expired += len(expired)
            request.process_queue.release(expired)
        return [message for message in messages if message not in expired]

    def _bury(self, queue: MessageQueue, popped: PopQueue, message: MessageExt) -> None:
        log.warning("%s was tried %d times; it goes to the dead letters", message, message.reconsume_times + 1)
        if self._send_back.try_send(message, _DEAD_LETTER_LEVEL):
            self._stats.topic(queue.topic).sent_back += 1
            self._ack_service.put(queue.topic, popped, [message])
        else:
            self._put_off(queue, popped, message, retry_delay(0, message.reconsume_times))

    def _put_off(self, queue: MessageQueue, popped: PopQueue, message: MessageExt, seconds: float) -> None:
        try:
            self._acks.change_invisible(queue.topic, message, seconds)
        except GRocketMQError as error:
            log.warning("%s could not be put off and comes again when its invisible time is over: %s", message, error)
        finally:
            popped.release([message])
