"""Who is connected, lists of groups, and tables of settings: what tools ask brokers for.

Source: Apache RocketMQ 5.3.3, module remoting, ``Connection``, ``ConsumerConnection``, ``ProducerConnection``, ``GroupList``,
``KVTable``, ``TopicConfigSerializeWrapper``, ``SubscriptionGroupWrapper``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grocketmq.model.subscription import ConsumeFromWhere, MessageModel, SubscriptionData
from grocketmq.wire.bodies.consumer import GROUP_CONFIG
from grocketmq.wire.bodies.heartbeat import CONSUME_FROM_WHERE, CONSUME_TYPE, MESSAGE_MODEL, SUBSCRIPTION, ConsumeType
from grocketmq.wire.bodies.route import TOPIC_CONFIG
from grocketmq.wire.bodies.schema import INTEGER, TEXT, Body, listing, only, optional, record, table

__all__ = [
    "CONSUMER_CONNECTION",
    "GROUP_CONFIGS",
    "GROUP_LIST",
    "KV_TABLE",
    "PRODUCER_CONNECTION",
    "TOPIC_CONFIGS",
    "Connection",
    "ConsumerConnection",
]


@dataclass(frozen=True)
class Connection:
    """One client's connection to a broker.

    :param language: the name of what the client is written in.
    :param version: the ``MQVersion`` ordinal it told.
    """

    client_id: str
    client_addr: str
    language: str | None = None
    version: int = 0


@dataclass(frozen=True)
class ConsumerConnection:
    """A consumer group's connections, and how it consumes."""

    connection_set: tuple[Connection, ...] = ()
    subscription_table: Mapping[str, SubscriptionData] = field(default_factory=dict)
    consume_type: ConsumeType | None = None
    message_model: MessageModel | None = None
    consume_from_where: ConsumeFromWhere | None = None


_CONNECTION = record(Connection, client_id=TEXT, client_addr=TEXT, language=optional(TEXT), version=INTEGER)

#: Answer to GET_CONSUMER_CONNECTION_LIST.
CONSUMER_CONNECTION = Body(
    "ConsumerConnection",
    record(
        ConsumerConnection,
        connection_set=listing(_CONNECTION),
        subscription_table=table(TEXT, SUBSCRIPTION),
        consume_type=CONSUME_TYPE,
        message_model=MESSAGE_MODEL,
        consume_from_where=CONSUME_FROM_WHERE,
    ),
)
#: Answer to GET_PRODUCER_CONNECTION_LIST.
PRODUCER_CONNECTION = Body("ProducerConnection", only("connectionSet", listing(_CONNECTION)))
#: Answer to QUERY_TOPIC_CONSUME_BY_WHO.
GROUP_LIST = Body("GroupList", only("groupList", listing(TEXT)))
#: Answer to GET_BROKER_RUNTIME_INFO and GET_KVLIST_BY_NAMESPACE.
KV_TABLE = Body("KVTable", only("table", table(TEXT, TEXT)))
#: Answer to GET_ALL_TOPIC_CONFIG.
TOPIC_CONFIGS = Body("TopicConfigSerializeWrapper", only("topicConfigTable", table(TEXT, TOPIC_CONFIG.schema)))
#: Answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG.
GROUP_CONFIGS = Body("SubscriptionGroupWrapper", only("subscriptionGroupTable", table(TEXT, GROUP_CONFIG.schema)))
