"""Allocation by the broker, and acknowledging popped messages in one go.

Source: Apache RocketMQ 5.3.3, module remoting, ``QueryAssignmentRequestBody``, ``QueryAssignmentResponseBody``,
``SetMessageRequestModeRequestBody``, ``BatchAckMessageRequestBody``, ``BatchAck``, ``BitSetSerializerDeserializer``; module
common, classes ``MessageQueueAssignment``, ``MessageRequestMode``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import MessageModel
from grocketmq.wire.bodies.heartbeat import MESSAGE_MODEL
from grocketmq.wire.bodies.schema import (
    INTEGER,
    QUEUE,
    TEXT,
    Body,
    Misfit,
    Named,
    Schema,
    enumeration,
    listing,
    only,
    optional,
    record,
    table,
)

__all__ = [
    "ASSIGNMENTS",
    "BATCH_ACK",
    "QUERY_ASSIGNMENT",
    "REQUEST_MODE",
    "BatchAck",
    "BatchAckMessageRequestBody",
    "MessageQueueAssignment",
    "MessageRequestMode",
    "QueryAssignmentRequestBody",
    "SetMessageRequestModeRequestBody",
]


class MessageRequestMode(Enum):
    """How a group's members fetch a topic."""

    PULL = "PULL"
    POP = "POP"


@dataclass(frozen=True)
class QueryAssignmentRequestBody:
    """Which queues are mine, for a topic that the broker shares out."""

    topic: str
    consumer_group: str
    client_id: str
    strategy_name: str
    message_model: MessageModel | None = None


@dataclass(frozen=True)
class MessageQueueAssignment:
    """One of the queues; negative ids stand for popping from any queue."""

    message_queue: MessageQueue
    mode: MessageRequestMode | None = MessageRequestMode.PULL
    attachments: Mapping[str, str] | None = None


@dataclass(frozen=True)
class SetMessageRequestModeRequestBody:
    """How a group shall fetch a topic from now on.

    :param pop_share_queue_num: how many members share a queue when popping; 0 and below: all.
    """

    topic: str
    consumer_group: str
    mode: MessageRequestMode | None = MessageRequestMode.PULL
    pop_share_queue_num: int = 0


@dataclass(frozen=True)
class BatchAck:
    """Messages of one pop of one queue.

    :param retry: ``"1"`` when they come from the group's retry topic.
    :param bit_set: bit n set: the message at ``start_offset`` + n is acknowledged.
    """

    consumer_group: str
    topic: str
    retry: str
    start_offset: int
    queue_id: int
    revive_queue_id: int
    pop_time: int
    invisible_time: int
    bit_set: int


@dataclass(frozen=True)
class BatchAckMessageRequestBody:
    """All of them for one broker."""

    broker_name: str
    acks: tuple[BatchAck, ...] = ()


def _read_bits(value: Any) -> int:
    try:
        return int.from_bytes(base64.b64decode(value, validate=True), "little")
    except (TypeError, ValueError, binascii.Error):
        raise Misfit("bits in base 64", value) from None


def _write_bits(bits: int) -> str:
    return base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode("ascii")


_BITS: Schema[int] = Schema(_read_bits, _write_bits, int)
_MODE = enumeration(MessageRequestMode)

#: QUERY_ASSIGNMENT.
QUERY_ASSIGNMENT = Body(
    "QueryAssignmentRequestBody",
    record(
        QueryAssignmentRequestBody,
        topic=TEXT,
        consumer_group=TEXT,
        client_id=TEXT,
        strategy_name=TEXT,
        message_model=MESSAGE_MODEL,
    ),
)
_ASSIGNMENT = record(MessageQueueAssignment, message_queue=QUEUE, mode=_MODE, attachments=optional(table(TEXT, TEXT)))
#: Answer to QUERY_ASSIGNMENT; None, unlike no queue at all, means that the broker cannot tell.
ASSIGNMENTS = Body("QueryAssignmentResponseBody", only("messageQueueAssignments", optional(listing(_ASSIGNMENT))))
#: SET_MESSAGE_REQUEST_MODE.
REQUEST_MODE = Body(
    "SetMessageRequestModeRequestBody",
    record(SetMessageRequestModeRequestBody, topic=TEXT, consumer_group=TEXT, mode=_MODE, pop_share_queue_num=INTEGER),
)
#: BATCH_ACK_MESSAGE; written with short names, read with long ones as well.
BATCH_ACK = Body(
    "BatchAckMessageRequestBody",
    record(
        BatchAckMessageRequestBody,
        broker_name=TEXT,
        acks=listing(
            record(
                BatchAck,
                consumer_group=Named("c", TEXT, ("consumerGroup",)),
                topic=Named("t", TEXT, ("topic",)),
                retry=Named("r", TEXT, ("retry",)),
                start_offset=Named("so", INTEGER, ("startOffset",)),
                queue_id=Named("q", INTEGER, ("queueId",)),
                revive_queue_id=Named("rq", INTEGER, ("reviveQueueId",)),
                pop_time=Named("pt", INTEGER, ("popTime",)),
                invisible_time=Named("it", INTEGER, ("invisibleTime",)),
                bit_set=Named("b", _BITS, ("bitSet",)),
            )
        ),
    ),
)
