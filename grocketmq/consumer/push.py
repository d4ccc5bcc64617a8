"""``PushConsumer``: gives messages to a listener as they come.

It holds what a user has said, and answers what its instance and operators ask.  How messages get from the brokers to the
listener is told in ``pull_consumption`` and ``pop_consumption``, one of which it has.

Source: Apache RocketMQ 5.3.3, module client, class ``DefaultMQPushConsumerImpl``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic, time
from typing import Any

from grocketmq.client.config import split_options
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.consumption import Consumption
from grocketmq.consumer.hooked_listener import hooked_listener
from grocketmq.consumer.introspection import client_properties, consume_directly, topic_statuses
from grocketmq.consumer.listener import Listener, adapt_listener, listener_code
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.pop_consumption import PopConsumption
from grocketmq.consumer.pull_consumption import PullConsumption
from grocketmq.consumer.stats import SAMPLE_INTERVAL, ConsumerStats, StatsRecorder
from grocketmq.consumer.subscription_check import CHECK_INTERVAL, SubscriptionCheck
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import ClientStateError, ConfigError
from grocketmq.model.message import MessageExt
from grocketmq.model.namespace import retry_topic
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ALL, MessageModel, Sql
from grocketmq.model.validators import check_topic
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.holding import HoldWatch
from grocketmq.runtime.lifecycle import ServiceState
from grocketmq.trace import TracedClient
from grocketmq.wire.bodies import ConsumeMessageDirectlyResult, ConsumerData, ConsumerRunningInfo, ConsumeType

__all__ = ["PushConsumer"]

log = logging.getLogger(__name__)


class PushConsumer(TracedClient):
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

    _WORKS_UNASKED = True

    def __init__(self, group: str, **options: Any) -> None:
        common, self.settings = split_options(type(self).__name__, options, PushConsumerConfig)
        super().__init__(group, common)
        self._subscriptions = Subscriptions()
        self._broadcasting = self.settings.model is MessageModel.BROADCASTING
        self._listener: Listener | None = None
        self._orderly = False
        self._started_at = 0.0

    def _renew(self) -> None:
        super()._renew()
        self._tasks = self._new_tasks()
        self._stats = StatsRecorder()
        self._consumption: Consumption | None = None
        self._hold_watch: HoldWatch | None = None

    # -- what to consume -----------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str, expression: str | Sql = ALL) -> None:
        """Consume a topic; before ``start()`` or while running, where it blocks for a heartbeat to the brokers.

        :param topic: the topic's name.
        :param expression: ``"*"``, tags joined by ``||``, or a :class:`~grocketmq.model.subscription.Sql` filter.
        :raises ConfigError: for an expression without a tag, for a topic name that brokers refuse, and, while running, for
            a filter that the broker refuses; the subscription is then as it was.
        """
        self._check_not_stopped()
        check_topic(topic)
        before = self._subscriptions.get(topic)
        self._subscriptions.add(topic, expression)
        if self.state is ServiceState.RUNNING:
            self._check_running()
            self._instance.find_routes([topic])
            try:
                self._check.compile()
            except ConfigError:
                self._subscriptions.restore(topic, before)
                raise
            self._instance.heartbeat_now()
            self._instance.rebalance_soon()

    def unsubscribe(self, topic: str) -> None:
        """Consume a topic no longer; its offsets are stored, and blocks for that while running.

        :param topic: the topic's name; one that is not subscribed to is ignored.
        """
        self._check_not_stopped()
        self._subscriptions.remove(topic)
        if self.state is ServiceState.RUNNING:
            self._check_running()
            self._instance.heartbeat_now()
            self.rebalance()

    def register_listener(self, listener: Listener, *, orderly: bool = False) -> None:
        """Say what consumes the messages; before ``start()``.

        Concurrent: returning None or ``ConsumeStatus.SUCCESS`` means that all were
        consumed.  ``ConsumeStatus.RECONSUME_LATER``, an exception, or anything else has them delivered
        again.  ``ConsumeResult(ConsumeStatus.SUCCESS, ack_index=i)`` or ``context.ack_index = i`` means that
        ``msgs[0..i]`` were consumed, and has the others delivered again.

        Orderly: each queue's messages come one batch at a time, in their order.  None or ``ConsumeOrderlyStatus.SUCCESS`` means
        that the batch was consumed; ``SUSPEND_CURRENT_QUEUE_A_MOMENT``, an exception or anything else has the queue wait and
        the same batch given again.

        :param listener: ``listener(msgs)`` or ``listener(msgs, context)``: a list of ``MessageExt`` of one queue, and a
            :class:`~grocketmq.consumer.listener.ConsumeContext` or
            :class:`~grocketmq.consumer.listener.OrderlyContext`.
        :param orderly: whether it consumes in order.
        :raises ConfigError: when it cannot be called like that, or the consumer runs already.
        """
        if self.state is not ServiceState.CREATED:
            raise ConfigError(f"{self!r}: register the listener before start()")
        if orderly and self.settings.pop:
            raise ConfigError(f"{self!r} pops, which keeps no order; an orderly listener needs pop=False")
        adapt_listener(listener)
        self._listener = listener
        self._orderly = orderly

    def listener(self, function: Listener) -> Listener:
        """Decorator for :meth:`register_listener`."""
        self.register_listener(function)
        return function

    def orderly_listener(self, function: Listener) -> Listener:
        """Decorator for :meth:`register_listener` with ``orderly=True``."""
        self.register_listener(function, orderly=True)
        return function

    def suspend(self) -> None:
        """Pull nothing more until :meth:`resume`; never blocks.  What is cached is still consumed."""
        self._check_running()
        self._parts.fetching.paused = True

    def resume(self) -> None:
        """Pull again, within a second; never blocks."""
        self._check_running()
        self._parts.fetching.paused = False

    def stats(self) -> ConsumerStats:
        """What it has done, at what rates, and what it has left to do; lets other greenlets run when it has many queues."""
        return self._stats.snapshot(monotonic(), self._consumption.held() if self._consumption is not None else {})

    def _debug(self) -> dict[str, Any]:
        held = {} if self._consumption is None else self._consumption.held()
        return {**super()._debug(), "queues": {str(queue): repr(one) for queue, one in held.items()}}

    # -- start and stop ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._subscriptions:
            raise ConfigError(f"{self!r} has no subscription; call subscribe() first")
        if self._listener is None:
            raise ConfigError(f"{self!r} has no listener; call register_listener() first")
        self._started_at = time()
        if not self._broadcasting:
            self._subscriptions.add(retry_topic(self.group), ALL)
        instance = self._join_instance()
        self._start_hooks(instance)
        listener = hooked_listener(adapt_listener(self._listener), self.group, self._hooks, orderly=self._orderly)
        self._consumption = self._compose(listener)
        if self.settings.hub_hold_limit is not None:
            self._hold_watch = HoldWatch(self.settings.hub_hold_limit, listener_code(self._listener), self._report_hold)
        instance.register_consumer(self)
        instance.find_routes(self._subscriptions.topics())
        self._check.compile()
        instance.heartbeat_now()
        self._consumption.prepare()
        if not self.rebalance():
            instance.rebalance_soon()

    def _compose(self, listener: Callable[[list[MessageExt], Any], object]) -> Consumption:
        member = Membership(
            self.group, self._instance, self.settings, self._subscriptions, self._tasks, self._stats, self._hooks
        )
        self._check = SubscriptionCheck(self.group, self._instance, self._subscriptions)
        self._tasks.periodic("check subscriptions", CHECK_INTERVAL, self._check.agreement, CHECK_INTERVAL)
        self._tasks.periodic("sample stats", SAMPLE_INTERVAL, lambda: self._stats.sample(monotonic()))
        if self.settings.pop:
            return PopConsumption(member, listener)
        return PullConsumption(member, listener, orderly=self._orderly, started=self._started_at)

    def _report_hold(self, seconds: float, stack: str) -> None:
        log.warning(
            "listener %r of %r held the event loop for %.3f s; heartbeats and answers had to wait.  Give such work to "
            "gevent.get_hub().threadpool or to a process of its own.  It was caught here:\n%s",
            getattr(self._listener, "__qualname__", self._listener),
            self,
            seconds,
            stack,
        )

    @property
    def _parts(self) -> Consumption:
        """For what the own start and shutdown, and the instance's tasks, call too."""
        self._check_started()
        if self._consumption is None:
            raise ClientStateError(f"{self!r} must be started first")
        return self._consumption

    def _shutdown(self, timeout: float) -> None:
        """What is under way ends first, while the group is still ours; then brokers are told, and the other members take the
        queues; connections close last.  One that is broken off keeps everything, so that the next can finish the work."""
        if not self._joined:
            return
        try:
            self._finish_work(Deadline(timeout))
        except Exception:
            self._take_leave()
            raise
        self._take_leave()

    def _abort_start(self) -> None:
        """As a shutdown, which is not called again: nothing may be left, however it ends."""
        if self._joined:
            try:
                self._finish_work(Deadline(0.0))
            finally:
                self._take_leave()

    def _finish_work(self, deadline: Deadline) -> None:
        if self._consumption is not None:
            self._consumption.stop(deadline)
        self._stop_trace(deadline)

    def _take_leave(self) -> None:
        if self._hold_watch is not None:
            self._hold_watch.close()
        self._tasks.kill()
        self._instance.unregister_consumer(self)
        self._leave_instance()

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
        return self._parts.rebalance()

    def persist_offsets(self) -> None:
        """Store the offsets of its queues now; blocks for calls to brokers.  It also happens by itself."""
        self._parts.persist_offsets()

    def queues(self) -> list[MessageQueue]:
        """The queues it has at present, sorted; never blocks."""
        self._check_running()
        return sorted(queue for queue, held in self._parts.held().items() if not held.dropped)

    def offsets(self, topic: str) -> dict[MessageQueue, int]:
        """The offsets reached in a topic's queues that it has at present; lets other greenlets run when there are many.

        :param topic: the topic's name.
        """
        return self._parts.offsets(topic)

    def reset_offsets(self, offsets: Mapping[MessageQueue, int]) -> None:
        """Go on at these offsets; queues it does not have are passed over.  Blocks for calls to brokers.

        :param offsets: where to go on in which queue.
        """
        parts = self._parts
        for queue, offset in offsets.items():
            parts.reset_offset(queue, offset)

    def running_info(self) -> ConsumerRunningInfo:
        """Its state as operators see it: settings, subscriptions, queues, rates.  Lets other greenlets run when it has many
        queues."""
        parts = self._parts
        properties = client_properties(self.config, self.settings, ConsumeType.PASSIVELY, self._started_at)
        properties.update(
            PROP_CONSUMEORDERLY="true" if self._orderly else "false",
            PROP_THREADPOOL_CORE_SIZE=str(self.settings.listener_concurrency),
        )
        status = topic_statuses(self._subscriptions.topics(), self._stats)
        return ConsumerRunningInfo(properties, self._subscriptions.all(), parts.pull_infos(), parts.pop_infos(), status)

    def consume_directly(self, message: MessageExt) -> ConsumeMessageDirectlyResult:
        """Give one message to the listener, outside of everything; blocks as long as the listener does.

        :param message: the message.
        """
        self._check_started()
        assert self._listener is not None
        return consume_directly(adapt_listener(self._listener), message, orderly=self._orderly)
