"""What a consumer wants, and from where it begins.

Source: Apache RocketMQ 5.3.3, module remoting, class ``SubscriptionData``; module client and common, classes ``FilterAPI``,
``ExpressionType``, ``MessageModel``, ``ConsumeFromWhere``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from grocketmq.errors import ConfigError
from grocketmq.hashing import java_string_hash

__all__ = ["ALL", "ConsumeFromWhere", "MessageModel", "Sql", "SubscriptionData", "subscription"]

#: The expression that takes every message.
ALL = "*"

_TAG = "TAG"
_SQL92 = "SQL92"
#: What ``String.trim`` takes off in Java: everything up to the space, and nothing beyond (a no-break space stays).
_JAVA_BLANKS = "".join(map(chr, range(0x21)))


class MessageModel(Enum):
    """Whether the members of a group share the messages or each gets all."""

    CLUSTERING = "CLUSTERING"
    BROADCASTING = "BROADCASTING"


class ConsumeFromWhere(Enum):
    """Where a group begins in a queue of which it has no offset yet."""

    LAST_OFFSET = "CONSUME_FROM_LAST_OFFSET"
    FIRST_OFFSET = "CONSUME_FROM_FIRST_OFFSET"
    TIMESTAMP = "CONSUME_FROM_TIMESTAMP"


@dataclass(frozen=True)
class Sql:
    """A SQL92 filter over message properties, such as ``Sql("price > 10 AND region = 'eu'")``.

    :param expression: the condition, evaluated by the broker.
    """

    expression: str


@dataclass(frozen=True)
class SubscriptionData:
    """One topic's subscription, as heartbeats and pulls carry it.

    :param topic: the topic's name.
    :param sub_string: the expression's text.
    :param tags: its tags, in the order they stand; empty for "*" and for SQL.
    :param codes: the tags' Java hashes, by which the broker filters.
    :param sub_version: ms since the epoch of the last change; the broker refuses pulls with a newer one than it was told.
    :param expression_type: ``TAG`` or ``SQL92``.
    """

    topic: str
    sub_string: str
    tags: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    sub_version: int = 0
    expression_type: str = _TAG
    class_filter_mode: bool = False

    def matches(self, tag: str | None) -> bool:
        """Whether a message with this tag is wanted; the broker compares hashes only, so clients compare the text again."""
        return not self.tags or tag in self.tags


def subscription(topic: str, expression: str | Sql | None, sub_version: int = 0) -> SubscriptionData:
    """Make a subscription from its expression; never blocks.

    :param topic: the topic's name.
    :param expression: ``"*"``, None or ``""`` for all; ``"a || b"`` for tags; a :class:`Sql` filter.
    :param sub_version: ms since the epoch.
    :raises ConfigError: for an expression of bars only, for an empty SQL filter, and for what is no expression.
    """
    if isinstance(expression, Sql):
        if not expression.expression:
            raise ConfigError(f"subscription of {topic}: the SQL filter is empty")
        return SubscriptionData(topic, expression.expression, sub_version=sub_version, expression_type=_SQL92)
    if not expression or expression == ALL:
        return SubscriptionData(topic, ALL, sub_version=sub_version)
    if not isinstance(expression, str):
        raise ConfigError(f"subscription of {topic}: expression {expression!r:.80} is neither text, such as 'a || b', nor Sql")
    pieces = expression.split("||")
    if not any(pieces):
        raise ConfigError(f"subscription of {topic}: expression {expression!r} holds no tag")
    tags = tuple(dict.fromkeys(tag for tag in (piece.strip(_JAVA_BLANKS) for piece in pieces) if tag))
    codes = tuple(dict.fromkeys(java_string_hash(tag) for tag in tags))
    return SubscriptionData(topic, expression, tags, codes, sub_version)
