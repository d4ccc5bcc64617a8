"""Clients and groups: heartbeats, members, locks, and what operators ask of a running consumer.

Source: Apache RocketMQ 5.3.3, module remoting, package ``protocol.header``, classes of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from grocketmq.codes import RequestCode
from grocketmq.wire.headers.base import CommandHeader, RpcRequestHeader, TopicRequestHeader

__all__ = [
    "ConsumeMessageDirectlyResultRequestHeader",
    "DeleteSubscriptionGroupRequestHeader",
    "GetConsumeStatsRequestHeader",
    "GetConsumerConnectionListRequestHeader",
    "GetConsumerListByGroupRequestHeader",
    "GetConsumerListByGroupResponseHeader",
    "GetConsumerRunningInfoRequestHeader",
    "GetConsumerStatusRequestHeader",
    "GetProducerConnectionListRequestHeader",
    "GetSubscriptionGroupConfigRequestHeader",
    "HeartbeatRequestHeader",
    "HeartbeatResponseHeader",
    "LockBatchMqRequestHeader",
    "NotifyConsumerIdsChangedRequestHeader",
    "QuerySubscriptionByConsumerRequestHeader",
    "ResetOffsetRequestHeader",
    "UnlockBatchMqRequestHeader",
    "UnregisterClientRequestHeader",
    "UnregisterClientResponseHeader",
]


@dataclass(slots=True, kw_only=True)
class HeartbeatRequestHeader(RpcRequestHeader):
    """HEART_BEAT, client to broker; the body is the heartbeat."""

    CODE: ClassVar[RequestCode] = RequestCode.HEART_BEAT


@dataclass(slots=True, kw_only=True)
class HeartbeatResponseHeader(CommandHeader):
    """What a broker of 5.x tells in its answer to a heartbeat; Java has no class for it (``ClientManageProcessor``).

    ``support_heart_beat_v2``: short heartbeats are understood; ``sub_change``: the subscription differed from the one known.
    """

    CODE: ClassVar[RequestCode] = RequestCode.HEART_BEAT
    _WIRE: ClassVar[Mapping[str, str]] = {
        "support_heart_beat_v2": "IS_SUPPORT_HEART_BEAT_V2",
        "sub_change": "IS_SUB_CHANGE",
    }

    support_heart_beat_v2: bool = False
    sub_change: bool = False


@dataclass(slots=True, kw_only=True)
class UnregisterClientRequestHeader(RpcRequestHeader):
    """UNREGISTER_CLIENT, client to broker, one group at a time."""

    CODE: ClassVar[RequestCode] = RequestCode.UNREGISTER_CLIENT
    _WIRE: ClassVar[Mapping[str, str]] = {"client_id": "clientID"}

    client_id: str
    producer_group: str | None = None
    consumer_group: str | None = None


@dataclass(slots=True, kw_only=True)
class UnregisterClientResponseHeader(CommandHeader):
    """The broker's answer, without fields."""

    CODE: ClassVar[RequestCode] = RequestCode.UNREGISTER_CLIENT


@dataclass(slots=True, kw_only=True)
class GetConsumerListByGroupRequestHeader(RpcRequestHeader):
    """GET_CONSUMER_LIST_BY_GROUP, client to broker."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_CONSUMER_LIST_BY_GROUP

    consumer_group: str


@dataclass(slots=True, kw_only=True)
class GetConsumerListByGroupResponseHeader(CommandHeader):
    """The broker's answer, without fields; the body lists the client ids."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_CONSUMER_LIST_BY_GROUP


@dataclass(slots=True, kw_only=True)
class NotifyConsumerIdsChangedRequestHeader(RpcRequestHeader):
    """NOTIFY_CONSUMER_IDS_CHANGED, broker to client, oneway: the group's members changed."""

    CODE: ClassVar[RequestCode] = RequestCode.NOTIFY_CONSUMER_IDS_CHANGED

    consumer_group: str


@dataclass(slots=True, kw_only=True)
class LockBatchMqRequestHeader(RpcRequestHeader):
    """LOCK_BATCH_MQ, client to broker; the body names the queues."""

    CODE: ClassVar[RequestCode] = RequestCode.LOCK_BATCH_MQ


@dataclass(slots=True, kw_only=True)
class UnlockBatchMqRequestHeader(RpcRequestHeader):
    """UNLOCK_BATCH_MQ, client to broker; the body names the queues."""

    CODE: ClassVar[RequestCode] = RequestCode.UNLOCK_BATCH_MQ


@dataclass(slots=True, kw_only=True)
class ResetOffsetRequestHeader(TopicRequestHeader):
    """RESET_CONSUMER_CLIENT_OFFSET (broker to client, oneway) and INVOKE_BROKER_TO_RESET_OFFSET (tool to broker).

    ``timestamp`` is ms since the epoch (-1 now); ``queue_id`` -1 is every queue; ``is_force`` also moves offsets forward.
    """

    CODE: ClassVar[RequestCode] = RequestCode.RESET_CONSUMER_CLIENT_OFFSET

    topic: str
    group: str
    queue_id: int = -1
    offset: int | None = None
    timestamp: int
    is_force: bool


@dataclass(slots=True, kw_only=True)
class GetConsumerStatusRequestHeader(TopicRequestHeader):
    """GET_CONSUMER_STATUS_FROM_CLIENT (broker to client) and INVOKE_BROKER_TO_GET_CONSUMER_STATUS (tool to broker)."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT

    topic: str
    group: str
    client_addr: str | None = None


@dataclass(slots=True, kw_only=True)
class GetConsumerRunningInfoRequestHeader(RpcRequestHeader):
    """GET_CONSUMER_RUNNING_INFO, tool to broker and broker to client."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_CONSUMER_RUNNING_INFO

    consumer_group: str
    client_id: str
    jstack_enable: bool = False


@dataclass(slots=True, kw_only=True)
class ConsumeMessageDirectlyResultRequestHeader(TopicRequestHeader):
    """CONSUME_MESSAGE_DIRECTLY, tool to broker and broker to client; the body is one stored message."""

    CODE: ClassVar[RequestCode] = RequestCode.CONSUME_MESSAGE_DIRECTLY

    consumer_group: str
    client_id: str | None = None
    msg_id: str | None = None
    broker_name: str | None = None
    topic: str | None = None
    topic_sys_flag: int | None = None
    group_sys_flag: int | None = None


@dataclass(slots=True, kw_only=True)
class QuerySubscriptionByConsumerRequestHeader(TopicRequestHeader):
    """QUERY_SUBSCRIPTION_BY_CONSUMER, client or tool to broker."""

    CODE: ClassVar[RequestCode] = RequestCode.QUERY_SUBSCRIPTION_BY_CONSUMER

    group: str
    topic: str | None = None


@dataclass(slots=True, kw_only=True)
class GetConsumeStatsRequestHeader(TopicRequestHeader):
    """GET_CONSUME_STATS, tool to broker; ``topic_list`` is separated by ``;``."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_CONSUME_STATS

    consumer_group: str
    topic: str | None = None
    topic_list: str | None = None


@dataclass(slots=True, kw_only=True)
class GetConsumerConnectionListRequestHeader(RpcRequestHeader):
    """GET_CONSUMER_CONNECTION_LIST, tool to broker."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_CONSUMER_CONNECTION_LIST

    consumer_group: str


@dataclass(slots=True, kw_only=True)
class GetProducerConnectionListRequestHeader(RpcRequestHeader):
    """GET_PRODUCER_CONNECTION_LIST, tool to broker."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_PRODUCER_CONNECTION_LIST

    producer_group: str


@dataclass(slots=True, kw_only=True)
class GetSubscriptionGroupConfigRequestHeader(RpcRequestHeader):
    """GET_SUBSCRIPTIONGROUP_CONFIG, tool to broker."""

    CODE: ClassVar[RequestCode] = RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG

    group: str


@dataclass(slots=True, kw_only=True)
class DeleteSubscriptionGroupRequestHeader(RpcRequestHeader):
    """DELETE_SUBSCRIPTIONGROUP, tool to broker; ``clean_offset`` forgets the group's offsets as well."""

    CODE: ClassVar[RequestCode] = RequestCode.DELETE_SUBSCRIPTIONGROUP

    group_name: str
    clean_offset: bool = False
