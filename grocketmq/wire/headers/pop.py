"""POP consumption; these codes need a JSON header, the compact one cuts them to 16 bits.

Source: Apache RocketMQ 5.3.3, module remoting, package ``protocol.header``, classes of the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from grocketmq.codes import RequestCode
from grocketmq.wire.headers.base import CommandHeader, TopicRequestHeader

__all__ = [
    "AckMessageRequestHeader",
    "ChangeInvisibleTimeRequestHeader",
    "ChangeInvisibleTimeResponseHeader",
    "NotificationRequestHeader",
    "NotificationResponseHeader",
    "PeekMessageRequestHeader",
    "PollingInfoRequestHeader",
    "PollingInfoResponseHeader",
    "PopMessageRequestHeader",
    "PopMessageResponseHeader",
]


@dataclass(slots=True, kw_only=True)
class PopMessageRequestHeader(TopicRequestHeader):
    """POP_MESSAGE, client to broker; times in ms.

    ====================  ==================================================================
    ``queue_id``          -1 for any queue
    ``invisible_time``    how long what is handed out stays with this client
    ``poll_time``         how long the broker may hold the request
    ``born_time``         when the request was made, ms since the epoch
    ``init_mode``         where a new group begins: 0 the oldest message, 1 the newest
    ``exp_type``, ``exp`` the filter's kind and text
    ``attempt_id``        ties the tries of one ordered pop together
    ====================  ==================================================================
    """

    CODE: ClassVar[RequestCode] = RequestCode.POP_MESSAGE

    consumer_group: str
    topic: str
    queue_id: int
    max_msg_nums: int
    invisible_time: int
    poll_time: int
    born_time: int
    init_mode: int
    exp_type: str | None = None
    exp: str | None = None
    order: bool | None = False
    attempt_id: str | None = None


@dataclass(slots=True, kw_only=True)
class PopMessageResponseHeader(CommandHeader):
    """The broker's answer; the three ``*_info`` texts tell which messages came from which queue."""

    CODE: ClassVar[RequestCode] = RequestCode.POP_MESSAGE

    pop_time: int
    invisible_time: int
    revive_qid: int
    rest_num: int
    start_offset_info: str | None = None
    msg_offset_info: str | None = None
    order_count_info: str | None = None


@dataclass(slots=True, kw_only=True)
class AckMessageRequestHeader(TopicRequestHeader):
    """ACK_MESSAGE, client to broker; ``extra_info`` is the check point that came with the message."""

    CODE: ClassVar[RequestCode] = RequestCode.ACK_MESSAGE

    consumer_group: str
    topic: str
    queue_id: int
    extra_info: str
    offset: int


@dataclass(slots=True, kw_only=True)
class ChangeInvisibleTimeRequestHeader(TopicRequestHeader):
    """CHANGE_MESSAGE_INVISIBLETIME, client to broker; ``invisible_time`` in ms from now."""

    CODE: ClassVar[RequestCode] = RequestCode.CHANGE_MESSAGE_INVISIBLETIME

    consumer_group: str
    topic: str
    queue_id: int
    extra_info: str
    offset: int
    invisible_time: int


@dataclass(slots=True, kw_only=True)
class ChangeInvisibleTimeResponseHeader(CommandHeader):
    """The broker's answer: what the message's new check point is made of."""

    CODE: ClassVar[RequestCode] = RequestCode.CHANGE_MESSAGE_INVISIBLETIME

    pop_time: int
    invisible_time: int
    revive_qid: int


@dataclass(slots=True, kw_only=True)
class NotificationRequestHeader(TopicRequestHeader):
    """NOTIFICATION, client to broker: tell me when there is something to pop."""

    CODE: ClassVar[RequestCode] = RequestCode.NOTIFICATION

    consumer_group: str
    topic: str
    queue_id: int
    poll_time: int
    born_time: int
    order: bool | None = False
    attempt_id: str | None = None


@dataclass(slots=True, kw_only=True)
class NotificationResponseHeader(CommandHeader):
    """The broker's answer."""

    CODE: ClassVar[RequestCode] = RequestCode.NOTIFICATION

    has_msg: bool = False
    polling_full: bool = False


@dataclass(slots=True, kw_only=True)
class PeekMessageRequestHeader(TopicRequestHeader):
    """PEEK_MESSAGE, client to broker: look without taking."""

    CODE: ClassVar[RequestCode] = RequestCode.PEEK_MESSAGE

    consumer_group: str
    topic: str
    queue_id: int
    max_msg_nums: int


@dataclass(slots=True, kw_only=True)
class PollingInfoRequestHeader(TopicRequestHeader):
    """POLLING_INFO, client to broker."""

    CODE: ClassVar[RequestCode] = RequestCode.POLLING_INFO

    consumer_group: str
    topic: str
    queue_id: int


@dataclass(slots=True, kw_only=True)
class PollingInfoResponseHeader(CommandHeader):
    """The broker's answer: how many requests it holds."""

    CODE: ClassVar[RequestCode] = RequestCode.POLLING_INFO

    polling_num: int
