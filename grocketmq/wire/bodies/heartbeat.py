"""Heartbeats, members of groups, locks.

Source: Apache RocketMQ 5.3.3, module remoting, packages ``protocol.heartbeat`` and ``protocol.body``: ``HeartbeatData``,
``ConsumerData``, ``SubscriptionData``, ``GetConsumerListByGroupResponseBody``, ``CheckClientRequestBody``,
``LockBatchRequestBody`` and its relatives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from grocketmq.hashing import java_string_hash
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ConsumeFromWhere, MessageModel, SubscriptionData
from grocketmq.wire.bodies.schema import (
    FLAG,
    INTEGER,
    QUEUE,
    TEXT,
    Body,
    Named,
    enumeration,
    listing,
    only,
    optional,
    record,
)

__all__ = [
    "CHECK_CLIENT",
    "CONSUMER_LIST",
    "CONSUME_FROM_WHERE",
    "CONSUME_TYPE",
    "GROUP_SUBSCRIPTION",
    "HEARTBEAT",
    "LOCK_REQUEST",
    "LOCK_RESPONSE",
    "MESSAGE_MODEL",
    "SUBSCRIPTION",
    "UNLOCK_REQUEST",
    "CheckClientRequestBody",
    "ConsumeType",
    "ConsumerData",
    "HeartbeatData",
    "LockBatchRequestBody",
    "ProducerData",
    "heartbeat_fingerprint",
    "normalised_heartbeat",
]


class ConsumeType(Enum):
    """How a consumer gets its messages, by the names of the wire."""

    ACTIVELY = "CONSUME_ACTIVELY"
    PASSIVELY = "CONSUME_PASSIVELY"
    POP = "CONSUME_POP"


@dataclass(frozen=True)
class ProducerData:
    """One producer group of a heartbeat."""

    group_name: str


@dataclass(frozen=True)
class ConsumerData:
    """One consumer group of a heartbeat."""

    group_name: str
    consume_type: ConsumeType | None = None
    message_model: MessageModel | None = None
    consume_from_where: ConsumeFromWhere | None = None
    subscriptions: tuple[SubscriptionData, ...] = ()
    unit_mode: bool = False


@dataclass(frozen=True)
class HeartbeatData:
    """What a client tells every broker.

    :param client_id: the client's id.
    :param producers: its producer groups.
    :param consumers: its consumer groups with their subscriptions.
    :param heartbeat_fingerprint: see :func:`heartbeat_fingerprint`; 0 for the plain heartbeat.
    :param without_sub: whether the subscriptions were left out because the broker knows the fingerprint.
    """

    client_id: str
    producers: tuple[ProducerData, ...] = ()
    consumers: tuple[ConsumerData, ...] = ()
    heartbeat_fingerprint: int = 0
    without_sub: bool = False


@dataclass(frozen=True)
class CheckClientRequestBody:
    """A subscription to be checked before a consumer starts."""

    client_id: str
    group: str
    subscription_data: SubscriptionData
    namespace: str | None = None


@dataclass(frozen=True)
class LockBatchRequestBody:
    """Queues that a client wants for itself, or gives back."""

    consumer_group: str
    client_id: str
    mq_set: tuple[MessageQueue, ...] = ()
    only_this_broker: bool = False


SUBSCRIPTION = record(
    SubscriptionData,
    topic=TEXT,
    sub_string=TEXT,
    tags=Named("tagsSet", listing(TEXT)),
    codes=Named("codeSet", listing(INTEGER)),
    sub_version=INTEGER,
    expression_type=TEXT,
    class_filter_mode=FLAG,
)
CONSUME_TYPE = enumeration(ConsumeType)
MESSAGE_MODEL = enumeration(MessageModel, "BROADCASTING", "CLUSTERING")
CONSUME_FROM_WHERE = enumeration(
    ConsumeFromWhere,
    "CONSUME_FROM_LAST_OFFSET",
    "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
    "CONSUME_FROM_MIN_OFFSET",
    "CONSUME_FROM_MAX_OFFSET",
    "CONSUME_FROM_FIRST_OFFSET",
    "CONSUME_FROM_TIMESTAMP",
)
_CONSUMER = record(
    ConsumerData,
    group_name=TEXT,
    consume_type=CONSUME_TYPE,
    message_model=MESSAGE_MODEL,
    consume_from_where=CONSUME_FROM_WHERE,
    subscriptions=Named("subscriptionDataSet", listing(SUBSCRIPTION)),
    unit_mode=FLAG,
)
_LOCK = record(LockBatchRequestBody, consumer_group=TEXT, client_id=TEXT, mq_set=listing(QUEUE), only_this_broker=FLAG)

#: HEART_BEAT.
HEARTBEAT = Body(
    "HeartbeatData",
    record(
        HeartbeatData,
        client_id=Named("clientID", TEXT),
        producers=Named("producerDataSet", listing(record(ProducerData, group_name=TEXT))),
        consumers=Named("consumerDataSet", listing(_CONSUMER)),
        heartbeat_fingerprint=INTEGER,
        without_sub=FLAG,
    ),
)
#: Answer to GET_CONSUMER_LIST_BY_GROUP: the client ids.
CONSUMER_LIST = Body("GetConsumerListByGroupResponseBody", only("consumerIdList", listing(TEXT)))
#: CHECK_CLIENT_CONFIG.
CHECK_CLIENT = Body(
    "CheckClientRequestBody",
    record(CheckClientRequestBody, client_id=TEXT, group=TEXT, subscription_data=SUBSCRIPTION, namespace=optional(TEXT)),
)
#: Answer to QUERY_SUBSCRIPTION_BY_CONSUMER: what the broker was told last of a group and topic; None for nothing.
GROUP_SUBSCRIPTION = Body("QuerySubscriptionResponseBody", only("subscriptionData", optional(SUBSCRIPTION)))
#: LOCK_BATCH_MQ.
LOCK_REQUEST = Body("LockBatchRequestBody", _LOCK)
#: Answer to LOCK_BATCH_MQ: the queues that are the client's now.
LOCK_RESPONSE = Body("LockBatchResponseBody", only("lockOKMQSet", listing(QUEUE)))
#: UNLOCK_BATCH_MQ.
UNLOCK_REQUEST = Body("UnlockBatchRequestBody", _LOCK)


def normalised_heartbeat(data: HeartbeatData) -> HeartbeatData:
    """A heartbeat without what differs between two that mean the same; never blocks."""

    def plain(consumer: ConsumerData) -> ConsumerData:
        return replace(consumer, subscriptions=tuple(replace(one, sub_version=0) for one in consumer.subscriptions))

    consumers = tuple(plain(consumer) for consumer in data.consumers)
    return replace(data, client_id="", consumers=consumers, heartbeat_fingerprint=0, without_sub=False)


def heartbeat_fingerprint(data: HeartbeatData) -> int:
    """What stands for the subscriptions in a short heartbeat; never blocks.

    It depends on the order of groups, subscriptions and tags: keep them in one order.

    :param data: the full heartbeat.
    :returns: a signed 32-bit number.

    Source: Apache RocketMQ 5.3.3, class ``HeartbeatData``, method ``computeHeartbeatFingerprint``.
    """
    return java_string_hash(HEARTBEAT.encode(normalised_heartbeat(data)).decode("utf-8"))
