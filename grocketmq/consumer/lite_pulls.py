"""Pulls the queues of a lite pull consumer: one greenlet a queue, one pull after the other.

Source: Apache RocketMQ 5.3.3, module client, class ``DefaultLitePullConsumerImpl`` (``PullTaskImpl``).
"""

from __future__ import annotations

import logging
from functools import partial
from time import monotonic

import gevent

from grocketmq.consumer.config import LitePullConsumerConfig
from grocketmq.consumer.lite_queues import AssignedQueue, AssignedQueues
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_request import PullRequest
from grocketmq.consumer.pull_service import AFTER_ERROR, pause_after
from grocketmq.consumer.puller import Puller, PullOptions
from grocketmq.errors import GRocketMQError
from grocketmq.model.results import PullResult, PullStatus
from grocketmq.model.route import MessageQueue

__all__ = ["LitePulls"]

log = logging.getLogger(__name__)

#: A paused or full queue is woken when it can go on; it looks by itself so often, and so does not seem forgotten.
_LOOK = 30.0


class LitePulls:
    """The pulling half of a lite pull consumer, and what its rebalance asks about the queues.

    :param member: the consumer.
    :param puller: makes the pulls.
    :param options: how.
    :param queues: what to pull, and where the messages go.
    """

    def __init__(
        self, member: Membership[LitePullConsumerConfig], puller: Puller, options: PullOptions, queues: AssignedQueues
    ) -> None:
        self._puller = puller
        self._options = options
        self._queues = queues
        self._subscriptions = member.subscriptions
        self._instance = member.instance
        self._tasks = member.tasks
        self._stats = member.stats

    def begin(self, request: PullRequest, pause: float = 0.0) -> None:
        """Pull a new queue from now on; never blocks.

        :param request: where to begin.
        :param pause: seconds before the first pull.
        """
        self._start(self._queues.add(request), pause)

    def move(self, assigned: AssignedQueue, offset: int) -> None:
        """Go on at another offset, with nothing of before; never blocks."""
        self._end(assigned)
        self._queues.move(assigned, offset)
        self._start(assigned, 0.0)

    # -- for the rebalance ---------------------------------------------------------------------------------------------------

    def acquire(self, queue: MessageQueue) -> bool:
        """Nothing to acquire."""
        return True

    def quiesce(self, queue: MessageQueue, process_queue: ProcessQueue) -> bool:
        """Whoever works on messages of a queue does not hold it: its next owner gets those not committed too."""
        return True

    def release(self, queue: MessageQueue) -> None:
        """See :class:`~grocketmq.consumer.service.QueueWork`; never blocks."""
        assigned = self._queues.remove(queue)
        if assigned is not None:
            self._end(assigned)
            self._puller.forget(queue)

    # -- the greenlet of one queue -------------------------------------------------------------------------------------------

    def _start(self, assigned: AssignedQueue, pause: float) -> None:
        run = partial(self._run, assigned, assigned.request, pause)
        assigned.pulling = self._tasks.loop(f"pull {assigned.queue}", run)

    def _end(self, assigned: AssignedQueue) -> None:
        """Wait no longer for an answer that a broker may hold for long."""
        if assigned.pulling is not None:
            assigned.pulling.kill(block=False)

    def _run(self, assigned: AssignedQueue, request: PullRequest, pause: float) -> None:
        gevent.sleep(pause)
        while self._valid(assigned, request):
            request.process_queue.last_pull = monotonic()
            assigned.wake.clear()
            if assigned.paused:
                assigned.wake.wait(_LOOK)
            elif not self._queues.has_room(assigned):
                self._stats.flow_controlled += 1
                assigned.wake.wait(_LOOK)
            else:
                gevent.sleep(self._pull(assigned, request))

    def _valid(self, assigned: AssignedQueue, request: PullRequest) -> bool:
        """Whether the queue is still this consumer's, and was not moved since."""
        return assigned.request is request and not request.process_queue.dropped

    def _pull(self, assigned: AssignedQueue, request: PullRequest) -> float:
        """Pull once; the seconds before the next time."""
        subscription = self._subscriptions.get(request.queue.topic)
        if subscription is None:
            return AFTER_ERROR  # unsubscribed: the rebalance is about to take the queue away
        began = monotonic()
        try:
            found = self._puller.pull(request.queue, subscription, request.next_offset, self._options, None)
        except GRocketMQError as error:
            return pause_after(error, request, self._instance) if self._valid(assigned, request) else 0.0
        request.failing = False
        if self._valid(assigned, request):
            self._take_over(assigned, request, found, monotonic() - began)
        return 0.0

    def _take_over(self, assigned: AssignedQueue, request: PullRequest, found: PullResult, seconds: float) -> None:
        offset = found.next_begin_offset
        if found.status is PullStatus.OFFSET_ILLEGAL:
            log.warning(
                "offset %d of %s was refused by its broker; it goes on at %d", request.next_offset, request.queue, offset
            )
            if offset < request.next_offset:  # what is cached comes again from there, if it still exists
                self._queues.move(assigned, offset)
                self._start(assigned, 0.0)
                return
        request.next_offset = offset
        if found.messages:
            counts = self._stats.topic(request.queue.topic)
            counts.pulls += 1
            counts.pull_seconds += seconds
            counts.pulled += len(found.messages)
            self._queues.put(assigned, found.messages, found.max_offset)
