"""``SimpleConsumer``: takes single messages when it is asked to, and acknowledges each.

Source: Apache RocketMQ 5.3.3, module broker, classes ``PopMessageProcessor``, ``AckMessageProcessor``,
``ChangeInvisibleTimeProcessor``; module proxy, class ``ProxyConfig`` (the upper bound of an invisible time).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import count
from time import time
from typing import Any

import gevent

from grocketmq.client.config import check_number, split_options
from grocketmq.client.pop_api import PopAPI, PopStatus
from grocketmq.consumer.config import SimpleConsumerConfig
from grocketmq.consumer.introspection import client_properties, no_listener
from grocketmq.consumer.pop_acks import PopAcks
from grocketmq.consumer.pop_queue import BrokerClocks
from grocketmq.consumer.pop_rebalance import ANY_QUEUE, broker_too_old
from grocketmq.consumer.popper import MAX_POP_MESSAGES, Popper
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import (
    ConfigError,
    GRocketMQError,
    MessageError,
    RemoteProtocolError,
    RouteNotFoundError,
    UnsupportedRequestError,
)
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ALL, MessageModel, Sql
from grocketmq.model.validators import check_topic
from grocketmq.runtime.deadline import Deadline
from grocketmq.trace import TracedClient
from grocketmq.wire.bodies import ConsumeMessageDirectlyResult, ConsumerData, ConsumerRunningInfo, ConsumeType

__all__ = ["SimpleConsumer"]

log = logging.getLogger(__name__)

#: Seconds to wait at one broker before the next one is looked at, where there are several.
_TURN = 1.0
#: Seconds that are too few to wait, and seconds to wait instead of a broker that holds no more requests.
_NO_TIME, _WHILE_POLLING_IS_FULL = 0.005, 1.0
#: Bounds of an invisible time, seconds; the lower is that of Java's push consumer, the upper that of the proxy.
_LEAST_INVISIBLE, _MOST_INVISIBLE = 5.0, 12 * 3600.0


class SimpleConsumer(TracedClient):
    """Receives messages on demand, shared with the other members of its group message by message.

    A message that was received stays invisible to everybody else for a time.  Acknowledged within it, it does not come again;
    otherwise it does, to any member.  So every message is received at least once.

    ::

        with SimpleConsumer("billing", namesrv="127.0.0.1:9876") as consumer:
            consumer.subscribe("orders")
            for msg in consumer.receive():
                print(msg.msg_id, msg.body)
                consumer.ack(msg)

    Brokers must be of release 5.0 or later.  There is no bound on how often a message comes again: look at
    ``msg.reconsume_times``, and acknowledge what is hopeless.

    :param group: the consumer group's name; its members must subscribe to the same topics with the same expressions.
    :param options: fields of :class:`~grocketmq.consumer.config.SimpleConsumerConfig` and
        :class:`~grocketmq.client.config.ClientConfig`.
    :raises ConfigError: for a group, a name server or a setting that cannot work.
    """

    def __init__(self, group: str, **options: Any) -> None:
        common, self.settings = split_options(type(self).__name__, options, SimpleConsumerConfig)
        super().__init__(group, common)
        self._subscriptions = Subscriptions()
        self._turns = count()
        self._started_at = 0.0

    def subscribe(self, topic: str, expression: str | Sql = ALL) -> None:
        """Receive a topic's messages too; before ``start()`` or while running, where it blocks for a heartbeat to the brokers.

        :param topic: the topic's name.
        :param expression: ``"*"``, tags joined by ``||``, or a :class:`~grocketmq.model.subscription.Sql` filter.
        :raises ConfigError: for an expression without a tag.
        :raises MessageError: for a topic name that brokers refuse.
        """
        self._check_not_stopped()
        check_topic(topic)
        self._subscriptions.add(topic, expression)
        self._announce([topic])

    def unsubscribe(self, topic: str) -> None:
        """Receive a topic's messages no longer; blocks for a heartbeat to the brokers while running.

        :param topic: the topic's name; one that is not subscribed to is ignored.
        """
        self._check_not_stopped()
        self._subscriptions.remove(topic)
        self._announce([])

    def receive(self, max_messages: int = 16, invisible: float = 30.0, wait: float = 15.0) -> list[MessageExt]:
        """Take messages; blocks until there are some, at most ``wait`` seconds (10 more when a broker does not answer).

        All brokers of all topics are looked at in turn.  It returns as soon as some message was found, with what is there.
        Where there are several brokers, each may be waited at for a second before the next one is looked at.

        A message whose body cannot be unpacked is logged and left out; it comes again.

        :param max_messages: how many at most.
        :param invisible: seconds for which nobody else gets them, 5 to 43200.
        :param wait: seconds to wait while there is none; 0 for a look only.
        :returns: the messages, none when none came in time.
        :raises ConfigError: without a subscription, for a number out of its range, and for brokers older than 5.0.
        :raises RouteNotFoundError: when no topic has a broker.
        :raises GRocketMQError: the last broker's error, when none can be asked.
        """
        self._check_running()
        check_number("max_messages", max_messages, 1, 1 << 31)
        check_number("invisible", invisible, _LEAST_INVISIBLE, _MOST_INVISIBLE)
        deadline = Deadline(wait)
        targets = self._targets()
        found: list[MessageExt] = []
        failed: list[MessageQueue] = []
        for look in count():
            hold = 0.0
            if look >= len(targets):  # each had its look
                if found or deadline.remaining() < _NO_TIME:
                    return found
                hold = deadline.remaining() if len(targets) == 1 else min(_TURN, deadline.remaining())
            target = targets[next(self._turns) % len(targets)]
            try:
                found += self._pop(target, min(max_messages - len(found), MAX_POP_MESSAGES), invisible, hold)
                failed.clear()
            except UnsupportedRequestError as error:
                raise broker_too_old(error) from error
            except GRocketMQError as error:
                failed.append(target)
                if len(failed) >= len(targets) and not found:
                    raise
                if look < len(targets):
                    log.warning("%r cannot receive from %s: %s", self, target, error)
            if len(found) >= max_messages:
                return found
        raise AssertionError("unreachable")

    def ack(self, message: MessageExt) -> None:
        """Say that a message was consumed; blocks at most 3 s.

        :param message: as it was received.
        :raises MessageError: when it was not received by popping, or when its invisible time is over: it may have been given to
            another consumer, and comes again in any case.
        :raises RemotingError: no answer; call it again, or the message comes again.
        :raises BrokerError: an answer with an error code.
        """
        self._check_running()
        self._check_handle(message)
        self._acks.ack(message.topic, message)

    def change_invisible(self, message: MessageExt, seconds: float) -> None:
        """Keep a message to oneself for so long from now on; blocks at most 3 s.

        The message gets a new ``POP_CK``; a copy of it with the old one cannot be acknowledged any more.

        :param message: as it was received.
        :param seconds: how long, 0.001 to 43200; a short time has it delivered again soon.
        :raises ConfigError: for a time out of its range.
        :raises MessageError: see :meth:`ack`.
        :raises RemotingError: no answer.
        :raises BrokerError: an answer with an error code.
        """
        self._check_running()
        check_number("seconds", seconds, 0.001, _MOST_INVISIBLE)
        self._check_handle(message)
        self._acks.change_invisible(message.topic, message, seconds)

    # -- parts ---------------------------------------------------------------------------------------------------------------

    def _targets(self) -> list[MessageQueue]:
        """Every broker of every topic."""
        if not self._subscriptions:
            raise ConfigError(f"{self!r} has no subscription; call subscribe() first")
        targets: set[MessageQueue] = set()
        failure: GRocketMQError | None = None
        for topic in self._subscriptions.topics():
            try:
                queues = self._instance.subscribe_queues(topic)
                targets.update(MessageQueue(topic, queue.broker_name, ANY_QUEUE) for queue in queues)
            except GRocketMQError as error:
                failure = error
        if not targets:
            raise failure or RouteNotFoundError(", ".join(self._subscriptions.topics()), "none of its queues can be read")
        return sorted(targets)

    def _pop(self, target: MessageQueue, max_messages: int, invisible: float, hold: float) -> list[MessageExt]:
        subscription = self._subscriptions.get(target.topic)
        if subscription is None:  # unsubscribed meanwhile
            return []
        found = self._popper.pop(target, subscription, max_messages, invisible, hold)
        if found.status is PopStatus.POLLING_FULL:
            gevent.sleep(min(hold, _WHILE_POLLING_IS_FULL))
        if found.unwanted:
            try:
                for message in found.unwanted:
                    self._acks.ack(target.topic, message)
            except GRocketMQError as error:
                log.info("messages of other tags were not acknowledged and will be popped again: %s", error)
        if found.wanted and self._hooks.on_consume:
            self._hooks.polled(self.group, target, found.wanted)
        return found.wanted

    def _check_handle(self, message: MessageExt) -> None:
        if not isinstance(message, MessageExt):
            raise MessageError(f"a message as it was received is needed, not {type(message).__name__}")
        try:
            expired = self._acks.expired(message)
        except RemoteProtocolError as error:
            raise MessageError(f"{message!r} was not received by popping: {error}") from error
        if expired:
            raise MessageError(f"{message!r}: its invisible time is over; it comes again, or another consumer has it already")

    def _announce(self, topics: Iterable[str]) -> None:
        """Fetch routes, then tell brokers; a route that is missing is looked for in the background."""
        if self._shared is None:
            return
        instance = self._instance
        instance.find_routes(topics)
        instance.heartbeat_now()

    def _start(self) -> None:
        self._started_at = time()
        instance = self._join_instance()
        self._start_hooks(instance)
        api, clocks = PopAPI(instance.remoting), BrokerClocks()
        self._acks = PopAcks(self.group, instance, api, clocks)
        self._popper = Popper(self.group, instance, api, clocks, self.settings.consume_from, self._hooks)
        instance.register_consumer(self)
        self._announce(self._subscriptions.topics())

    def _shutdown(self, timeout: float) -> None:
        if self._shared is None:
            return
        self._stop_trace(Deadline(timeout))
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
            ConsumeType.POP,
            MessageModel.CLUSTERING,
            self.settings.consume_from,
            self._subscriptions.all(),
            unit_mode=self.config.unit_name is not None,
        )

    def rebalance(self) -> bool:
        """It has no queues of its own; never blocks."""
        self._check_started()
        return True

    def persist_offsets(self) -> None:
        """The brokers keep them; never blocks."""
        self._check_started()

    def offsets(self, topic: str) -> dict[MessageQueue, int]:
        """The brokers keep them; never blocks."""
        self._check_started()
        return {}

    def reset_offsets(self, offsets: Mapping[MessageQueue, int]) -> None:
        """The brokers have done it; never blocks."""
        self._check_started()

    def running_info(self) -> ConsumerRunningInfo:
        """Its state as operators see it; never blocks."""
        self._check_started()
        properties = client_properties(self.config, self.settings, ConsumeType.POP, self._started_at)
        return ConsumerRunningInfo(properties, self._subscriptions.all())

    def consume_directly(self, message: MessageExt) -> ConsumeMessageDirectlyResult:
        """Refuse an operator's message: there is no listener that could consume it."""
        return no_listener(self)
