"""Pulls messages: a gevent queue of pull requests, and one pull under way for each request.

A request goes round: the service's greenlet takes it from the queue, and either puts it off (paused, or too much is
cached) or lets a greenlet pull.  That one waits for the broker's answer, which may take a long poll, hands the messages
on and puts the request back.

Source: Apache RocketMQ 5.3.3, module client, classes ``PullMessageService``, ``DefaultMQPushConsumerImpl`` (``pullMessage``),
``PullAPIWrapper``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

import gevent
from gevent.queue import Queue

from grocketmq.client.api import PullAnswer
from grocketmq.client.instance import ClientInstance
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.offset_store import OffsetStore
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_request import PullRequest
from grocketmq.consumer.stats import ConsumerStats
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import (
    FlowControlError,
    GRocketMQError,
    SubscriptionNotExistError,
    SubscriptionNotLatestError,
)
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import Property
from grocketmq.model.results import PullStatus
from grocketmq.model.route import MASTER_ID, MessageQueue
from grocketmq.model.subscription import SubscriptionData
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.compression import decompress
from grocketmq.wire.flags import CompressionType, MessageSysFlag, pull_sys_flag
from grocketmq.wire.headers import PullMessageRequestHeader
from grocketmq.wire.message_codec import decode_messages

__all__ = ["PullService"]

log = logging.getLogger(__name__)

#: How long a broker may hold a pull that finds nothing, and how long to wait for its answer; it may be 5 s late.
HOLD_MS = 15_000
PULL_TIMEOUT = 30.0
PULL_MAX_BYTES = 256 * 1024
#: Seconds before a pull is tried again ...
AFTER_ERROR = 1.0
WHILE_CACHE_IS_FULL = 0.05
AFTER_FLOW_CONTROL = 0.02
WHILE_PAUSED = 1.0
#: Packed bodies from here on are unpacked in the hub's thread pool.
_UNPACK_IN_POOL_BYTES = 64 * 1024


class PullService:
    """The pulling half of a push consumer.

    :param group: its group.
    :param instance: its instance.
    :param settings: its settings.
    :param subscriptions: what it is subscribed to.
    :param store: its offsets.
    :param tasks: owns the greenlets.
    :param stats: counts.
    :param deliver: takes the messages of one answer.
    :param offset_illegal: told when a queue's offset was refused: the queue, and where to go on.  May block.
    """

    def __init__(
        self,
        group: str,
        instance: ClientInstance,
        settings: PushConsumerConfig,
        subscriptions: Subscriptions,
        store: OffsetStore,
        tasks: TaskGroup,
        stats: ConsumerStats,
        deliver: Callable[[MessageQueue, ProcessQueue, list[MessageExt]], None],
        offset_illegal: Callable[[MessageQueue, int], None],
    ) -> None:
        self.paused = False
        self._group = group
        self._instance = instance
        self._settings = settings
        self._subscriptions = subscriptions
        self._store = store
        self._tasks = tasks
        self._stats = stats
        self._deliver = deliver
        self._offset_illegal = offset_illegal
        self._requests: Queue[PullRequest] = Queue()
        self._stopped = False
        self._queue_count: Callable[[], int] = lambda: 1
        tasks.loop("pull service", self._run)

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

    def share_topic_bound(self, queue_count: Callable[[], int]) -> None:
        """Tell how many queues the bound of ``max_cached_messages_per_topic`` is shared among."""
        self._queue_count = queue_count

    def stop(self) -> None:
        """Start no pull any more; never blocks.  Answers under way are dropped with their queues."""
        self._stopped = True

    def _run(self) -> None:
        while True:
            request = self._requests.get()
            if self._stopped or request.process_queue.dropped:
                continue
            request.process_queue.last_pull = monotonic()
            subscription = self._subscriptions.get(request.queue.topic)
            if subscription is None:
                self.put(request, AFTER_ERROR)
                continue
            pause = self._pause(request.process_queue)
            if pause:
                self.put(request, pause)
            else:
                self._tasks.spawn(f"pull {request.queue}", self._pull, request, subscription)

    def _pause(self, held: ProcessQueue) -> float:
        """Seconds to wait before this queue may be pulled; 0 for none."""
        settings = self._settings
        if self.paused:
            return WHILE_PAUSED
        limit = settings.max_cached_messages_per_queue
        if settings.max_cached_messages_per_topic is not None:
            limit = max(1, settings.max_cached_messages_per_topic // max(1, self._queue_count()))
        if (
            held.count > limit
            or held.size_bytes > settings.max_cached_bytes_per_queue
            or held.span > settings.max_span_concurrently
        ):
            self._stats.flow_controlled += 1
            return WHILE_CACHE_IS_FULL
        return 0.0

    # -- one pull ------------------------------------------------------------------------------------------------------------

    def _pull(self, request: PullRequest, subscription: SubscriptionData) -> None:
        """Ask, take over the answer, and put the request back, whatever happens."""
        pause = AFTER_ERROR
        try:
            answer = self._ask(request, subscription)
            if not request.process_queue.dropped:
                pause = self._take_over(request, answer, subscription)
            request.failing = False
        except GRocketMQError as error:
            pause = self._after_error(request, error)
        except Exception:
            log.exception("pulling %s failed in this library; tried again in %g s", request.queue, pause)
        if not request.process_queue.dropped:
            self.put(request, pause)

    def _after_error(self, request: PullRequest, error: GRocketMQError) -> float:
        if isinstance(error, FlowControlError):
            return AFTER_FLOW_CONTROL
        if isinstance(error, (SubscriptionNotExistError, SubscriptionNotLatestError)):
            self._instance.heartbeat_soon()
        if error.refresh_route:
            self._instance.refresh_routes_soon()
        if not request.failing and not self._stopped:
            request.failing = True
            log.warning("pulling %s fails, tried every %g s: %s", request.queue, AFTER_ERROR, error)
        return AFTER_ERROR

    def _ask(self, request: PullRequest, subscription: SubscriptionData) -> PullAnswer:
        queue = request.queue
        address, broker_id = self._instance.routes.broker_for_pull(queue.broker_name, request.broker_id)
        reached = self._store.in_memory(queue) if broker_id == MASTER_ID else None
        settings = self._settings
        header = PullMessageRequestHeader(
            consumer_group=self._group,
            topic=queue.topic,
            queue_id=queue.queue_id,
            queue_offset=request.next_offset,
            max_msg_nums=settings.pull_batch_size,
            sys_flag=pull_sys_flag(
                commit_offset=bool(reached), suspend=True, subscription=settings.post_subscription_when_pull
            ),
            commit_offset=reached or 0,
            suspend_timeout_millis=HOLD_MS,
            subscription=subscription.sub_string if settings.post_subscription_when_pull else None,
            sub_version=subscription.sub_version,
            expression_type=subscription.expression_type,
            max_msg_bytes=PULL_MAX_BYTES,
            bname=queue.broker_name,
        )
        return self._instance.api.pull(address, header, PULL_TIMEOUT)

    def _take_over(self, request: PullRequest, answer: PullAnswer, subscription: SubscriptionData) -> float:
        """Hand the messages on and move the request; the seconds before the next pull."""
        request.broker_id = answer.suggested_broker_id
        if answer.status is PullStatus.OFFSET_ILLEGAL:
            request.process_queue.dropped = True
            self._offset_illegal(request.queue, answer.next_begin_offset)
            return 0.0
        if answer.status is not PullStatus.FOUND:
            request.next_offset = answer.next_begin_offset
            if not request.process_queue.count:
                self._store.update(request.queue, answer.next_begin_offset, increase_only=True)
            return 0.0
        messages = self._messages(request.queue, answer)
        request.next_offset = answer.next_begin_offset
        wanted = messages
        if subscription.tags:  # the broker compares hashes only
            wanted = [message for message in messages if subscription.matches(message.tags)]
        if not wanted or request.process_queue.dropped:
            return 0.0
        self._stats.pulled += len(wanted)
        request.process_queue.put(wanted, answer.max_offset)
        self._deliver(request.queue, request.process_queue, wanted)
        return self._settings.pull_interval

    def _messages(self, queue: MessageQueue, answer: PullAnswer) -> list[MessageExt]:
        overlay = {Property.MIN_OFFSET: str(answer.min_offset), Property.MAX_OFFSET: str(answer.max_offset)}
        messages = decode_messages(answer.body, broker_name=queue.broker_name, decompress=False, overlay=overlay)
        for message in messages:
            if message.sys_flag & MessageSysFlag.COMPRESSED:
                _unpack(message)
            message.queue_id = queue.queue_id
        if answer.offset_delta:
            for message in messages:
                message.queue_offset += answer.offset_delta
        return messages


def _unpack(message: MessageExt) -> None:
    """Decompress a body; a large one in the hub's thread pool."""
    kind = CompressionType.of(message.sys_flag)
    if len(message.body) < _UNPACK_IN_POOL_BYTES:
        message.body = decompress(kind, message.body)
    else:
        message.body = gevent.get_hub().threadpool.apply(decompress, (kind, message.body))
    message.sys_flag &= ~MessageSysFlag.COMPRESSED
