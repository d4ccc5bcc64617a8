"""``PullConsumer``: one pull for each call, and the application keeps count of where it is.

Source: Apache RocketMQ 5.3.3, module client, class ``DefaultMQPullConsumerImpl``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import time
from typing import Any

import gevent
from gevent.event import AsyncResult

from grocketmq.client.config import ClientConfig
from grocketmq.consumer.config import DEFAULT_MAX_RECONSUME_TIMES
from grocketmq.consumer.introspection import client_properties, no_listener
from grocketmq.consumer.offset_store import RemoteBrokerOffsetStore
from grocketmq.consumer.puller import ANSWER_TIMEOUT, HELD_TIMEOUT, HOLD, Puller, PullOptions
from grocketmq.consumer.send_back import SendBack
from grocketmq.consumer.subscription_check import SubscriptionCheck
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import ClientStateError, ConfigError, GRocketMQError
from grocketmq.model.message import MessageExt
from grocketmq.model.results import PullResult
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere, MessageModel, Sql, subscription
from grocketmq.runtime.deadline import Deadline
from grocketmq.trace import TracedClient
from grocketmq.wire.bodies import ConsumeMessageDirectlyResult, ConsumerData, ConsumerRunningInfo, ConsumeType

__all__ = ["PullConsumer"]

#: Filters that brokers have compiled are remembered; more than so many are not a fixed set of them.
_MOST_FILTERS = 1000


class PullConsumer(TracedClient):
    """Pulls messages queue by queue; where to begin and what is done is the application's knowledge.

    Nothing is shared out and nothing is stored by itself: keep offsets yourself, or have the brokers keep them for the group
    with :meth:`update_offset` and :meth:`fetch_offset`.

    ::

        with PullConsumer("audit", namesrv="127.0.0.1:9876") as consumer:
            for queue in consumer.fetch_subscribe_queues("orders"):
                offset = consumer.fetch_offset(queue) or consumer.min_offset(queue)
                result = consumer.pull(queue, "*", offset)
                for msg in result.messages:
                    print(msg.msg_id, msg.body)
                consumer.update_offset(queue, result.next_begin_offset)

    :param group: the consumer group's name.
    :param common: fields of :class:`~grocketmq.client.config.ClientConfig`.
    :raises ConfigError: for a group, a name server or a setting that cannot work.
    """

    def __init__(self, group: str, **common: Any) -> None:
        super().__init__(group, ClientConfig(**common))
        self._topics: set[str] = set()
        self._started_at = 0.0

    def _renew(self) -> None:
        super()._renew()
        self._tasks = self._new_tasks()
        self._store = RemoteBrokerOffsetStore()
        self._compiled: set[tuple[str, Sql]] = set()

    # -- pulling -------------------------------------------------------------------------------------------------------------

    def fetch_subscribe_queues(self, topic: str) -> list[MessageQueue]:
        """All queues of a topic that can be read, sorted; blocks at most 3 s, while its route is fetched.

        :param topic: the topic's name.
        :raises RouteNotFoundError: when no name server knows it.
        """
        self._check_running()
        self._know(topic)
        return list(self._instance.subscribe_queues(topic))

    def pull(
        self,
        queue: MessageQueue,
        expression: str | Sql | None,
        offset: int,
        max_nums: int = 32,
        *,
        block: bool = False,
        timeout: float | None = None,
    ) -> PullResult:
        """Pull once from an offset.

        :param queue: what to pull.
        :param expression: ``"*"``, tags joined by ``||``, or a :class:`~grocketmq.model.subscription.Sql` filter.
        :param offset: the first offset wanted.
        :param max_nums: messages at most; brokers give at most 32 by default.
        :param block: whether the broker holds the request while there is nothing.
        :param timeout: seconds: without ``block`` to wait for the answer, default 10; with it, for which the broker may hold
            the request, default 20, and the call may take 10 s more.
        :returns: with ``FOUND`` messages, with another status none.  Go on at its ``next_begin_offset`` in each case; with
            ``OFFSET_ILLEGAL`` that is where the broker wants it.
        :raises ConfigError: for an expression without a tag or one that the broker refuses, a negative offset, ``max_nums`` or
            a timeout below 1.
        :raises RouteNotFoundError: when the queue's broker is not known.
        :raises RemotingError: when there is no answer.
        :raises BrokerError: when the broker refuses.
        """
        self._check_running()
        options = _options(offset, max_nums, block, timeout)
        wanted = subscription(queue.topic, expression)
        self._know(queue.topic)
        if isinstance(expression, Sql):
            self._compile(queue.topic, expression)
        try:
            found = self._puller.pull(queue, wanted, offset, options, None)
        except GRocketMQError as error:
            if error.refresh_route:
                self._instance.refresh_routes_soon()
            raise
        if found.messages and self._hooks.on_consume:
            self._hooks.polled(self.group, queue, found.messages)
        return found

    def pull_async(
        self,
        queue: MessageQueue,
        expression: str | Sql | None,
        offset: int,
        max_nums: int = 32,
        *,
        block: bool = False,
        timeout: float | None = None,
    ) -> AsyncResult:
        """As :meth:`pull`, in a greenlet of its own; never blocks.

        :returns: gets the result, or the error that :meth:`pull` would raise; ``ClientStateError`` at a shutdown.
        """
        self._check_running()
        result = AsyncResult()

        def run() -> None:
            try:
                result.set(self.pull(queue, expression, offset, max_nums, block=block, timeout=timeout))
            except Exception as error:
                result.set_exception(error)

        def ended(_: gevent.Greenlet) -> None:
            if not result.ready():  # it was killed, perhaps before it ran
                result.set_exception(ClientStateError(f"{self!r} was shut down before the pull was answered"))

        self._tasks.spawn(f"pull {queue}", run).rawlink(ended)
        return result

    def _know(self, topic: str) -> None:
        """Before a topic is used first: find its brokers, and tell them of the group, which they may not know."""
        if topic not in self._topics:
            self._instance.subscribe_queues(topic)
            self._instance.heartbeat_now()
            self._topics.add(topic)

    def _compile(self, topic: str, expression: Sql) -> None:
        """Have a broker check a filter, once: a pull with one that does not compile is answered as if it had none."""
        if (topic, expression) in self._compiled:
            return
        subscriptions = Subscriptions()
        subscriptions.add(topic, expression)
        SubscriptionCheck(self.group, self._instance, subscriptions).compile()
        if len(self._compiled) >= _MOST_FILTERS:
            self._compiled.clear()
        self._compiled.add((topic, expression))

    # -- what is done --------------------------------------------------------------------------------------------------------

    def update_offset(self, queue: MessageQueue, offset: int) -> None:
        """Have the queue's broker store an offset for the group; blocks at most 8 s.

        :param queue: the queue.
        :param offset: where the group is to go on.
        :raises ConfigError: for a negative offset.
        :raises RemotingError: when there is no answer.
        :raises BrokerError: when the broker refuses.
        """
        self._check_running()
        _check_offset(offset)
        self._know(queue.topic)
        self._store.update(queue, offset, increase_only=False)
        self._store.flush([queue])

    def fetch_offset(self, queue: MessageQueue) -> int | None:
        """The offset that the queue's broker has for the group; blocks at most 8 s.

        :param queue: the queue.
        :returns: the offset; None when none was stored.
        :raises RemotingError: when there is no answer.
        :raises BrokerError: when the broker cannot tell.
        """
        self._check_running()
        return self._store.read(queue)

    def send_back(self, msg: MessageExt, delay_level: int) -> None:
        """Have a message delivered again later, through the group's retry topic ``%RETRY%<group>``; blocks at most 5 s a try.

        A push consumer of the group gets it; a pull consumer must pull that topic's queues itself.

        :param msg: a message that was pulled.
        :param delay_level: 1 to 18; 0 grows with each time, -1 goes to the dead letters at once.
        :raises GRocketMQError: when no broker took it.
        """
        self._check_running()
        self._send_back.send(msg, delay_level)

    # -- start and stop ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._started_at = time()
        instance = self._join_instance()
        self._start_hooks(instance)
        self._store.open(instance, self.group)
        self._puller = Puller(self.group, instance, self._hooks)
        self._send_back = SendBack(self.group, instance, DEFAULT_MAX_RECONSUME_TIMES)
        instance.register_consumer(self)
        instance.heartbeat_soon()

    def _shutdown(self, timeout: float) -> None:
        if self._shared is None:
            return
        self._stop_trace(Deadline(timeout))
        self._tasks.kill()
        self._instance.unregister_consumer(self)
        self._leave_instance()

    # -- for the instance ----------------------------------------------------------------------------------------------------

    def topics(self) -> Iterable[str]:
        """The topics whose routes it needs: those it has pulled or asked for."""
        return list(self._topics)

    def heartbeat_data(self) -> ConsumerData:
        """What brokers are told of it; its pulls carry their expressions, so it has no subscriptions."""
        return ConsumerData(
            self.group,
            ConsumeType.ACTIVELY,
            MessageModel.CLUSTERING,
            ConsumeFromWhere.LAST_OFFSET,
            (),
            unit_mode=self.config.unit_name is not None,
        )

    def rebalance(self) -> bool:
        """Nothing is shared out; never blocks."""
        self._check_started()
        return True

    def persist_offsets(self) -> None:
        """Nothing is left to store: :meth:`update_offset` has done it; never blocks."""
        self._check_started()

    def offsets(self, topic: str) -> dict[MessageQueue, int]:
        """Nothing, since it has no queues of its own; never blocks."""
        self._check_started()
        return {}

    def reset_offsets(self, offsets: Mapping[MessageQueue, int]) -> None:
        """Have the brokers store these offsets, for the next :meth:`fetch_offset`; blocks for the calls."""
        self._check_started()
        for queue, offset in offsets.items():
            self._store.update(queue, offset, increase_only=False)
        self._store.flush(offsets)

    def running_info(self) -> ConsumerRunningInfo:
        """Its state as operators see it; never blocks."""
        self._check_started()
        return ConsumerRunningInfo(client_properties(self.config, None, ConsumeType.ACTIVELY, self._started_at))

    def consume_directly(self, message: MessageExt) -> ConsumeMessageDirectlyResult:
        """Refuse an operator's message: there is no listener that could consume it."""
        return no_listener(self)


def _check_offset(offset: int) -> None:
    if offset < 0:
        raise ConfigError(f"offset {offset} is negative")


def _options(offset: int, max_nums: int, block: bool, timeout: float | None) -> PullOptions:
    _check_offset(offset)
    if max_nums < 1:
        raise ConfigError(f"max_nums is {max_nums}; ask for at least one message")
    if timeout is not None and timeout <= 0:
        raise ConfigError(f"timeout is {timeout}; it must be a number of seconds above 0")
    if block:
        hold = HOLD if timeout is None else timeout
        return PullOptions(max_nums=max_nums, hold=hold, timeout=hold + HELD_TIMEOUT - HOLD, send_subscription=True)
    wait = ANSWER_TIMEOUT if timeout is None else timeout
    return PullOptions(max_nums=max_nums, hold=0.0, timeout=wait, send_subscription=True)
