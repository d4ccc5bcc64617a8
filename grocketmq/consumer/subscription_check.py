"""Asks brokers whether a consumer's subscriptions can work, and whether its group agrees on them."""

from __future__ import annotations

import logging

from grocketmq.client.instance import ClientInstance
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import BrokerError, ConfigError, GRocketMQError
from grocketmq.model.subscription import SubscriptionData

__all__ = ["CHECK_INTERVAL", "SubscriptionCheck"]

log = logging.getLogger(__name__)

#: Seconds between two looks at what the group's other members subscribe to.
CHECK_INTERVAL = 30.0

_TAG = "TAG"


class SubscriptionCheck:
    """The checks of one consumer.

    :param group: its group.
    :param instance: its instance.
    :param subscriptions: what it is subscribed to.
    """

    def __init__(self, group: str, instance: ClientInstance, subscriptions: Subscriptions) -> None:
        self._group = group
        self._instance = instance
        self._subscriptions = subscriptions
        self._warned: dict[str, str] = {}

    def compile(self) -> None:
        """Have every filter that is not one of tags compiled by a broker of its topic; blocks for the calls.

        A topic without a known broker is passed over: its pulls will show what is wrong.

        :raises ConfigError: naming the topic, the expression and the broker's reason.
        """
        for subscription in self._subscriptions.all():
            if subscription.expression_type != _TAG:
                self._compile(subscription)

    def _compile(self, subscription: SubscriptionData) -> None:
        for address in self._instance.routes.brokers_of(subscription.topic)[:1]:
            try:
                self._instance.api.check_subscription(address, self._instance.client_id, self._group, subscription)
            except BrokerError as error:
                raise ConfigError(
                    f"subscription of group {self._group} to {subscription.topic}: the broker refuses the "
                    f"{subscription.expression_type} filter {subscription.sub_string!r}: {error}"
                ) from error
            except GRocketMQError as error:
                log.warning("filter %r of %s not checked: %s", subscription.sub_string, subscription.topic, error)

    def agreement(self) -> None:
        """Warn when another member of the group has subscribed differently; blocks for a call a topic.

        Brokers keep one subscription a group and topic, the newest.  Members that differ lose messages to each other.
        """
        for mine in self._subscriptions.all():
            for address in self._instance.routes.brokers_of(mine.topic)[:1]:
                try:
                    theirs = self._instance.api.group_subscription(address, self._group, mine.topic)
                except GRocketMQError as error:
                    log.debug("subscription of group %s to %s not asked: %s", self._group, mine.topic, error)
                    continue
                self._compare(mine, theirs)

    def _compare(self, mine: SubscriptionData, theirs: SubscriptionData | None) -> None:
        if theirs is None or _same(mine, theirs):
            self._warned.pop(mine.topic, None)
        elif self._warned.get(mine.topic) != theirs.sub_string:
            self._warned[mine.topic] = theirs.sub_string
            log.warning(
                "group %s disagrees on topic %s: this client subscribes to %r, another member to %r; "
                "each will miss messages until all members subscribe alike",
                self._group,
                mine.topic,
                mine.sub_string,
                theirs.sub_string,
            )


def _same(one: SubscriptionData, other: SubscriptionData) -> bool:
    if one.expression_type != other.expression_type:
        return False
    return one.sub_string == other.sub_string or (bool(one.tags) and set(one.tags) == set(other.tags))
