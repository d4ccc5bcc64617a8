"""Stored messages and batches: what is written is read again, and no bytes bring anything but a protocol error."""

from __future__ import annotations

import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import ConfigError, LocalProtocolError, MessageError, RemoteProtocolError
from grocketmq.model.message import Message, MessageExt
from grocketmq.model.properties import decode_properties, encode_properties
from grocketmq.wire.compression import MAX_PLAIN_BYTES, compress, decompress, require
from grocketmq.wire.flags import CompressionType, MessageSysFlag
from grocketmq.wire.message_codec import (
    decode_batch,
    decode_message,
    decode_messages,
    encode_batch,
    encode_message,
)

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
HOST = st.tuples(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), INT32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PROPERTY_TEXT = TEXT.filter(lambda text: "\x01" not in text and "\x02" not in text)
#: No bits that ask for unpacking or unwrapping: bodies here are plain.
PLAIN_SYS_FLAG = INT32.map(lambda flag: flag & ~(MessageSysFlag.COMPRESSED | MessageSysFlag.INNER_BATCH))
FIELDS = st.fixed_dictionaries(
    {
        "queue_id": INT32,
        "queue_offset": INT64,
        "commit_log_offset": INT64,
        "sys_flag": PLAIN_SYS_FLAG,
        "flag": INT32,
        "born_timestamp": INT64,
        "born_host": HOST,
        "store_timestamp": INT64,
        "store_host": HOST,
        "reconsume_times": INT32,
        "prepared_transaction_offset": INT64,
    }
)
FRAME = st.builds(
    lambda topic, body, text, fields: encode_message(topic, body, text, **fields), TEXT, st.binary(), TEXT, FIELDS
)
SMALL = encode_message("topic", b"body", "TAGS\x01a\x02")


def read_any(data: bytes) -> None:
    """Read bytes in every way; the only errors are those of the protocol, and a codec that is not installed."""
    for read in (decode_message, decode_messages, decode_batch):
        try:
            read(data)
        except RemoteProtocolError:
            pass
        except ConfigError:
            assert not all(installed(kind) for kind in CompressionType)
    try:
        messages = decode_messages(data, strict=False)
    except ConfigError:
        assert not all(installed(kind) for kind in CompressionType)
    else:
        for message in messages:
            assert isinstance(message.properties, dict)
            assert message.msg_id
            assert repr(message)


def installed(kind: CompressionType) -> bool:
    try:
        require(kind)
    except ConfigError:
        return False
    return True


@pytest.fixture(params=list(CompressionType), ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> CompressionType:
    if not installed(request.param):
        pytest.skip(f"{request.param.name} is not installed")
    return request.param


@given(TEXT, st.binary(), TEXT, FIELDS)
def test_a_stored_message_comes_back(topic: str, body: bytes, text: str, fields: dict) -> None:
    frame = encode_message(topic, body, text, **fields)
    message = decode_message(frame, broker_name="broker")
    assert (message.topic, message.body, message.broker_name) == (topic, body, "broker")
    assert message.properties == decode_properties(text)
    assert message.store_size == len(frame)
    hosts = {"born_host": message.origin.born_host, "store_host": message.origin.store_host}
    v6 = MessageSysFlag.BORN_HOST_V6 | MessageSysFlag.STORE_HOST_V6
    for name, value in fields.items():
        if name == "sys_flag":
            assert message.sys_flag & ~v6 == value & ~v6
        else:
            assert hosts.get(name, getattr(message, name)) == value


@given(st.lists(FRAME, max_size=5))
def test_messages_come_back_in_their_order(frames: list[bytes]) -> None:
    messages = decode_messages(b"".join(frames))
    assert [message.store_size for message in messages] == [len(frame) for frame in frames]


@given(st.lists(st.tuples(INT32, st.binary(), st.dictionaries(PROPERTY_TEXT, PROPERTY_TEXT)), max_size=5))
def test_a_batch_comes_back(entries: list[tuple[int, bytes, dict[str, str]]]) -> None:
    messages = []
    for flag, body, properties in entries:
        message = Message("topic", body, flag=flag)
        message.properties.clear()
        message.properties.update(properties)
        messages.append(message)
    batch = decode_batch(encode_batch(messages))
    assert [(one.flag, one.body, one.properties.decode()) for one in batch] == [
        (flag, body, encode_properties(properties)) for flag, body, properties in entries
    ]


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    read_any(data)


@given(FRAME, st.data())
def test_a_frame_with_one_byte_changed(frame: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(frame) - 1))
    read_any(frame[:at] + bytes([data.draw(st.integers(0, 255))]) + frame[at + 1 :])


@given(st.lists(FRAME, min_size=1, max_size=3), st.data())
def test_a_body_cut_short(frames: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(frames)
    read_any(whole[: data.draw(st.integers(0, len(whole)))])


@pytest.mark.parametrize(
    ("at", "value", "field"),
    [
        (0, b"\x7f\xff\xff\xff", "size"),
        (0, b"\xff\xff\xff\xff", "size"),
        (4, b"\xcb\xd4\x31\x94", "magic"),
        (84, b"\x40\x00\x00\x00", "reach beyond"),
        (84, b"\xff\xff\xff\xff", "body length -1"),
        (92, b"\x80", "topic length -128"),
        (92, b"\x7f", "reach beyond"),
        (93, b"\xff", "UTF-8"),
        (98, b"\xff\xff", "properties length -1"),
        (98, b"\x7f\xff", "reach beyond"),
    ],
)
def test_the_error_names_place_and_field(at: int, value: bytes, field: str) -> None:
    broken = SMALL[:at] + value + SMALL[at + len(value) :]
    with pytest.raises(RemoteProtocolError, match=field) as caught:
        decode_messages(SMALL + broken)
    assert str(caught.value).startswith(f"stored message at {len(SMALL)}:")
    assert len(decode_messages(SMALL + broken, strict=False)) >= 1


def test_a_tail_behind_a_single_message() -> None:
    with pytest.raises(RemoteProtocolError, match="2 bytes"):
        decode_message(SMALL + b"\x00\x00")


def test_topics_are_shared_and_bodies_do_not_hold_the_answer() -> None:
    first, second = decode_messages(bytearray(SMALL * 2))
    assert first.topic is second.topic
    assert type(first.body) is bytes
    assert sys.getsizeof(first.body) < 100


def test_overlay_wins_over_own_properties() -> None:
    (message,) = decode_messages(SMALL, overlay={"TAGS": "b", "MIN_OFFSET": "0"})
    assert message.properties == {"TAGS": "b", "MIN_OFFSET": "0"}
    assert message.tags == "b"


def test_inner_messages_take_over_from_the_batch() -> None:
    body = encode_batch([Message("x", b"one", tags="t"), Message("x", b"two")])
    flags = MessageSysFlag.NEED_UNWRAP | MessageSysFlag.INNER_BATCH
    frame = encode_message("topic", body, "WAIT\x01false\x02", queue_id=3, queue_offset=7, sys_flag=flags, born_timestamp=99)
    messages = decode_messages(SMALL + frame + SMALL, broker_name="b", overlay={"MAX_OFFSET": "9"})
    assert [message.body for message in messages] == [b"body", b"one", b"two", b"body"]
    inner = messages[2]
    assert (inner.topic, inner.queue_id, inner.queue_offset, inner.born_timestamp) == ("topic", 3, 8, 99)
    assert (inner.broker_name, inner.wait_store_ok, inner.properties["MAX_OFFSET"]) == ("b", False, "9")
    assert decode_message(frame).body == body


def test_a_broken_inner_batch() -> None:
    flags = MessageSysFlag.NEED_UNWRAP | MessageSysFlag.INNER_BATCH
    with pytest.raises(RemoteProtocolError, match="message of a batch at 0"):
        decode_messages(encode_message("topic", b"\x00" * 30, sys_flag=flags))


@pytest.mark.parametrize(
    "arguments",
    [
        {"topic": "t" * 32768},
        {"properties": "p" * 32768},
        {"born_host": (b"\x00" * 5, 0)},
        {"queue_id": 1 << 31},
        {"properties": "\ud800"},
    ],
)
def test_what_cannot_be_written(arguments: dict) -> None:
    with pytest.raises(LocalProtocolError):
        encode_message(**{"topic": "topic", "body": b"", **arguments})


def test_a_batch_that_cannot_be_written() -> None:
    with pytest.raises(MessageError, match="32784 bytes of properties, over 32767"):
        encode_batch([Message("topic", b"x", properties={"name": "v" * 32768})])
    message = Message("topic", b"x")
    message.flag = 1 << 31
    with pytest.raises(LocalProtocolError, match="cannot be batched"):
        encode_batch([message])


@given(data=st.binary())
def test_packed_bodies_come_back(data: bytes) -> None:
    for kind in filter(installed, CompressionType):
        assert decompress(kind, compress(kind, data), limit=len(data)) == data


@given(st.binary())
def test_any_bytes_to_unpack(data: bytes) -> None:
    for kind in filter(installed, CompressionType):
        for packed in (data, compress(kind, data)[:-1], compress(kind, b"x")[:-1] + data):
            try:
                decompress(kind, packed)
            except RemoteProtocolError:
                pass


def test_packed_message(kind: CompressionType) -> None:
    flag = MessageSysFlag.COMPRESSED | kind.sys_flag
    frame = encode_message("topic", compress(kind, b"plain" * 100), sys_flag=flag)
    (message,) = decode_messages(frame)
    assert (message.body, message.sys_flag) == (b"plain" * 100, kind.sys_flag)
    (message,) = decode_messages(frame, decompress=False)
    assert message.sys_flag == flag


def test_zlib_of_old_senders() -> None:
    frame = encode_message("topic", zlib.compress(b"plain"), sys_flag=MessageSysFlag.COMPRESSED)
    assert decode_message(frame).body == b"plain"


def test_a_bomb(kind: CompressionType) -> None:
    bomb = compress(kind, bytes(MAX_PLAIN_BYTES + 1))
    frame = encode_message("topic", bomb, sys_flag=MessageSysFlag.COMPRESSED | kind.sys_flag)
    with pytest.raises(RemoteProtocolError, match="unpack to more"):
        decode_messages(frame)


def test_a_codec_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from grocketmq.wire import compression

    compression._codec.cache_clear()
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    monkeypatch.setitem(sys.modules, "lz4", None)
    frame = encode_message("topic", b"packed", sys_flag=MessageSysFlag.COMPRESSED | CompressionType.LZ4.sys_flag)
    for call in (
        lambda: require(CompressionType.LZ4),
        lambda: compress(CompressionType.LZ4, b"x"),
        lambda: decode_messages(frame, strict=False),
    ):
        with pytest.raises(ConfigError, match=r"grocketmq\[lz4\]"):
            call()
    assert [type(one) for one in decode_messages(frame, decompress=False)] == [MessageExt]
