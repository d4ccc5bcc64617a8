"""What operators ask of a consumer: its state, one message consumed now, its group's settings.

Source: Apache RocketMQ 5.3.3, module remoting, ``ConsumerRunningInfo``, ``ProcessQueueInfo``, ``PopProcessQueueInfo``,
``ConsumeStatus``, ``ConsumeMessageDirectlyResult``, ``CMResult``, package ``protocol.subscription``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from grocketmq.model.route import MASTER_ID, MessageQueue
from grocketmq.model.subscription import SubscriptionData
from grocketmq.wire.bodies.heartbeat import SUBSCRIPTION
from grocketmq.wire.bodies.schema import (
    DOUBLE,
    FLAG,
    INTEGER,
    QUEUE,
    TEXT,
    Body,
    Named,
    enumeration,
    listing,
    optional,
    record,
    table,
)

__all__ = [
    "DIRECT_RESULT",
    "GROUP_CONFIG",
    "RUNNING_INFO",
    "CMResult",
    "ConsumeMessageDirectlyResult",
    "ConsumeStatus",
    "ConsumerRunningInfo",
    "CustomizedRetryPolicy",
    "ExponentialRetryPolicy",
    "GroupRetryPolicy",
    "PopProcessQueueInfo",
    "ProcessQueueInfo",
    "SimpleSubscriptionData",
    "SubscriptionGroupConfig",
]

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS


class CMResult(Enum):
    """How a message consumed on request ended."""

    SUCCESS = "CR_SUCCESS"
    LATER = "CR_LATER"
    ROLLBACK = "CR_ROLLBACK"
    COMMIT = "CR_COMMIT"
    THROW_EXCEPTION = "CR_THROW_EXCEPTION"
    RETURN_NULL = "CR_RETURN_NULL"


@dataclass(frozen=True)
class ConsumeMessageDirectlyResult:
    """Answer of a client that consumed one message on request."""

    consume_result: CMResult | None = None
    order: bool = False
    auto_commit: bool = True
    remark: str | None = None
    spent_time_mills: int = 0


@dataclass(frozen=True)
class ProcessQueueInfo:
    """A queue as its consumer sees it; times are ms since the epoch."""

    commit_offset: int = 0
    cached_msg_min_offset: int = 0
    cached_msg_max_offset: int = 0
    cached_msg_count: int = 0
    cached_msg_size_in_mib: int = 0
    transaction_msg_min_offset: int = 0
    transaction_msg_max_offset: int = 0
    transaction_msg_count: int = 0
    locked: bool = False
    try_unlock_times: int = 0
    last_lock_timestamp: int = 0
    dropped: bool = False
    last_pull_timestamp: int = 0
    last_consume_timestamp: int = 0


@dataclass(frozen=True)
class PopProcessQueueInfo:
    """A popped queue as its consumer sees it."""

    wait_ack_count: int = 0
    dropped: bool = False
    last_pop_timestamp: int = 0


@dataclass(frozen=True)
class ConsumeStatus:
    """Rates of one topic: round trips in ms, messages a second, failures of the last hour."""

    pull_rt: float = 0.0
    pull_tps: float = 0.0
    consume_rt: float = 0.0
    consume_ok_tps: float = 0.0
    consume_failed_tps: float = 0.0
    consume_failed_msgs: int = 0


@dataclass(frozen=True)
class ConsumerRunningInfo:
    """A consumer's whole state."""

    properties: Mapping[str, str] = field(default_factory=dict)
    subscription_set: tuple[SubscriptionData, ...] = ()
    mq_table: Mapping[MessageQueue, ProcessQueueInfo] = field(default_factory=dict)
    mq_pop_table: Mapping[MessageQueue, PopProcessQueueInfo] = field(default_factory=dict)
    status_table: Mapping[str, ConsumeStatus] = field(default_factory=dict)
    user_consumer_info: Mapping[str, str] = field(default_factory=dict)
    jstack: str | None = None


@dataclass(frozen=True)
class ExponentialRetryPolicy:
    """Delays that grow by a factor, in ms."""

    initial: int = 5_000
    max: int = 2 * _HOUR_MS
    multiplier: int = 2


@dataclass(frozen=True)
class CustomizedRetryPolicy:
    """A list of delays, in ms."""

    next: tuple[int, ...] = (
        *(1_000, 5_000, 10_000, 30_000),
        *(minutes * _MINUTE_MS for minutes in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30)),
        *(_HOUR_MS, 2 * _HOUR_MS),
    )


@dataclass(frozen=True)
class GroupRetryPolicy:
    """Which of the two holds for a group (``type`` is ``CUSTOMIZED`` or ``EXPONENTIAL``)."""

    type: str = "CUSTOMIZED"
    exponential_retry_policy: ExponentialRetryPolicy | None = None
    customized_retry_policy: CustomizedRetryPolicy | None = None


@dataclass(frozen=True)
class SimpleSubscriptionData:
    """A subscription fixed by an operator."""

    topic: str
    expression_type: str | None = None
    expression: str | None = None
    version: int = 0


@dataclass(frozen=True)
class SubscriptionGroupConfig:
    """A consumer group's settings on one broker."""

    group_name: str
    consume_enable: bool = True
    consume_from_min_enable: bool = True
    consume_broadcast_enable: bool = True
    consume_message_orderly: bool = False
    retry_queue_nums: int = 1
    retry_max_times: int = 16
    group_retry_policy: GroupRetryPolicy = GroupRetryPolicy()
    broker_id: int = MASTER_ID
    which_broker_when_consume_slowly: int = 1
    notify_consumer_ids_changed_enable: bool = True
    group_sys_flag: int = 0
    consume_timeout_minute: int = 15
    subscription_data_set: tuple[SimpleSubscriptionData, ...] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


_PROCESS_QUEUE = record(
    ProcessQueueInfo,
    commit_offset=INTEGER,
    cached_msg_min_offset=INTEGER,
    cached_msg_max_offset=INTEGER,
    cached_msg_count=INTEGER,
    cached_msg_size_in_mib=Named("cachedMsgSizeInMiB", INTEGER),
    transaction_msg_min_offset=INTEGER,
    transaction_msg_max_offset=INTEGER,
    transaction_msg_count=INTEGER,
    locked=FLAG,
    try_unlock_times=INTEGER,
    last_lock_timestamp=INTEGER,
    # The wire's own spelling.
    dropped=Named("droped", FLAG),
    last_pull_timestamp=INTEGER,
    last_consume_timestamp=INTEGER,
)
_POP_PROCESS_QUEUE = record(
    PopProcessQueueInfo, wait_ack_count=INTEGER, dropped=Named("droped", FLAG), last_pop_timestamp=INTEGER
)
_CONSUME_STATUS = record(
    ConsumeStatus,
    pull_rt=Named("pullRT", DOUBLE),
    pull_tps=Named("pullTPS", DOUBLE),
    consume_rt=Named("consumeRT", DOUBLE),
    consume_ok_tps=Named("consumeOKTPS", DOUBLE),
    consume_failed_tps=Named("consumeFailedTPS", DOUBLE),
    consume_failed_msgs=INTEGER,
)
_RETRY_POLICY = record(
    GroupRetryPolicy,
    type=TEXT,
    exponential_retry_policy=optional(record(ExponentialRetryPolicy, initial=INTEGER, max=INTEGER, multiplier=INTEGER)),
    customized_retry_policy=optional(record(CustomizedRetryPolicy, next=listing(INTEGER))),
)

#: Answer to CONSUME_MESSAGE_DIRECTLY.
DIRECT_RESULT = Body(
    "ConsumeMessageDirectlyResult",
    record(
        ConsumeMessageDirectlyResult,
        consume_result=enumeration(CMResult),
        order=FLAG,
        auto_commit=FLAG,
        remark=optional(TEXT),
        spent_time_mills=INTEGER,
    ),
)
#: Answer to GET_CONSUMER_RUNNING_INFO.
RUNNING_INFO = Body(
    "ConsumerRunningInfo",
    record(
        ConsumerRunningInfo,
        properties=table(TEXT, TEXT),
        subscription_set=listing(SUBSCRIPTION),
        mq_table=table(QUEUE, _PROCESS_QUEUE),
        mq_pop_table=table(QUEUE, _POP_PROCESS_QUEUE),
        status_table=table(TEXT, _CONSUME_STATUS),
        user_consumer_info=table(TEXT, TEXT),
        jstack=optional(TEXT),
    ),
)
#: UPDATE_AND_CREATE_SUBSCRIPTIONGROUP and the answer to GET_SUBSCRIPTIONGROUP_CONFIG.
GROUP_CONFIG = Body(
    "SubscriptionGroupConfig",
    record(
        SubscriptionGroupConfig,
        group_name=TEXT,
        consume_enable=FLAG,
        consume_from_min_enable=FLAG,
        consume_broadcast_enable=FLAG,
        consume_message_orderly=FLAG,
        retry_queue_nums=INTEGER,
        retry_max_times=INTEGER,
        group_retry_policy=_RETRY_POLICY,
        broker_id=INTEGER,
        which_broker_when_consume_slowly=INTEGER,
        notify_consumer_ids_changed_enable=FLAG,
        group_sys_flag=INTEGER,
        consume_timeout_minute=INTEGER,
        subscription_data_set=optional(
            listing(
                record(
                    SimpleSubscriptionData,
                    topic=TEXT,
                    expression_type=optional(TEXT),
                    expression=optional(TEXT),
                    version=INTEGER,
                )
            )
        ),
        attributes=table(TEXT, TEXT),
    ),
)
