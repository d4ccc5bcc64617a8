"""The texts by which POP names messages that were handed out and are not acknowledged yet.

``POP_CK``, one space between the fields: offset the check point begins at, time of the pop (ms), invisible time (ms), revive
queue id, retry flag, broker name, queue id, queue offset of the message (may be missing).

The answer to a pop tells, for each queue it read, ``flag queue value``, joined by ``;``: start offset (``startOffsetInfo``),
offsets joined by ``,`` (``msgOffsetInfo``), number of tries in orderly consumption (``orderCountInfo``; its queue may be
``qo<queue>%<offset>`` for one message).

Source: Apache RocketMQ 5.3.3, module remoting, class ``ExtraInfoUtil``; module common, class ``KeyBuilder``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import TypeVar

from grocketmq.errors import RemoteProtocolError
from grocketmq.model.namespace import is_retry_topic, pop_retry_topic_v1, pop_retry_topic_v2
from grocketmq.wire.numbers import INT32, INT64, read_integer

__all__ = [
    "ORDER_REVIVE_QUEUE",
    "PopCheckPoint",
    "decode_msg_offset_info",
    "decode_order_count_info",
    "decode_pop_ck",
    "decode_start_offset_info",
    "message_key",
    "queue_key",
    "real_topic",
    "retry_flag",
]

#: The revive queue id that stands for orderly consumption.
ORDER_REVIVE_QUEUE = 999

_NORMAL = "0"
_RETRY_V1 = "1"
_RETRY_V2 = "2"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PopCheckPoint:
    """What a ``POP_CK`` says; ``str()`` writes it.

    :param ck_queue_offset: queue offset at which the check point begins.
    :param pop_time: when the message was handed out, ms since the epoch on the broker's clock.
    :param invisible_time: for how many ms nobody else gets it.
    :param revive_qid: the queue that remembers it.
    :param retry: "0" the topic itself, "1" and "2" its two forms of retry topic.
    :param broker_name: the broker.
    :param queue_id: the queue of that topic.
    :param queue_offset: the message's own offset; None for a whole pop.
    """

    ck_queue_offset: int
    pop_time: int
    invisible_time: int
    revive_qid: int
    retry: str
    broker_name: str
    queue_id: int
    queue_offset: int | None = None

    def __str__(self) -> str:
        return " ".join([str(value) for value in astuple(self) if value is not None])

    @property
    def is_order(self) -> bool:
        """Whether it belongs to orderly consumption."""
        return self.revive_qid == ORDER_REVIVE_QUEUE


def decode_pop_ck(text: str) -> PopCheckPoint:
    """Read a ``POP_CK``; never blocks.

    :param text: the property's value.
    :raises RemoteProtocolError: for missing fields and for numbers that are none.
    """
    fields = text.split(" ")
    if len(fields) < 7:
        raise RemoteProtocolError(f"POP_CK {text[:200]!r}: {len(fields)} fields instead of 7 or 8")
    offset, pop_time, invisible, revive, retry, broker, queue = fields[:7]
    return PopCheckPoint(
        _integer("POP_CK", offset),
        _integer("POP_CK", pop_time),
        _integer("POP_CK", invisible),
        _integer("POP_CK", revive, INT32),
        retry,
        broker,
        _integer("POP_CK", queue, INT32),
        _integer("POP_CK", fields[7]) if len(fields) > 7 else None,
    )


def retry_flag(topic: str) -> str:
    """The flag of a topic: "0" for a normal one, "1" and "2" for the two forms of retry topic."""
    if not is_retry_topic(topic):
        return _NORMAL
    return _RETRY_V2 if "+" in topic else _RETRY_V1


def real_topic(retry: str, topic: str, group: str) -> str:
    """The topic in which the broker finds a message.

    :param retry: the flag.
    :param topic: the topic that was subscribed.
    :param group: the group it was popped for.
    :raises RemoteProtocolError: for another flag.
    """
    if retry == _NORMAL:
        return topic
    if retry == _RETRY_V1:
        return pop_retry_topic_v1(topic, group)
    if retry == _RETRY_V2:
        return pop_retry_topic_v2(topic, group)
    raise RemoteProtocolError(f"POP_CK: retry flag {retry[:20]!r}")


def queue_key(retry: str, queue_id: int) -> str:
    """By which the tables below name a queue."""
    return f"{retry}@{queue_id}"


def message_key(retry: str, queue_id: int, queue_offset: int) -> str:
    """By which the table of :func:`decode_order_count_info` names one message."""
    return f"{retry}@qo{queue_id}%{queue_offset}"


def decode_start_offset_info(text: str | None) -> dict[str, int]:
    """Read ``startOffsetInfo``: :func:`queue_key` -> the offset its check point begins at; never blocks.

    :param text: the answer's field; None or ``""`` gives an empty table.
    :raises RemoteProtocolError: for an entry of another form, and for a queue that comes twice.
    """
    return _table("startOffsetInfo", text, lambda value: _integer("startOffsetInfo", value))


def decode_msg_offset_info(text: str | None) -> dict[str, list[int]]:
    """Read ``msgOffsetInfo``: :func:`queue_key` -> queue offsets of the messages handed out; never blocks.

    :param text: the answer's field; None or ``""`` gives an empty table.
    :raises RemoteProtocolError: for an entry of another form, and for a queue that comes twice.
    """
    return _table("msgOffsetInfo", text, lambda value: [_integer("msgOffsetInfo", one) for one in value.split(",")])


def decode_order_count_info(text: str | None) -> dict[str, int]:
    """Read ``orderCountInfo``: :func:`queue_key` or :func:`message_key` -> how often it was handed out before; never blocks.

    :param text: the answer's field; None or ``""`` gives an empty table.
    :raises RemoteProtocolError: for an entry of another form, and for a queue that comes twice.
    """
    return _table("orderCountInfo", text, lambda value: _integer("orderCountInfo", value, INT32))


def _table(field: str, text: str | None, read: Callable[[str], _T]) -> dict[str, _T]:
    table: dict[str, _T] = {}
    for entry in text.rstrip(";").split(";") if text else ():
        pieces = entry.split(" ")
        if len(pieces) != 3:
            raise RemoteProtocolError(f"{field}: entry {entry[:200]!r} has {len(pieces)} fields instead of 3")
        key = f"{pieces[0]}@{pieces[1]}"
        if key in table:
            raise RemoteProtocolError(f"{field}: {key} comes twice")
        table[key] = read(pieces[2])
    return table


def _integer(field: str, text: str, bounds: range = INT64) -> int:
    number = read_integer(text)
    if number is None or number not in bounds:
        raise RemoteProtocolError(f"{field}: {text[:40]!r} is no number of {bounds.stop.bit_length()} bits")
    return number
