"""Offsets of groups and topics, and resetting them.

Source: Apache RocketMQ 5.3.3, module remoting, ``ResetOffsetBody``, ``ResetOffsetBodyForC``, ``GetConsumerStatusBody``,
``ConsumeStats``, ``OffsetWrapper``, ``TopicStatsTable``, ``TopicOffset``; module client, class ``OffsetSerializeWrapper``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grocketmq.model.route import MessageQueue
from grocketmq.wire.bodies.schema import DOUBLE, INTEGER, QUEUE, TEXT, Body, listing, only, record, table

__all__ = [
    "CONSUMER_STATUS",
    "CONSUME_STATS",
    "OFFSETS",
    "RESET_OFFSET",
    "RESET_OFFSET_FOR_C",
    "TOPIC_STATS",
    "ConsumeStats",
    "GetConsumerStatusBody",
    "OffsetWrapper",
    "QueueOffset",
    "TopicOffset",
    "TopicStatsTable",
]


@dataclass(frozen=True)
class QueueOffset:
    """A queue and an offset in one object (``MessageQueueForC``)."""

    topic: str
    broker_name: str
    queue_id: int
    offset: int


@dataclass(frozen=True)
class GetConsumerStatusBody:
    """Where a consumer stands.

    :param message_queue_table: one client's offsets, what a client answers.
    :param consumer_table: client id -> offsets, what a broker answers.
    """

    message_queue_table: Mapping[MessageQueue, int] = field(default_factory=dict)
    consumer_table: Mapping[str, Mapping[MessageQueue, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class OffsetWrapper:
    """A group's progress in one queue; the time is ms since the epoch."""

    broker_offset: int = 0
    consumer_offset: int = 0
    pull_offset: int = 0
    last_timestamp: int = 0


@dataclass(frozen=True)
class ConsumeStats:
    """A group's progress."""

    offset_table: Mapping[MessageQueue, OffsetWrapper] = field(default_factory=dict)
    consume_tps: float = 0.0


@dataclass(frozen=True)
class TopicOffset:
    """What one queue holds; the time is ms since the epoch."""

    min_offset: int = 0
    max_offset: int = 0
    last_update_timestamp: int = 0


@dataclass(frozen=True)
class TopicStatsTable:
    """What a topic's queues hold."""

    offset_table: Mapping[MessageQueue, TopicOffset] = field(default_factory=dict)
    topic_put_tps: float = 0.0


_OFFSETS = table(QUEUE, INTEGER)

#: RESET_CONSUMER_CLIENT_OFFSET to a Java client, and the answer to INVOKE_BROKER_TO_RESET_OFFSET: queue -> offset.
RESET_OFFSET = Body("ResetOffsetBody", only("offsetTable", _OFFSETS))
#: The same, to clients of other languages.
RESET_OFFSET_FOR_C = Body(
    "ResetOffsetBodyForC",
    only("offsetTable", listing(record(QueueOffset, topic=TEXT, broker_name=TEXT, queue_id=INTEGER, offset=INTEGER))),
)
#: A local offset file: queue -> offset.
OFFSETS = Body("OffsetSerializeWrapper", only("offsetTable", _OFFSETS))
#: Answer to GET_CONSUMER_STATUS_FROM_CLIENT and INVOKE_BROKER_TO_GET_CONSUMER_STATUS.
CONSUMER_STATUS = Body(
    "GetConsumerStatusBody",
    record(GetConsumerStatusBody, message_queue_table=_OFFSETS, consumer_table=table(TEXT, _OFFSETS)),
)
#: Answer to GET_CONSUME_STATS.
CONSUME_STATS = Body(
    "ConsumeStats",
    record(
        ConsumeStats,
        offset_table=table(
            QUEUE,
            record(
                OffsetWrapper,
                broker_offset=INTEGER,
                consumer_offset=INTEGER,
                pull_offset=INTEGER,
                last_timestamp=INTEGER,
            ),
        ),
        consume_tps=DOUBLE,
    ),
)
#: Answer to GET_TOPIC_STATS_INFO.
TOPIC_STATS = Body(
    "TopicStatsTable",
    record(
        TopicStatsTable,
        offset_table=table(QUEUE, record(TopicOffset, min_offset=INTEGER, max_offset=INTEGER, last_update_timestamp=INTEGER)),
        topic_put_tps=DOUBLE,
    ),
)
