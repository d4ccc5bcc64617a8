"""What a consumer is subscribed to."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from time import time_ns

from grocketmq.model.subscription import Sql, SubscriptionData, subscription

__all__ = ["Subscriptions"]

log = logging.getLogger(__name__)

#: In tags it is allowed, but more likely meant as SQL or as a list.
_UNLIKELY = re.compile(r"[\s,;|=<>]")


class Subscriptions:
    """Topic -> subscription.  Nothing here switches.

    A broker refuses pulls whose version is newer than its last heartbeat's, so whoever changes a version sends a heartbeat.
    """

    def __init__(self) -> None:
        self._by_topic: dict[str, SubscriptionData] = {}

    def add(self, topic: str, expression: str | Sql | None) -> None:
        """Subscribe to a topic, or change its expression.

        :raises ConfigError: for an expression without a tag.
        """
        added = self._by_topic[topic] = subscription(topic, expression, _now_ms())
        for tag in filter(_UNLIKELY.search, added.tags):
            log.warning("subscription of %s: %r is one tag; tags are joined by ||, and SQL is written Sql('...')", topic, tag)

    def remove(self, topic: str) -> None:
        """Forget a topic."""
        self._by_topic.pop(topic, None)

    def restore(self, topic: str, before: SubscriptionData | None) -> None:
        """Take a change back."""
        if before is None:
            self._by_topic.pop(topic, None)
        else:
            self._by_topic[topic] = before

    def get(self, topic: str) -> SubscriptionData | None:
        """A topic's subscription."""
        return self._by_topic.get(topic)

    def renew(self, topic: str) -> None:
        """Give a subscription a new version, after its queues have changed."""
        found = self._by_topic.get(topic)
        if found is not None:
            self._by_topic[topic] = replace(found, sub_version=_now_ms())

    def topics(self) -> list[str]:
        """The topics subscribed to."""
        return list(self._by_topic)

    def all(self) -> tuple[SubscriptionData, ...]:
        """Every subscription."""
        return tuple(self._by_topic.values())

    def __bool__(self) -> bool:
        return bool(self._by_topic)


def _now_ms() -> int:
    return time_ns() // 1_000_000
