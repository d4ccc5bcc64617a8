"""Messages as brokers store and send them, and as batches carry them.

A stored message, big endian, H being 4 or 16 (sys_flag tells) and L 1 or 2 (the magic tells):

========  ====  =====  ===============================================================
offset    size  type   field, here for two IPv4 hosts
========  ====  =====  ===============================================================
0         4     i32    size of the whole frame
4         4     i32    magic: 0xDAA320A7 (v1) or 0xDAA320AB (v2, topic beyond 127 bytes)
8         4     i32    CRC-32 of the stored body, top bit cleared
12        4     i32    queue id
16        4     i32    flag, the sender's own
20        8     i64    queue offset
28        8     i64    commit log offset
36        4     i32    sys_flag
40        8     i64    born timestamp, ms
48        H+4          born host: packed address, i32 port
56        8     i64    store timestamp, ms
64        H+4          store host
72        4     i32    reconsume times
76        8     i64    prepared transaction offset
84        4     i32    body length B
88        B     bytes  body, maybe compressed
88+B      L     i8/16  topic length T
88+B+L    T     UTF-8  topic
..        2     i16    properties length P
..        P     UTF-8  property text
========  ====  =====  ===============================================================

A message of a batch (the body of request 320, and of a batch that a broker keeps whole):

========  ====  =====  ===============================================================
0         4     i32    size of this message
4         8     i32*2  0, 0
12        4     i32    flag
16        4     i32    body length B
20        B     bytes  body
20+B      2     i16    properties length P
22+B      P     UTF-8  property text
========  ====  =====  ===============================================================

Source: Apache RocketMQ 5.3.3, module common, classes ``MessageDecoder``, ``MessageVersion``; module store, class
``MessageExtEncoder``; module client, class ``PullAPIWrapper``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.model.message import Message, MessageExt, Origin
from grocketmq.model.properties import MAX_PROPERTIES_BYTES, Property, checked_properties, encode_properties
from grocketmq.wire.compression import decompress as unpack_body
from grocketmq.wire.flags import CompressionType, MessageSysFlag

__all__ = [
    "BatchMessage",
    "body_crc",
    "decode_batch",
    "decode_message",
    "decode_messages",
    "encode_again",
    "encode_batch",
    "encode_batch_part",
    "encode_message",
]

_MAGIC_V1 = 0xDAA320A7
_MAGIC_V2 = 0xDAA320AB
#: What a signed byte can say of a topic's length; longer topics take a v2 frame.
_MAX_TOPIC_BYTES_V1 = (1 << 7) - 1

_COMPRESSED = MessageSysFlag.COMPRESSED
_V6_HOSTS = MessageSysFlag.BORN_HOST_V6 | MessageSysFlag.STORE_HOST_V6
_WRAPPED = MessageSysFlag.NEED_UNWRAP | MessageSysFlag.INNER_BATCH


def _layout(born: int, store: int) -> Struct:
    return Struct(f">iIiiiqqiq{born}siq{store}siiqi")


#: The two host bits of sys_flag -> everything up to the body.
_LAYOUTS = {
    0: _layout(4, 4),
    MessageSysFlag.BORN_HOST_V6: _layout(16, 4),
    MessageSysFlag.STORE_HOST_V6: _layout(4, 16),
    _V6_HOSTS: _layout(16, 16),
}
_BATCH_LAYOUT = Struct(">iiiii")
_INT16 = Struct(">h")

_new = object.__new__
#: With IPv4 hosts, and these and the times in one piece.
_unpack_v4 = Struct(">iIiiiqqi32siqi").unpack_from


def decode_messages(
    data: bytes,
    *,
    broker_name: str = "",
    decompress: bool = True,
    strict: bool = True,
    overlay: Mapping[str, str] | None = None,
) -> list[MessageExt]:
    """Read stored messages that follow one another, such as the body of a pull answer; never blocks.

    Bodies are copies, so the messages do not keep ``data`` alive; properties stay text until they are looked at.  Batches that
    the broker keeps whole come as the messages they hold.

    :param data: the frames.
    :param broker_name: the broker they came from.
    :param decompress: whether to unpack compressed bodies; if not, ``sys_flag`` still says that they are compressed.
    :param strict: whether a frame that is not right is an error.  If not, reading ends there as it does in Java: the messages
        before it come, those behind it are not seen, and lengths that Java does not look at may be wrong.
    :param overlay: properties every message gets on top of its own.
    :returns: the messages in their order.
    :raises RemoteProtocolError: when strict, for a frame that is not right; the text names its offset and field.
    :raises ConfigError: for a body whose compression needs a package that is not installed, strict or not.
    """
    data = bytes(data)
    messages: list[MessageExt] = []
    topics: dict[bytes, str] = {}
    position, end = 0, len(data)
    try:
        while position < end:
            message, position = _decode(data, position, topics, decompress, strict)
            message.broker_name = broker_name
            message._overlay = overlay
            if message.sys_flag & _WRAPPED == _WRAPPED:
                messages += _unwrap(message)
            else:
                messages.append(message)
    except RemoteProtocolError:
        if strict:
            raise
    return messages


def decode_message(data: bytes, *, broker_name: str = "", decompress: bool = True) -> MessageExt:
    """Read one stored message as it is, a batch that the broker keeps whole too; never blocks.

    :param data: one frame and nothing behind it.
    :param broker_name: the broker it came from.
    :param decompress: whether to unpack a compressed body.
    :raises RemoteProtocolError: for a frame that is not right; the text names the field.
    :raises ConfigError: for a body whose compression needs a package that is not installed.
    """
    data = bytes(data)
    message, end = _decode(data, 0, {}, decompress, True)
    if end != len(data):
        raise RemoteProtocolError(f"stored message: {len(data) - end} bytes behind it")
    message.broker_name = broker_name
    message._overlay = None
    return message


def _decode(data: bytes, start: int, topics: dict[bytes, str], decompress: bool, strict: bool) -> tuple[MessageExt, int]:
    """One message and where it ends; ``broker_name`` and ``_overlay`` are left to the caller."""
    message: MessageExt = _new(MessageExt)
    try:
        # fmt: off
        (
            message.store_size, magic, message.body_crc, message.queue_id, message.flag, message.queue_offset,
            message.commit_log_offset, sys_flag, message._origin, message.reconsume_times,
            message.prepared_transaction_offset, body_length,
        ) = _unpack_v4(data, start)
        at = start + 88
        if sys_flag & _V6_HOSTS:
            layout = _LAYOUTS[sys_flag & _V6_HOSTS]
            (
                *_, born_at, born_ip, born_port, stored_at, store_ip, store_port, message.reconsume_times,
                message.prepared_transaction_offset, body_length,
            ) = layout.unpack_from(data, start)
            message._origin = Origin(born_at, (born_ip, born_port), stored_at, (store_ip, store_port))
            at = start + layout.size
        # fmt: on
        if body_length < 0:
            body_length = _length("body", body_length, start, strict)
        topic_at = at + body_length
        if magic == _MAGIC_V1 and (topic_length := data[topic_at]) <= _MAX_TOPIC_BYTES_V1:
            topic_at += 1
        else:
            topic_at, topic_length = _long_topic(data, topic_at, magic, start)
        properties_at = topic_at + topic_length
        properties_length = data[properties_at] << 8 | data[properties_at + 1]
    except (struct.error, IndexError):
        raise _cut_short(data, start) from None
    if properties_length > MAX_PROPERTIES_BYTES:
        properties_length = _length("properties", properties_length - 65536, start, strict)
    end = properties_at + 2 + properties_length
    if end > len(data):
        raise _cut_short(data, start)
    if strict and end - start != message.store_size:
        raise RemoteProtocolError(f"stored message at {start}: size {message.store_size}, its fields take {end - start}")
    name = data[topic_at:properties_at]
    topic = topics.get(name)
    if topic is None:
        topic = topics[name] = _topic(name, start, strict)
    body = data[at : at + body_length]
    if sys_flag & _COMPRESSED and decompress and body:
        body = unpack_body(CompressionType.of(sys_flag), body)
        sys_flag &= ~_COMPRESSED
    message.topic, message.body, message.sys_flag = topic, body, sys_flag
    message._properties, message._properties_bytes = None, data[properties_at + 2 : end]
    return message, end


def _long_topic(data: bytes, at: int, magic: int, start: int) -> tuple[int, int]:
    """Where the topic of a v2 frame begins, and its length; all other frames but sound v1 frames end here too."""
    if magic == _MAGIC_V2:
        length: int = _INT16.unpack_from(data, at)[0]
    elif magic == _MAGIC_V1:
        length = data[at] - 256
    else:
        raise RemoteProtocolError(f"stored message at {start}: magic {magic:#010x} is none of a message")
    if length < 0:
        raise RemoteProtocolError(f"stored message at {start}: topic length {length}")
    return at + 2, length


def _cut_short(data: bytes, start: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"stored message at {start}: its fields reach beyond the {len(data) - start} bytes left")


def _length(field: str, length: int, start: int, strict: bool) -> int:
    if strict:
        raise RemoteProtocolError(f"stored message at {start}: {field} length {length}")
    return 0


def _topic(name: bytes, start: int, strict: bool) -> str:
    try:
        return name.decode("utf-8", "strict" if strict else "replace")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"stored message at {start}: topic is no UTF-8: {error}") from error


def _unwrap(outer: MessageExt) -> list[MessageExt]:
    """The messages of a batch that the broker keeps whole; what they do not say themselves they take from the batch."""
    overlay = {Property.WAIT_STORE_MSG_OK: "true" if outer.wait_store_ok else "false", **(outer._overlay or {})}
    messages = []
    for index, inner in enumerate(decode_batch(outer.body)):
        message = MessageExt(
            outer.topic,
            inner.body,
            broker_name=outer.broker_name,
            queue_id=outer.queue_id,
            queue_offset=outer.queue_offset + index,
            commit_log_offset=outer.commit_log_offset,
            sys_flag=outer.sys_flag,
            flag=inner.flag,
            **outer.origin._asdict(),
        )
        message._properties = None
        message._properties_bytes = inner.properties
        message._overlay = overlay
        messages.append(message)
    return messages


def body_crc(body: bytes) -> int:
    """The checksum that goes with a stored body: CRC-32 with the top bit cleared, as Java makes it; about 0.2 us a KiB.

    :param body: the body as it is stored, packed if it is packed.
    """
    return crc32(body) & 0x7FFFFFFF


def encode_message(
    topic: str,
    body: bytes,
    properties: str = "",
    *,
    queue_id: int = 0,
    queue_offset: int = 0,
    commit_log_offset: int = 0,
    sys_flag: int = 0,
    flag: int = 0,
    born_timestamp: int = 0,
    born_host: tuple[bytes, int] = (b"\x00" * 4, 0),
    store_timestamp: int = 0,
    store_host: tuple[bytes, int] = (b"\x00" * 4, 0),
    reconsume_times: int = 0,
    prepared_transaction_offset: int = 0,
) -> bytes:
    """Write a message as a broker stores it; never blocks.

    :param topic: at most 32767 bytes of UTF-8.
    :param body: as it is to be stored, packed already if ``sys_flag`` says so.
    :param properties: the property text, at most 32767 bytes of UTF-8.
    :param sys_flag: its two bits for IPv6 are set by the hosts given.
    :param born_host: ``(packed address of 4 or 16 bytes, port)``.
    :param store_host: the same.
    :returns: one frame.  The other parameters are those of :class:`~grocketmq.model.message.MessageExt`.
    :raises LocalProtocolError: for a topic or properties too long, an address of another size, a number out of range.
    """
    try:
        name, text = topic.encode(), properties.encode()
        hosts = _HOST_BITS[len(born_host[0]), len(store_host[0])]
        layout = _LAYOUTS[hosts]
        long_topic = len(name) > _MAX_TOPIC_BYTES_V1
        topic_length = _INT16.pack(len(name)) if long_topic else len(name).to_bytes(1, "big")
        # fmt: off
        head = layout.pack(
            layout.size + len(body) + len(topic_length) + len(name) + 2 + len(text), _MAGIC_V2 if long_topic else _MAGIC_V1,
            body_crc(body), queue_id, flag, queue_offset, commit_log_offset, sys_flag & ~_V6_HOSTS | hosts,
            born_timestamp, *born_host, store_timestamp, *store_host, reconsume_times, prepared_transaction_offset, len(body),
        )
        # fmt: on
        return b"".join((head, body, topic_length, name, _INT16.pack(len(text)), text))
    except (struct.error, KeyError, UnicodeEncodeError) as error:
        raise LocalProtocolError(f"message of topic {topic[:128]!r} cannot be stored: {error}") from error


def encode_again(message: MessageExt) -> bytes:
    """Write a message that was read from a frame, with what was changed of it since; never blocks.

    :param message: read as it is stored: :func:`decode_message` without ``decompress``.
    :returns: one frame.
    :raises LocalProtocolError: as :func:`encode_message`.
    """
    text = (
        message._properties_bytes.decode("utf-8", "replace")
        if message._properties is None
        else encode_properties(message._properties)
    )
    return encode_message(
        message.topic,
        message.body,
        text,
        queue_id=message.queue_id,
        queue_offset=message.queue_offset,
        commit_log_offset=message.commit_log_offset,
        sys_flag=message.sys_flag,
        flag=message.flag,
        reconsume_times=message.reconsume_times,
        prepared_transaction_offset=message.prepared_transaction_offset,
        **message.origin._asdict(),
    )


#: Sizes of the born host's and the store host's address -> bits of sys_flag.
_HOST_BITS = {
    (4, 4): 0,
    (16, 4): MessageSysFlag.BORN_HOST_V6,
    (4, 16): MessageSysFlag.STORE_HOST_V6,
    (16, 16): _V6_HOSTS,
}


class BatchMessage(NamedTuple):
    """What a batch says of one message; the properties are UTF-8 text still."""

    flag: int
    body: bytes
    properties: bytes


def encode_batch_part(flag: int, body: bytes, properties: str) -> bytes:
    """Write one message of a batch; never blocks.

    :param flag: the sender's own number.
    :param body: the payload.
    :param properties: their text.
    :raises struct.error: for properties beyond 32767 bytes or a flag beyond 32 bits.
    """
    text = properties.encode()
    head = _BATCH_LAYOUT.pack(22 + len(body) + len(text), 0, 0, flag, len(body))
    return b"".join((head, body, _INT16.pack(len(text)), text))


def encode_batch(messages: Iterable[Message]) -> bytes:
    """Write messages as one batch body; never blocks.

    :param messages: those that :func:`~grocketmq.model.validators.check_batch` lets pass.
    :raises MessageError: for a property that holds a separator or is no text, and for properties beyond 32767 bytes.
    :raises LocalProtocolError: for a flag beyond 32 bits.
    """
    pieces: list[bytes] = []
    for message in messages:
        try:
            properties = checked_properties(message.topic, message.properties)
            pieces.append(encode_batch_part(message.flag, message.body, properties))
        except struct.error as error:
            raise LocalProtocolError(f"message of topic {message.topic[:128]!r} cannot be batched: {error}") from error
    return b"".join(pieces)


def decode_batch(data: bytes) -> list[BatchMessage]:
    """Read a batch body; never blocks.

    :param data: what :func:`encode_batch` writes.
    :returns: the messages in their order.
    :raises RemoteProtocolError: for a batch that is not right; the text names the message's offset.
    """
    data = bytes(data)
    messages = []
    start, end = 0, len(data)
    while start < end:
        try:
            size, _, _, flag, body_length = _BATCH_LAYOUT.unpack_from(data, start)
            body_at = start + 20
            text_at = body_at + body_length + 2
            (text_length,) = _INT16.unpack_from(data, text_at - 2) if body_length >= 0 else (-1,)
        except struct.error:
            raise _batch_error(start, f"its fields reach beyond the {end - start} bytes left") from None
        stop = text_at + text_length
        if body_length < 0 or text_length < 0 or stop > end:
            raise _batch_error(start, f"body length {body_length}, properties length {text_length}")
        if stop - start != size:
            raise _batch_error(start, f"size {size}, its fields take {stop - start}")
        messages.append(BatchMessage(flag, data[body_at : text_at - 2], data[text_at:stop]))
        start = stop
    return messages


def _batch_error(start: int, what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"message of a batch at {start}: {what}")
