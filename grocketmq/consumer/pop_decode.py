"""Reads what a pop found: each message gets its ``POP_CK``, by which it is acknowledged.

Nothing here blocks, and no body is unpacked.

Source: Apache RocketMQ 5.3.3, module client, class ``MQClientAPIImpl`` (``processPopResponse``); module broker, class
``PopMessageProcessor`` (which writes the check points of retried messages itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grocketmq.errors import RemoteProtocolError
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import Property
from grocketmq.wire.headers import PopMessageResponseHeader
from grocketmq.wire.message_codec import decode_messages
from grocketmq.wire.pop_info import (
    PopCheckPoint,
    decode_msg_offset_info,
    decode_order_count_info,
    decode_pop_ck,
    decode_start_offset_info,
    message_key,
    queue_key,
    retry_flag,
)

__all__ = ["check_point_of", "decode_popped"]


def decode_popped(topic: str, broker_name: str, header: PopMessageResponseHeader, body: bytes) -> list[MessageExt]:
    """The messages of a pop's answer, bodies still packed.

    :param topic: the topic that was popped; messages of its retry topics come under it.
    :param broker_name: the broker that answered.
    :param header: the answer's.
    :param body: the stored messages, one after the other.
    :raises RemoteProtocolError: for a message that cannot be read, for tables of another form, and for a message that
        they do not name.
    """
    places = _Places(
        broker_name,
        header,
        decode_start_offset_info(header.start_offset_info),
        decode_msg_offset_info(header.msg_offset_info),
    )
    counts = decode_order_count_info(header.order_count_info)
    messages = decode_messages(body, broker_name=broker_name, decompress=False)
    for message in messages:
        point = _given_point(message, header) or places.point_of(message)
        message.properties[Property.POP_CK] = str(point)
        message.properties.setdefault(Property.FIRST_POP_TIME, str(header.pop_time))
        if counts:
            _count_tries(message, point, counts)
        message.topic = topic
    return messages


def check_point_of(message: MessageExt) -> PopCheckPoint:
    """By what a message was popped, its own offset included.

    :param message: a popped message.
    :raises RemoteProtocolError: when its ``POP_CK`` is missing or cannot be read.
    """
    point = decode_pop_ck(message.properties.get(Property.POP_CK, ""))
    if point.queue_offset is None:
        raise RemoteProtocolError(f"POP_CK {str(point)!r} names no message")
    return point


@dataclass
class _Places:
    """Where the messages of an answer stand in their queues."""

    broker_name: str
    header: PopMessageResponseHeader
    starts: dict[str, int]
    offsets: dict[str, list[int]]
    seen: dict[str, int] = field(default_factory=dict)
    first: dict[tuple[str, int], int] = field(default_factory=dict)

    def point_of(self, message: MessageExt) -> PopCheckPoint:
        """The check point of the next message of its queue: the tables name them in the order they come."""
        flag, queue_id = retry_flag(message.topic), message.queue_id
        if self.starts:
            key = queue_key(flag, queue_id)
            index = self.seen.get(key, 0)
            self.seen[key] = index + 1
            start, offsets = self.starts.get(key), self.offsets.get(key, [])
            if start is None or index >= len(offsets):
                raise RemoteProtocolError(
                    f"pop of {message.topic}: startOffsetInfo and msgOffsetInfo do not name message {index} of queue {key}"
                )
            offset = offsets[index]
        else:
            offset = message.queue_offset
            start = self.first.setdefault((message.topic, queue_id), offset)
        header = self.header
        return PopCheckPoint(
            start, header.pop_time, header.invisible_time, header.revive_qid, flag, self.broker_name, queue_id, offset
        )


def _given_point(message: MessageExt, header: PopMessageResponseHeader) -> PopCheckPoint | None:
    """The check point that the broker put into a retried message, to which it gives its first topic back.

    One of another pop is left over from before: a message that somebody sent again with all its properties.
    """
    text = message.properties.get(Property.POP_CK)
    if text is None:
        return None
    try:
        point = decode_pop_ck(text)
    except RemoteProtocolError:
        return None
    return point if point.pop_time == header.pop_time and point.queue_offset is not None else None


def _count_tries(message: MessageExt, point: PopCheckPoint, counts: Mapping[str, int]) -> None:
    """In orderly consumption the broker counts the tries of a message, or of its queue, in a table of the answer."""
    assert point.queue_offset is not None
    of_queue = counts.get(queue_key(point.retry, point.queue_id), 0)
    tries = counts.get(message_key(point.retry, point.queue_id, point.queue_offset), of_queue)
    if tries > 0:
        message.reconsume_times = tries
