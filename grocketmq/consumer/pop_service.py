"""Pops messages: a loop for each queue, which asks its broker again and again.

Source: Apache RocketMQ 5.3.3, module client, class ``DefaultMQPushConsumerImpl`` (``popMessage``, ``processPopResult``).
"""

from __future__ import annotations

import logging
from time import monotonic

import gevent

from grocketmq.client.pop_api import PopStatus
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.flow_control import LONGEST_PAUSE
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.pop_acks import AckService
from grocketmq.consumer.pop_consume import PopConsumeService
from grocketmq.consumer.pop_queue import PopQueue
from grocketmq.consumer.popper import Popped, Popper
from grocketmq.consumer.pull_service import AFTER_ERROR, AFTER_FLOW_CONTROL, WHILE_PAUSED
from grocketmq.consumer.puller import PUSH_HOLD
from grocketmq.errors import FlowControlError, GRocketMQError, GroupNotExistError
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import SubscriptionData

__all__ = ["MAX_UNACKED", "PopService"]

log = logging.getLogger(__name__)

#: Messages of one queue that may be popped and not done; above, popping waits.
MAX_UNACKED = 96


class PopService:
    """The fetching half of a push consumer that pops.

    :param member: the consumer.
    :param popper: makes the pops.
    :param consuming: takes the messages.
    :param ack_service: acknowledges those that only looked wanted.
    """

    def __init__(
        self, member: Membership[PushConsumerConfig], popper: Popper, consuming: PopConsumeService, ack_service: AckService
    ) -> None:
        self.paused = False
        self._popper = popper
        self._settings = member.settings
        self._subscriptions = member.subscriptions
        self._consuming = consuming
        self._ack_service = ack_service
        self._instance = member.instance
        self._tasks = member.tasks
        self._stats = member.stats
        self._stopped = False
        self._failing: set[MessageQueue] = set()

    def begin(self, queue: MessageQueue, popped: PopQueue) -> None:
        """Pop a queue until it is dropped; never blocks."""
        self._tasks.loop(f"pop {queue}", lambda: self._run(queue, popped))

    def stop(self) -> None:
        """Start no pop any more; never blocks.  What pops under way still find comes again after its invisible time."""
        self._stopped = True

    def _run(self, queue: MessageQueue, popped: PopQueue) -> None:
        while not (popped.dropped or self._stopped):
            popped.last_pop = monotonic()
            subscription = self._subscriptions.get(queue.topic)
            if subscription is None:
                return
            pause = self._pause(popped) or self._pop(queue, popped, subscription)
            if pause > 0:
                gevent.sleep(pause)

    def _pause(self, popped: PopQueue) -> float:
        """Seconds to wait before a queue may be popped; 0 for none."""
        if self.paused:
            return WHILE_PAUSED
        if popped.count > MAX_UNACKED:
            self._stats.flow_controlled += 1
            return LONGEST_PAUSE
        return 0.0

    def _pop(self, queue: MessageQueue, popped: PopQueue, subscription: SubscriptionData) -> float:
        """Ask, and take over the answer; the seconds before the next pop."""
        settings = self._settings
        began = monotonic()
        try:
            found = self._popper.pop(queue, subscription, settings.pop_batch_size, settings.pop_invisible_time, PUSH_HOLD)
        except GRocketMQError as error:
            return self._after_error(queue, error)
        self._failing.discard(queue)
        if found.status is PopStatus.POLLING_FULL:
            return AFTER_ERROR
        if found.status is PopStatus.NOT_FOUND or self._stopped:
            return 0.0
        self._take_over(queue, popped, found, monotonic() - began)
        return settings.pull_interval

    def _after_error(self, queue: MessageQueue, error: GRocketMQError) -> float:
        if isinstance(error, FlowControlError):
            return AFTER_FLOW_CONTROL
        if isinstance(error, GroupNotExistError):
            self._instance.heartbeat_soon()
        if error.refresh_route:
            self._instance.refresh_routes_soon()
        if queue not in self._failing and not self._stopped:
            self._failing.add(queue)
            log.warning("popping %s fails, tried every %g s: %s", queue, AFTER_ERROR, error)
        return AFTER_ERROR

    def _take_over(self, queue: MessageQueue, popped: PopQueue, found: Popped, seconds: float) -> None:
        """Hand the messages on; a queue that was dropped meanwhile does not matter, as nobody else has them."""
        popped.accumulated = found.rest
        popped.hold(found.wanted)
        popped.hold(found.unwanted)
        popped.hold(found.broken)
        counts = self._stats.topic(queue.topic)
        counts.pulls += 1
        counts.pull_seconds += seconds
        counts.pulled += len(found.wanted)
        self._ack_service.put(queue.topic, popped, found.unwanted)
        if found.wanted:
            self._consuming.submit(queue, popped, found.wanted)
        if found.broken:
            self._consuming.failed(queue, popped, found.broken)
