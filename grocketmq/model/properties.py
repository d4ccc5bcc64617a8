"""Names of message properties and the text form in which they travel.

The text is ``key 0x01 value 0x02`` for each property.

Source: Apache RocketMQ 5.3.3, module common, classes ``MessageConst`` and ``MessageDecoder``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from grocketmq.errors import MessageError

__all__ = [
    "MAX_PROPERTIES_BYTES",
    "RESERVED_NAMES",
    "Property",
    "check_property_text",
    "checked_properties",
    "decode_properties",
    "encode_properties",
]

#: The length field of a stored message's properties is a signed 16-bit integer.
MAX_PROPERTIES_BYTES = 32767

_NAME_VALUE = "\x01"
_PROPERTY_END = "\x02"
#: The shortest piece that can hold a name, the separator and a value.
_SHORTEST_PIECE = 3
#: Control characters.  Two of them are separators here; they and others are in traces, logs and operators' tools.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: The same without tab and line ends, which a value of one's own may hold.
_CONTROL_BUT_LAYOUT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Property:
    """Names that brokers and clients give a meaning to."""

    KEYS = "KEYS"
    TAGS = "TAGS"
    WAIT_STORE_MSG_OK = "WAIT"
    DELAY_TIME_LEVEL = "DELAY"
    RETRY_TOPIC = "RETRY_TOPIC"
    REAL_TOPIC = "REAL_TOPIC"
    REAL_QUEUE_ID = "REAL_QID"
    TRANSACTION_PREPARED = "TRAN_MSG"
    PRODUCER_GROUP = "PGROUP"
    MIN_OFFSET = "MIN_OFFSET"
    MAX_OFFSET = "MAX_OFFSET"
    BUYER_ID = "BUYER_ID"
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID"
    TRANSFER_FLAG = "TRANSFER_FLAG"
    CORRECTION_FLAG = "CORRECTION_FLAG"
    MQ2_FLAG = "MQ2_FLAG"
    RECONSUME_TIME = "RECONSUME_TIME"
    MSG_REGION = "MSG_REGION"
    TRACE_SWITCH = "TRACE_ON"
    UNIQ_KEY = "UNIQ_KEY"
    EXTEND_UNIQ_INFO = "EXTEND_UNIQ_INFO"
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES"
    CONSUME_START_TIME = "CONSUME_START_TIME"
    INNER_NUM = "INNER_NUM"
    INNER_BASE = "INNER_BASE"
    DUP_INFO = "DUP_INFO"
    CHECK_IMMUNITY_TIME_IN_SECONDS = "CHECK_IMMUNITY_TIME_IN_SECONDS"
    TRANSACTION_PREPARED_QUEUE_OFFSET = "TRAN_PREPARED_QUEUE_OFFSET"
    TRANSACTION_ID = "__transactionId__"
    TRANSACTION_CHECK_TIMES = "TRANSACTION_CHECK_TIMES"
    INSTANCE_ID = "INSTANCE_ID"
    CORRELATION_ID = "CORRELATION_ID"
    REPLY_TO_CLIENT = "REPLY_TO_CLIENT"
    TTL = "TTL"
    ARRIVE_TIME = "ARRIVE_TIME"
    PUSH_REPLY_TIME = "PUSH_REPLY_TIME"
    CLUSTER = "CLUSTER"
    MESSAGE_TYPE = "MSG_TYPE"
    POP_CK = "POP_CK"
    POP_CK_OFFSET = "POP_CK_OFFSET"
    FIRST_POP_TIME = "1ST_POP_TIME"
    SHARDING_KEY = "__SHARDINGKEY"
    INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET"
    TRACE_CONTEXT = "TRACE_CONTEXT"
    TIMER_DELAY_SEC = "TIMER_DELAY_SEC"
    TIMER_DELAY_MS = "TIMER_DELAY_MS"
    TIMER_DELIVER_MS = "TIMER_DELIVER_MS"
    TIMER_ENQUEUE_MS = "TIMER_ENQUEUE_MS"
    TIMER_DEQUEUE_MS = "TIMER_DEQUEUE_MS"
    TIMER_ROLL_TIMES = "TIMER_ROLL_TIMES"
    TIMER_OUT_MS = "TIMER_OUT_MS"
    TIMER_DEL_UNIQKEY = "TIMER_DEL_UNIQKEY"
    TIMER_DELAY_LEVEL = "TIMER_DELAY_LEVEL"
    BORN_HOST = "__BORNHOST"
    BORN_TIMESTAMP = "BORN_TIMESTAMP"
    DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC"
    DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID"
    CRC32 = "__CRC32#"


#: Names a user may not choose for a property of his own; the same set as ``MessageConst.STRING_HASH_SET``.
RESERVED_NAMES = frozenset(
    value for name, value in vars(Property).items() if not name.startswith("_") and isinstance(value, str)
) - {
    Property.SHARDING_KEY,
    Property.INNER_NUM,
    Property.INNER_BASE,
    Property.CHECK_IMMUNITY_TIME_IN_SECONDS,
    Property.TRANSACTION_ID,
    Property.TRANSACTION_CHECK_TIMES,
    Property.TRACE_CONTEXT,
}


def encode_properties(properties: Mapping[str, str | None]) -> str:
    """Write properties as the text that travels; never blocks.

    An empty value is written and lost on reading: that is the protocol's rule.

    :param properties: name to value; a name whose value is None is left out.
    :returns: ``name 0x01 value 0x02`` for each, in the mapping's order.
    """
    return "".join([f"{name}\x01{value}\x02" for name, value in properties.items() if value is not None])


def decode_properties(text: str) -> dict[str, str]:
    """Read properties from their text; never blocks and takes any text.

    Pieces too short to hold a property, and pieces without a name or a value, are left out, as Java leaves them out.  A value
    may hold 0x01 itself.  The last 0x02 may be missing.  Of a name that comes twice the last value wins.

    :param text: ``name 0x01 value 0x02`` for each property.
    :returns: name to value.
    """
    properties = {}
    for piece in text.split(_PROPERTY_END):
        if len(piece) >= _SHORTEST_PIECE:
            name, _, value = piece.partition(_NAME_VALUE)
            if name and value:
                properties[name] = value
    return properties


def check_property_text(what: str, text: object, *, layout: bool = False) -> None:
    """Refuse a text that would not come back as it is, or come back as more than one property; never blocks.

    :param what: what it is, for the message.
    :param text: the name or the value of a property, a tag, a key.
    :param layout: whether tabs and line ends are welcome.
    :raises MessageError: for what is no str, holds a control character, or cannot be encoded as UTF-8.
    """
    if not isinstance(text, str):
        raise MessageError(f"{what} is {text!r:.80}, not a str")
    if text.isprintable() and text.isascii():
        return
    control = (_CONTROL_BUT_LAYOUT if layout else _CONTROL).search(text)
    if control:
        raise MessageError(f"{what} holds the control character {control[0]!r} at index {control.start()}; take it out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(f"{what} is not encodable as UTF-8: {error}") from error


def checked_properties(topic: str, properties: Mapping[str, str | None]) -> str:
    """Write properties as the text that travels, refusing those that were written past the checks of ``Message`` and would
    not survive the way, and more of them than brokers take; never blocks.

    :param topic: the message's topic, for the message of the error.
    :param properties: the message's.
    :returns: as :func:`encode_properties`.
    :raises MessageError: naming the property.
    """
    text = encode_properties(properties)
    count = len(properties)
    if text.count(_PROPERTY_END) != count or text.count(_NAME_VALUE) != count:
        for name, value in properties.items():
            if _PROPERTY_END in f"{name}{value}" or _NAME_VALUE in name:
                raise MessageError(
                    f"message of topic {topic}: property {name!r} holds a separator of the protocol (0x01 or 0x02)"
                )
    if len(text) > MAX_PROPERTIES_BYTES or not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise MessageError(f"a property of the message of topic {topic} is no Unicode text: {error}") from error
        if size > MAX_PROPERTIES_BYTES:
            raise MessageError(f"the message of topic {topic} has {size} bytes of properties, over {MAX_PROPERTIES_BYTES}")
    return text
