"""Pulls messages: a gevent queue of pull requests, and one pull under way for each request.

A request goes round: the service's greenlet takes it from the queue, and either puts it off (paused, or too much is
cached) or lets a greenlet pull.  That one waits for the broker's answer, which may take a long poll, hands the messages
on and puts the request back.

Source: Apache RocketMQ 5.3.3, module client, classes ``PullMessageService``, ``DefaultMQPushConsumerImpl`` (``pullMessage``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from gevent.queue import Queue

from grocketmq.client.instance import ClientInstance
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.flow_control import FlowControl
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.offset_store import OffsetStore
from grocketmq.consumer.pull_request import PullRequest
from grocketmq.consumer.puller import Puller, PullOptions
from grocketmq.consumer.service import ConsumeService
from grocketmq.errors import (
    ConfigError,
    FlowControlError,
    GRocketMQError,
    SubscriptionNotExistError,
    SubscriptionNotLatestError,
)
from grocketmq.model.results import PullResult, PullStatus
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import SubscriptionData

__all__ = ["PullService", "pause_after"]

log = logging.getLogger(__name__)

#: Seconds before a pull is tried again ...
AFTER_ERROR = 1.0
AFTER_FLOW_CONTROL = 0.02
WHILE_PAUSED = 1.0


class PullService:
    """The pulling half of a push consumer.

    :param member: the consumer.
    :param puller: makes the pulls.
    :param options: how.
    :param flow_control: says when too much is cached.
    :param store: the consumer's offsets.
    :param consuming: takes the messages.
    :param offset_illegal: told when a queue's offset was refused: the queue, and where to go on.  May block.
    """

    def __init__(
        self,
        member: Membership[PushConsumerConfig],
        puller: Puller,
        options: PullOptions,
        flow_control: FlowControl,
        store: OffsetStore,
        consuming: ConsumeService,
        offset_illegal: Callable[[MessageQueue, int], None],
    ) -> None:
        self.paused = False
        self._puller = puller
        self._options = options
        self._pull_interval = member.settings.pull_interval
        self._flow_control = flow_control
        self._subscriptions = member.subscriptions
        self._store = store
        self._consuming = consuming
        self._instance = member.instance
        self._tasks = member.tasks
        self._stats = member.stats
        self._offset_illegal = offset_illegal
        self._requests: Queue[PullRequest] = Queue()
        self._stopped = False
        self._tasks.loop("pull service", self._run)

    def put(self, request: PullRequest, pause: float = 0.0) -> None:
        """Have a queue pulled; never blocks.

        :param request: where to begin.
        :param pause: seconds before it is due.
        """
        if self._stopped:
            return
        if pause > 0:
            self._tasks.spawn_later(pause, f"pull later {request.queue}", self._requests.put, request)
        else:
            self._requests.put(request)

    def stop(self) -> None:
        """Start no pull any more; never blocks.  Answers under way are dropped with their queues."""
        self._stopped = True

    def _run(self) -> None:
        while True:
            request = self._requests.get()
            if not self._stopped and not request.process_queue.dropped:
                pause = self._pause(request)
                if pause:
                    self.put(request, pause)
                else:
                    self._tasks.spawn(f"pull {request.queue}", self._pull, request)

    def _pause(self, request: PullRequest) -> float:
        """Seconds to wait before this queue may be pulled; 0 for none."""
        request.process_queue.last_pull = monotonic()
        if self.paused:
            return WHILE_PAUSED
        if self._flow_control.holds_back(request.process_queue):
            self._stats.flow_controlled += 1
            return self._flow_control.pause
        if self._subscriptions.get(request.queue.topic) is None:
            return AFTER_ERROR
        return self._consuming.pull_pause(request.process_queue)

    # -- the pulls of one queue ----------------------------------------------------------------------------------------------

    def _pull(self, request: PullRequest) -> None:
        """Pull, one time after the other, until something says to wait; then put the request back."""
        pause = 0.0
        while not pause:
            subscription = self._subscriptions.get(request.queue.topic)
            if subscription is None:
                pause = AFTER_ERROR
                break
            pause = self._pull_once(request, subscription)
            if self._stopped or request.process_queue.dropped:
                return
            pause = pause or self._pause(request)
        self.put(request, pause)

    def _pull_once(self, request: PullRequest, subscription: SubscriptionData) -> float:
        """Ask and take over the answer; the seconds to wait then."""
        try:
            reached = self._store.in_memory(request.queue) if self._options.store_offset else None
            began = monotonic()
            found = self._puller.pull(request.queue, subscription, request.next_offset, self._options, reached)
            request.failing = False
            if request.process_queue.dropped:
                return 0.0
            return self._take_over(request, found, monotonic() - began)
        except GRocketMQError as error:
            return self._after_error(request, error)
        except Exception:
            log.exception("pulling %s failed in this library; tried again in %g s", request.queue, AFTER_ERROR)
            return AFTER_ERROR

    def _after_error(self, request: PullRequest, error: GRocketMQError) -> float:
        return AFTER_ERROR if self._stopped else pause_after(error, request, self._instance)

    def _take_over(self, request: PullRequest, found: PullResult, seconds: float) -> float:
        """Hand the messages on and move the request; the seconds before the next pull."""
        if found.status is PullStatus.OFFSET_ILLEGAL:
            request.process_queue.dropped = True
            self._offset_illegal(request.queue, found.next_begin_offset)
            return 0.0
        request.next_offset = found.next_begin_offset
        if found.status is not PullStatus.FOUND:
            if not request.process_queue.count:
                self._store.update(request.queue, found.next_begin_offset, increase_only=True)
            return 0.0
        if not found.messages:
            return 0.0
        counts = self._stats.topic(request.queue.topic)
        counts.pulls += 1
        counts.pull_seconds += seconds
        counts.pulled += len(found.messages)
        self._consuming.submit(request.queue, request.process_queue, found.messages, found.max_offset)
        return self._pull_interval


def pause_after(error: GRocketMQError, request: PullRequest, instance: ClientInstance) -> float:
    """What a failed pull calls for: a heartbeat, new routes, a line in the log; never blocks.

    :param error: why it failed.
    :param request: what was pulled.
    :param instance: the consumer's instance.
    :returns: the seconds before the next try.
    """
    if isinstance(error, FlowControlError):
        return AFTER_FLOW_CONTROL
    if isinstance(error, (SubscriptionNotExistError, SubscriptionNotLatestError)):
        instance.heartbeat_soon()
    if error.refresh_route:
        instance.refresh_routes_soon()
    if not request.failing or isinstance(error, ConfigError):  # the latter ends only when somebody reads of it
        request.failing = True
        log.warning("pulling %s fails, tried every %g s: %s", request.queue, AFTER_ERROR, error)
    return AFTER_ERROR
