"""Pulling, offsets, queries of stored messages.

Source: Apache RocketMQ 5.3.3, module remoting, package ``protocol.header``, classes of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from grocketmq.codes import RequestCode
from grocketmq.wire.headers.base import CommandHeader, TopicRequestHeader

__all__ = [
    "UNIQUE_KEY_QUERY",
    "GetEarliestMsgStoretimeRequestHeader",
    "GetEarliestMsgStoretimeResponseHeader",
    "GetMaxOffsetRequestHeader",
    "GetMaxOffsetResponseHeader",
    "GetMinOffsetRequestHeader",
    "GetMinOffsetResponseHeader",
    "PullMessageRequestHeader",
    "PullMessageResponseHeader",
    "QueryConsumerOffsetRequestHeader",
    "QueryConsumerOffsetResponseHeader",
    "QueryMessageRequestHeader",
    "QueryMessageResponseHeader",
    "SearchOffsetRequestHeader",
    "SearchOffsetResponseHeader",
    "UpdateConsumerOffsetRequestHeader",
    "UpdateConsumerOffsetResponseHeader",
    "ViewMessageRequestHeader",
    "ViewMessageResponseHeader",
]

#: Travels beside the fields of QUERY_MESSAGE, as ``true`` where the key is the id that a client gave its message.
UNIQUE_KEY_QUERY = "_UNIQUE_KEY_QUERY"


@dataclass(slots=True, kw_only=True)
class PullMessageRequestHeader(TopicRequestHeader):
    """PULL_MESSAGE and LITE_PULL_MESSAGE, client to broker.

    ===========================  ===================================================================
    ``queue_offset``             where to begin
    ``max_msg_nums``             at most so many messages
    ``max_msg_bytes``            and so many bytes
    ``sys_flag``                 bits of ``PullSysFlag``
    ``commit_offset``            the group's offset, stored on the way when its bit is set
    ``suspend_timeout_millis``   how long the broker may hold the request
    ``sub_version``              the subscription's version; newer than the heartbeat's is refused
    ===========================  ===================================================================
    """

    CODE: ClassVar[RequestCode] = RequestCode.PULL_MESSAGE
    # The wire keeps a slip of the pen.
    _WIRE: ClassVar[Mapping[str, str]] = {"proxy_forward_client_id": "proxyFrowardClientId"}

    consumer_group: str
    topic: str
    queue_id: int
    queue_offset: int
    max_msg_nums: int
    sys_flag: int
    commit_offset: int
    suspend_timeout_millis: int
    subscription: str | None = None
    sub_version: int
    expression_type: str | None = None
    max_msg_bytes: int | None = None
    request_source: int | None = None
    proxy_forward_client_id: str | None = None


@dataclass(slots=True, kw_only=True)
class PullMessageResponseHeader(CommandHeader):
    """The broker's answer to a pull.

    ===========================  ===================================================================
    ``suggest_which_broker_id``  whom to pull from next: 0 the master
    ``next_begin_offset``        where to go on
    ``offset_delta``             to be added to the messages' queue offsets (static topics)
    ===========================  ===================================================================
    """

    CODE: ClassVar[RequestCode] = RequestCode.PULL_MESSAGE

    suggest_which_broker_id: int
    next_begin_offset: int
    min_offset: int
    max_offset: int
    offset_delta: int | None = None
    topic_sys_flag: int | None = None
    group_sys_flag: int | None = None
    forbidden_type: int | None = None


@dataclass(slots=True, kw_only=True)
class QueryConsumerOffsetRequestHeader(TopicRequestHeader):
    """QUERY_CONSUMER_OFFSET, client to broker.

    ``set_zero_if_not_found``: None or True answers 0 for a young queue without an offset, False answers code 22.
    """

    CODE: ClassVar[RequestCode] = RequestCode.QUERY_CONSUMER_OFFSET

    consumer_group: str
    topic: str
    queue_id: int
    set_zero_if_not_found: bool | None = None


@dataclass(slots=True, kw_only=True)
class QueryConsumerOffsetResponseHeader(CommandHeader):
    """The broker's answer: the group's offset."""

    CODE: ClassVar[RequestCode] = RequestCode.QUERY_CONSUMER_OFFSET

    offset: int


@dataclass(slots=True, kw_only=True)
class UpdateConsumerOffsetRequestHeader(TopicRequestHeader):
    """UPDATE_CONSUMER_OFFSET, client to broker, mostly oneway."""

    CODE: ClassVar[RequestCode] = RequestCode.UPDATE_CONSUMER_OFFSET

    consumer_group: str
    topic: str
    queue_id: int
    commit_offset: int


@dataclass(slots=True, kw_only=True)
class UpdateConsumerOffsetResponseHeader(CommandHeader):
    """The broker's answer, without fields."""

    CODE: ClassVar[RequestCode] = RequestCode.UPDATE_CONSUMER_OFFSET


@dataclass(slots=True, kw_only=True)
class SearchOffsetRequestHeader(TopicRequestHeader):
    """SEARCH_OFFSET_BY_TIMESTAMP, client to broker.

    ``timestamp`` is ms since the epoch; ``boundary_type`` is ``LOWER`` (the default: first of equal times) or ``UPPER``.
    """

    CODE: ClassVar[RequestCode] = RequestCode.SEARCH_OFFSET_BY_TIMESTAMP

    topic: str
    queue_id: int
    timestamp: int
    boundary_type: str | None = None


@dataclass(slots=True, kw_only=True)
class SearchOffsetResponseHeader(CommandHeader):
    """The broker's answer: the offset found."""

    CODE: ClassVar[RequestCode] = RequestCode.SEARCH_OFFSET_BY_TIMESTAMP

    offset: int


@dataclass(slots=True, kw_only=True)
class GetMaxOffsetRequestHeader(TopicRequestHeader):
    """GET_MAX_OFFSET, client to broker; ``committed`` leaves out what replicas do not have yet."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_MAX_OFFSET

    topic: str
    queue_id: int
    committed: bool = True


@dataclass(slots=True, kw_only=True)
class GetMaxOffsetResponseHeader(CommandHeader):
    """The broker's answer: the offset the next message will get."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_MAX_OFFSET

    offset: int


@dataclass(slots=True, kw_only=True)
class GetMinOffsetRequestHeader(TopicRequestHeader):
    """GET_MIN_OFFSET, client to broker."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_MIN_OFFSET

    topic: str
    queue_id: int


@dataclass(slots=True, kw_only=True)
class GetMinOffsetResponseHeader(CommandHeader):
    """The broker's answer: the offset of the oldest message kept."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_MIN_OFFSET

    offset: int


@dataclass(slots=True, kw_only=True)
class GetEarliestMsgStoretimeRequestHeader(TopicRequestHeader):
    """GET_EARLIEST_MSG_STORETIME, client to broker."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_EARLIEST_MSG_STORETIME

    topic: str
    queue_id: int


@dataclass(slots=True, kw_only=True)
class GetEarliestMsgStoretimeResponseHeader(CommandHeader):
    """The broker's answer: ms since the epoch."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_EARLIEST_MSG_STORETIME

    timestamp: int


@dataclass(slots=True, kw_only=True)
class ViewMessageRequestHeader(CommandHeader):
    """VIEW_MESSAGE_BY_ID, client to broker; ``offset`` is the commit log offset."""

    CODE: ClassVar[RequestCode] = RequestCode.VIEW_MESSAGE_BY_ID

    topic: str | None = None
    offset: int


@dataclass(slots=True, kw_only=True)
class ViewMessageResponseHeader(CommandHeader):
    """The broker's answer, without fields; the body is the message."""

    CODE: ClassVar[RequestCode] = RequestCode.VIEW_MESSAGE_BY_ID


@dataclass(slots=True, kw_only=True)
class QueryMessageRequestHeader(TopicRequestHeader):
    """QUERY_MESSAGE, client to broker: messages by key, stored between two times (ms since the epoch)."""

    CODE: ClassVar[RequestCode] = RequestCode.QUERY_MESSAGE

    topic: str
    key: str
    max_num: int
    begin_timestamp: int
    end_timestamp: int


@dataclass(slots=True, kw_only=True)
class QueryMessageResponseHeader(CommandHeader):
    """The broker's answer: how far its index reaches; the body holds the messages."""

    CODE: ClassVar[RequestCode] = RequestCode.QUERY_MESSAGE

    index_last_update_timestamp: int
    index_last_update_phyoffset: int
