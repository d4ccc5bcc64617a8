"""Which messages a subscription takes: by their tags' codes, or by a condition over their properties.

Source: Apache RocketMQ 5.5.0, module broker, classes ``ExpressionMessageFilter``, ``ConsumerFilterManager``.
"""

from __future__ import annotations

from typing import NamedTuple

from grocketmq.codes import ResponseCode
from grocketmq.embedded.sql_filter import Condition, compile_sql
from grocketmq.errors import ConfigError
from grocketmq.model.subscription import SubscriptionData
from grocketmq.remoting.server import Refused
from grocketmq.wire.message_codec import decode_message

__all__ = ["EVERYTHING", "MessageFilter", "check_expression", "check_property_filter", "filter_of", "is_tag_type"]

_SQL = "SQL92"


class MessageFilter(NamedTuple):
    """What a read of a queue takes.

    :param codes: codes of the tags to take; None for all.
    :param condition: what the properties must meet; None for anything.
    """

    codes: frozenset[int] | None = None
    condition: Condition | None = None

    def takes(self, code: int, frame: bytes) -> bool:
        """Whether a message is wanted.

        :param code: its tag's code.
        :param frame: the message as it is stored.
        """
        if self.codes is not None and code not in self.codes:
            return False
        return self.condition is None or self.condition(decode_message(frame, decompress=False).properties)


EVERYTHING = MessageFilter()


def is_tag_type(expression_type: str | None) -> bool:
    """Whether an expression names tags."""
    return expression_type in (None, "", "TAG")


def filter_of(subscribed: SubscriptionData) -> MessageFilter:
    """The filter of a subscription.

    :raises ConfigError: for a condition that cannot be read.
    """
    if not is_tag_type(subscribed.expression_type):
        if subscribed.expression_type != _SQL:
            raise ConfigError(f"there are no filters of the type {subscribed.expression_type}")
        return MessageFilter(condition=compile_sql(subscribed.sub_string))
    if subscribed.codes and not subscribed.class_filter_mode:
        return MessageFilter(frozenset(subscribed.codes))
    return EVERYTHING


def check_expression(subscribed: SubscriptionData, property_filter: bool) -> None:
    """Refuse a subscription's expression as a broker does when a client starts.

    :param property_filter: whether the broker filters by property at all.
    :raises Refused: with code 1 or 23.
    """
    if is_tag_type(subscribed.expression_type):
        return
    check_property_filter(subscribed.expression_type, property_filter)
    try:
        filter_of(subscribed)
    except ConfigError as error:
        raise Refused(ResponseCode.SUBSCRIPTION_PARSE_FAILED, str(error)) from error


def check_property_filter(expression_type: str | None, property_filter: bool) -> None:
    """Refuse filters by property where they are off."""
    if not is_tag_type(expression_type) and not property_filter:
        remark = f"The broker does not support consumer to filter message by {expression_type}"
        raise Refused(ResponseCode.SYSTEM_ERROR, remark, {})
