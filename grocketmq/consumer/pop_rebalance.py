"""Which queues a consumer pops: brokers share them out.

Source: Apache RocketMQ 5.3.3, module client, class ``RebalanceImpl`` (``getRebalanceResultFromBroker``,
``updateMessageQueueAssignment``); module broker, class ``QueryAssignmentProcessor``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from time import monotonic

from gevent.lock import RLock

from grocketmq.client.instance import ClientInstance
from grocketmq.client.pop_api import PopAPI
from grocketmq.consumer.pop_queue import PopQueue
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import ConfigError, GRocketMQError, UnsupportedRequestError
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.route import MessageQueue
from grocketmq.wire.bodies import MessageQueueAssignment, MessageRequestMode

__all__ = ["ANY_QUEUE", "PopRebalance", "broker_too_old"]

log = logging.getLogger(__name__)

#: The queue id that stands for any queue of a broker.
ANY_QUEUE = -1


def broker_too_old(error: UnsupportedRequestError) -> ConfigError:
    """What to tell a user whose broker does not know POP; never blocks."""
    return ConfigError(
        f"broker {error.address} is too old for POP, which needs release 5.0 or later; consume by pulling instead"
    )


class PopRebalance:
    """The queues of one consumer that pops.

    :param group: the consumer's group.
    :param instance: its instance.
    :param api: makes the calls.
    :param queues: the consumer's queues; changed here only.
    :param subscriptions: what it is subscribed to.
    :param strategy: the name of the strategy by which brokers share queues out.
    :param begin: told of each new queue.
    """

    def __init__(
        self,
        group: str,
        instance: ClientInstance,
        api: PopAPI,
        queues: dict[MessageQueue, PopQueue],
        subscriptions: Subscriptions,
        strategy: str,
        begin: Callable[[MessageQueue, PopQueue], None],
    ) -> None:
        self.queues = queues
        self._group = group
        self._instance = instance
        self._api = api
        self._subscriptions = subscriptions
        self._strategy = strategy
        self._begin = begin
        self._turn = RLock()
        self._started = False
        self._stopped = False
        self._popping: set[tuple[str, str]] = set()
        self._unanswered: set[str] = set()

    def prepare(self) -> None:
        """Have the brokers of every topic share it out by popping, and take queues from now on; blocks for calls to brokers.

        :raises ConfigError: when one is too old.
        """
        for topic in self._subscriptions.topics():
            try:
                self._set_mode(topic)
            except UnsupportedRequestError as error:
                raise broker_too_old(error) from error
            except GRocketMQError as error:
                log.warning("group %s could not be set to pop topic %s, tried again: %s", self._group, topic, error)
        self._started = True

    def run(self) -> bool:
        """One round over all topics; blocks for its calls to brokers.  Rounds never overlap.

        :returns: whether this consumer has exactly its share.
        """
        if not self._started:
            return True
        balanced = True
        with self._turn:
            topics = self._subscriptions.topics()
            for topic in topics:
                balanced &= self._topic(topic)
            self._drop([queue for queue in self.queues if queue.topic not in topics])
        return balanced

    def stop(self) -> None:
        """Take nothing more, and drop every queue; never blocks."""
        self._stopped = True
        for popped in self.queues.values():
            popped.dropped = True

    def _topic(self, topic: str) -> bool:
        if not self._instance.routes.subscribe.get(topic):
            return True  # the route task looks for it, and wakes the rebalance when it is found
        try:
            self._set_mode(topic)
            mine = self._assigned(topic)
        except GRocketMQError as error:
            return self._not_told(topic, error)
        if mine is None:
            return self._not_told(topic, "they have not heard of the group or of the topic yet")
        self._unanswered.discard(topic)
        self._take(topic, mine)
        return True

    def _not_told(self, topic: str, why: object) -> bool:
        if topic not in self._unanswered:
            self._unanswered.add(topic)
            log.warning("brokers do not share out %s for group %s, queues stay as they are: %s", topic, self._group, why)
        self._instance.heartbeat_soon()
        return False

    def _set_mode(self, topic: str) -> None:
        """Have all brokers share a topic out by popping; those that do so already keep what an operator has set."""
        if is_retry_topic(topic):
            return
        for address in self._instance.routes.brokers_of(topic):
            if (topic, address) in self._popping:
                continue
            shares = self._query(address, topic)
            if not shares or any(share.mode is not MessageRequestMode.POP for share in shares):
                self._api.set_request_mode(address, topic, self._group, MessageRequestMode.POP)
            self._popping.add((topic, address))

    def _assigned(self, topic: str) -> set[MessageQueue] | None:
        """This consumer's share, as the first broker that can tell sees it; None when none can.

        Brokers do not share out the group's own retry topic by popping, but they let everyone pop it.  Messages wait there that
        were sent back while the group pulled.
        """
        if is_retry_topic(topic):
            queues = self._instance.routes.subscribe.get(topic, ())
            return {MessageQueue(topic, queue.broker_name, ANY_QUEUE) for queue in queues}
        failure: GRocketMQError | None = None
        for address in self._instance.routes.brokers_of(topic):
            try:
                shares = self._query(address, topic)
            except GRocketMQError as error:
                failure = error
                continue
            if shares is not None:
                return {share.message_queue for share in shares}
        if failure is not None:
            raise failure
        return None

    def _query(self, address: str, topic: str) -> tuple[MessageQueueAssignment, ...] | None:
        return self._api.query_assignment(address, topic, self._group, self._instance.client_id, self._strategy)

    def _take(self, topic: str, mine: set[MessageQueue]) -> None:
        now = monotonic()
        gone = []
        for queue, popped in self.queues.items():
            if queue.topic == topic:
                if queue not in mine or popped.dropped:
                    gone.append(queue)
                elif popped.expired(now):
                    log.error("%s was not popped for %.0f s and is built anew", queue, now - popped.last_pop)
                    gone.append(queue)
        self._drop(gone)
        new = sorted(mine - self.queues.keys())
        if gone or new:
            log.info("group %s pops %d queues of %s now", self._group, len(mine), topic)
        for queue in new if not self._stopped else ():
            popped = self.queues[queue] = PopQueue(monotonic())
            self._begin(queue, popped)

    def _drop(self, queues: Iterable[MessageQueue]) -> None:
        for queue in queues:
            self.queues.pop(queue).dropped = True
