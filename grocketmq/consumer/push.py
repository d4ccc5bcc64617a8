"""``PushConsumer``: gives messages to a listener as they come.

The way of a message: the rebalance takes a queue (``rebalance``) and puts a pull request into the pull service's queue;
the pull service (``pull_service``) pulls, keeps the messages in the queue's ``ProcessQueue`` and puts a consume request
into the consume service's queue; a listener greenlet (``concurrently``) runs the listener; what is done leaves the
``ProcessQueue``, which tells the offset to store (``offset_store``).

Source: Apache RocketMQ 5.3.3, module client, class ``DefaultMQPushConsumerImpl``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from time import time
from typing import Any

from grocketmq.client.base import BaseClient
from grocketmq.client.config import split_options
from grocketmq.consumer.concurrently import ConcurrentConsumeService
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.listener import Listener, adapt_listener
from grocketmq.consumer.offset_store import RemoteBrokerOffsetStore
from grocketmq.consumer.pull_service import PullService
from grocketmq.consumer.rebalance import Rebalance
from grocketmq.consumer.send_back import SendBack
from grocketmq.consumer.start_offset import start_offset
from grocketmq.consumer.stats import ConsumerStats
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import ConfigError, GRocketMQError
from grocketmq.model.namespace import retry_topic
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ALL, Sql
from grocketmq.model.validators import check_topic
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.lifecycle import ServiceState
from grocketmq.wire.bodies import ConsumerData, ConsumeType

__all__ = ["PushConsumer"]

log = logging.getLogger(__name__)


class PushConsumer(BaseClient):
    """Consumes messages with a listener, together with the other members of its group.

    Every message is given to some member's listener at least once: an exception in the listener has it delivered again
    later, and so may a crash, a rebalance or a slow listener.

    ::

        consumer = PushConsumer("billing", namesrv="127.0.0.1:9876")
        consumer.subscribe("orders", "created || changed")

        @consumer.listener
        def on_orders(msgs):
            for msg in msgs:
                print(msg.msg_id, msg.body)

        consumer.start()

    The listener runs in greenlets.  It may block; work that burns CPU for more than some 20 ms belongs into a thread pool or a
    process of its own.

    :param group: the consumer group's name; its members must subscribe to the same topics with the same expressions.
    :param options: fields of :class:`~grocketmq.consumer.config.PushConsumerConfig` and
        :class:`~grocketmq.client.config.ClientConfig`.
    :raises ConfigError: for a group, a name server or a setting that cannot work.
    """

    def __init__(self, group: str, **options: Any) -> None:
        common, mine = split_options(options)
        super().__init__(group, common)
        self.settings = PushConsumerConfig(**mine)
        self._tasks = self._new_tasks()
        self._subscriptions = Subscriptions()
        self._stats = ConsumerStats()
        self._store = self.settings.offset_store or RemoteBrokerOffsetStore()
        self._listener: Listener | None = None
        self._started_at = 0.0

    # -- what to consume -----------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str, expression: str | Sql = ALL) -> None:
        """Consume a topic; before ``start()`` or while running, where it blocks for a heartbeat to the brokers.

        :param topic: the topic's name.
        :param expression: ``"*"``, tags joined by ``||``, or a :class:`~grocketmq.model.subscription.Sql` filter.
        :raises ConfigError: for an expression without a tag.
        :raises MessageError: for a topic name that brokers refuse.
        """
        check_topic(topic)
        self._subscriptions.add(topic, expression)
        if self.state is ServiceState.RUNNING:
            self._check_running()
            self._find_routes([topic])
            self._instance.heartbeat_now()
            self._instance.rebalance_soon()

    def unsubscribe(self, topic: str) -> None:
        """Consume a topic no longer; its offsets are stored, and blocks for that while running.

        :param topic: the topic's name; one that is not subscribed to is ignored.
        """
        self._subscriptions.remove(topic)
        if self.state is ServiceState.RUNNING:
            self._check_running()
            self._instance.heartbeat_now()
            self.rebalance()

    def register_listener(self, listener: Listener) -> None:
        """Say what consumes the messages; before ``start()``.

        Returning None or ``ConsumeStatus.SUCCESS`` means that all were consumed.  ``ConsumeStatus.RECONSUME_LATER``, an
        exception, or anything else has them delivered again.  ``ConsumeResult(ConsumeStatus.SUCCESS, ack_index=i)`` or
        ``context.ack_index = i`` means that ``msgs[0..i]`` were consumed, and has the others delivered again.

        :param listener: ``listener(msgs)`` or ``listener(msgs, context)``: a list of ``MessageExt`` of one queue, and a
            :class:`~grocketmq.consumer.listener.ConsumeContext`.
        :raises ConfigError: when it cannot be called like that, or the consumer runs already.
        """
        if self.state is not ServiceState.CREATED:
            raise ConfigError(f"{self!r}: register the listener before start()")
        adapt_listener(listener)
        self._listener = listener

    def listener(self, function: Listener) -> Listener:
        """Decorator for :meth:`register_listener`."""
        self.register_listener(function)
        return function

    def suspend(self) -> None:
        """Pull nothing more until :meth:`resume`; never blocks.  What is cached is still consumed."""
        self._check_running()
        self._pulls.paused = True

    def resume(self) -> None:
        """Pull again, within a second; never blocks."""
        self._check_running()
        self._pulls.paused = False

    def stats(self) -> ConsumerStats:
        """Counts since the start; a copy.  Never blocks."""
        return replace(self._stats)

    # -- start and stop ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._subscriptions:
            raise ConfigError(f"{self!r} has no subscription; call subscribe() first")
        if self._listener is None:
            raise ConfigError(f"{self!r} has no listener; call register_listener() first")
        self._started_at = time()
        self._subscriptions.add(retry_topic(self.group), ALL)
        instance = self._join_instance()
        self._store.open(instance, self.group)
        self._compose(adapt_listener(self._listener))
        instance.register_consumer(self)
        self._find_routes(self._subscriptions.topics())
        instance.heartbeat_now()
        self.rebalance()

    def _compose(self, listener: Listener) -> None:
        instance, settings, tasks = self._instance, self.settings, self._tasks
        send_back = SendBack(self.group, instance, settings.reconsume_limit)
        self._consuming = ConcurrentConsumeService(listener, settings, self._store, send_back, tasks, self._stats)
        self._pulls = PullService(
            self.group,
            instance,
            settings,
            self._subscriptions,
            self._store,
            tasks,
            self._stats,
            self._consuming.submit,
            self._offset_illegal,
        )
        self._rebalance = Rebalance(
            self.group,
            instance,
            self._subscriptions,
            settings.allocate_strategy,
            self._store,
            lambda queue: start_offset(queue, self._store, settings, instance, self._started_at),
            self._pulls.put,
        )
        self._pulls.share_topic_bound(lambda: len(self._rebalance.process_queues))
        tasks.periodic("clean expired", settings.consume_timeout, self._clean_expired, settings.consume_timeout)

    def _shutdown(self, timeout: float) -> None:
        """Pulls stop first, so that nothing new comes; listeners end and move the offsets; these are stored while the
        group is still ours; then brokers are told, and the other members take the queues; connections close last."""
        if self._shared is None:
            return
        deadline = Deadline(timeout)
        if hasattr(self, "_rebalance"):
            self._pulls.stop()
            self._consuming.stop(Deadline(min(deadline.remaining(), self.settings.await_termination)))
            self.persist_offsets()
            self._rebalance.stop()
        self._tasks.kill()
        self._instance.unregister_consumer(self)
        self._leave_instance()

    def _find_routes(self, topics: Iterable[str]) -> None:
        """Fetch routes; one that is missing is looked for in the background until it is there."""
        for topic in topics:
            try:
                self._instance.refresh_route(topic)
            except GRocketMQError as error:
                level = logging.DEBUG if topic == retry_topic(self.group) else logging.WARNING
                log.log(level, "%r waits for topic %s: %s", self, topic, error)
        self._instance.refresh_routes_soon()

    # -- for the instance ----------------------------------------------------------------------------------------------------

    def topics(self) -> Iterable[str]:
        """The topics whose routes it needs."""
        return self._subscriptions.topics()

    def heartbeat_data(self) -> ConsumerData:
        """What brokers are told of it."""
        return ConsumerData(
            self.group,
            ConsumeType.PASSIVELY,
            self.settings.model,
            self.settings.consume_from,
            self._subscriptions.all(),
            unit_mode=self.config.unit_name is not None,
        )

    def rebalance(self) -> bool:
        """Take its share of the queues now; blocks for calls to brokers.  It also happens by itself.

        :returns: whether it has exactly its share.
        """
        return self._rebalance.run()

    def persist_offsets(self) -> None:
        """Store the offsets of its queues now; blocks for calls to brokers.  It also happens by itself."""
        self._store.persist(list(self._rebalance.process_queues))

    def queues(self) -> list[MessageQueue]:
        """The queues it has at present, sorted; never blocks."""
        self._check_running()
        return sorted(self._rebalance.process_queues)

    def _clean_expired(self) -> None:
        self._consuming.clean_expired(self._rebalance.process_queues)

    def _offset_illegal(self, queue: MessageQueue, offset: int) -> None:
        """The broker refused the offset, or an operator reset it: go on where the broker says, with nothing of before.

        The offset is frozen until the queue is let go, so that listeners still at work cannot move it back.
        """
        log.warning("offset of %s was refused by its broker; it goes on at %d", queue, offset)
        self._store.update_and_freeze(queue, offset)
        self._rebalance.give_back(queue)
        self._instance.rebalance_soon()
