"""Routes, clusters, topics.

Source: Apache RocketMQ 5.3.3, module remoting, packages ``protocol.route`` and ``protocol.body``: ``TopicRouteData``,
``QueueData``, ``BrokerData``, ``ClusterInfo``, ``TopicList``; module common, class ``TopicConfig``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grocketmq.model.route import BrokerData, Permission, QueueData, TopicQueueMappingInfo, TopicRouteData
from grocketmq.wire.bodies.schema import ANYTHING, FLAG, INTEGER, TEXT, Body, listing, optional, record, table

__all__ = ["CLUSTER_INFO", "TOPIC_CONFIG", "TOPIC_LIST", "TOPIC_ROUTE", "ClusterInfo", "TopicConfig", "TopicList"]


@dataclass(frozen=True)
class ClusterInfo:
    """All brokers a name server knows.

    :param broker_addr_table: broker name -> its addresses.
    :param cluster_addr_table: cluster -> names of its brokers.
    """

    broker_addr_table: Mapping[str, BrokerData] = field(default_factory=dict)
    cluster_addr_table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class TopicList:
    """Names of topics."""

    topic_list: tuple[str, ...] = ()
    broker_addr: str | None = None


@dataclass(frozen=True)
class TopicConfig:
    """A topic's settings on one broker."""

    topic_name: str
    read_queue_nums: int = 16
    write_queue_nums: int = 16
    perm: int = Permission.READ | Permission.WRITE
    topic_filter_type: str = "SINGLE_TAG"
    topic_sys_flag: int = 0
    order: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


_BROKER = record(
    BrokerData,
    broker_name=TEXT,
    broker_addrs=table(INTEGER, TEXT),
    cluster=TEXT,
    zone_name=optional(TEXT),
    enable_acting_master=FLAG,
)
_QUEUE_DATA = record(
    QueueData, broker_name=TEXT, read_queue_nums=INTEGER, write_queue_nums=INTEGER, perm=INTEGER, topic_sys_flag=INTEGER
)

_QUEUE_MAPPING = record(
    TopicQueueMappingInfo,
    topic=TEXT,
    scope=optional(TEXT),
    total_queues=INTEGER,
    bname=TEXT,
    epoch=INTEGER,
    dirty=FLAG,
    curr_id_map=table(INTEGER, INTEGER),
)

#: Answer to GET_ROUTEINFO_BY_TOPIC.
TOPIC_ROUTE = Body(
    "TopicRouteData",
    record(
        TopicRouteData,
        queue_datas=listing(_QUEUE_DATA),
        broker_datas=listing(_BROKER),
        order_topic_conf=optional(TEXT),
        filter_server_table=table(TEXT, ANYTHING),
        topic_queue_mapping_by_broker=optional(table(TEXT, _QUEUE_MAPPING)),
    ),
)
#: Answer to GET_BROKER_CLUSTER_INFO, never strict JSON.
CLUSTER_INFO = Body(
    "ClusterInfo",
    record(ClusterInfo, broker_addr_table=table(TEXT, _BROKER), cluster_addr_table=table(TEXT, listing(TEXT))),
)
#: Answer to the requests for lists of topics.
TOPIC_LIST = Body("TopicList", record(TopicList, topic_list=listing(TEXT), broker_addr=optional(TEXT)))
#: Answer to GET_TOPIC_CONFIG.
TOPIC_CONFIG = Body(
    "TopicConfig",
    record(
        TopicConfig,
        topic_name=TEXT,
        read_queue_nums=INTEGER,
        write_queue_nums=INTEGER,
        perm=INTEGER,
        topic_filter_type=TEXT,
        topic_sys_flag=INTEGER,
        order=FLAG,
        attributes=table(TEXT, TEXT),
    ),
)
