"""Stored messages, batches, compressed bodies, property texts and ids, as the Java classes write and read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timezone
from ipaddress import ip_address
from typing import Any

import pytest

from grocketmq.errors import ConfigError, MessageError, RemoteProtocolError
from grocketmq.model.message import Message, MessageExt
from grocketmq.model.message_id import (
    UniqueIdGenerator,
    decode_offset_msg_id,
    decode_unique_id,
    encode_offset_msg_id,
)
from grocketmq.model.properties import decode_properties, encode_properties
from grocketmq.model.validators import check_batch
from grocketmq.wire.compression import compress, decompress, require
from grocketmq.wire.flags import CompressionType, MessageSysFlag
from grocketmq.wire.message_codec import (
    body_crc,
    decode_batch,
    decode_message,
    decode_messages,
    encode_again,
    encode_batch,
)
from tests.vectors.loader import body_of, same_body, vector

MAGIC_V2 = 0xDAA320AB - (1 << 32)
UTC_MONTH = (1727740800000, 31 * 86400 * 1000)  # October 2024

Case = dict[str, Any]


def host_text(host: Case) -> str:
    address = ip_address(bytes.fromhex(host["ip_hex"]))
    return f"[{address}]:{host['port']}" if address.version == 6 else f"{address}:{host['port']}"


def fields(message: MessageExt) -> Case:
    """What a message says, in the words of the vectors."""
    return {
        "topic": message.topic,
        "queue_id": message.queue_id,
        "queue_offset": message.queue_offset,
        "commit_log_offset": message.commit_log_offset,
        "store_size": message.store_size,
        "body_crc": message.body_crc,
        "flag": message.flag,
        "sys_flag": message.sys_flag,
        "born_timestamp": message.born_timestamp,
        "born_host": message.born_host,
        "store_timestamp": message.store_timestamp,
        "store_host": message.store_host,
        "reconsume_times": message.reconsume_times,
        "prepared_transaction_offset": message.prepared_transaction_offset,
        "body": message.body,
        "properties": message.properties,
        "msg_id": message.msg_id,
        "offset_msg_id": message.offset_msg_id,
        "tags": message.tags,
        "keys": message.keys,
        "delay_level": message.delay_level,
        "wait_store_msg_ok": message.wait_store_ok,
    }


def expected(decoded: Case, message: MessageExt) -> Case:
    """What the vectors expect of a message; Java leaves an inner message without an offset id, here it has its batch's."""
    return {
        **decoded,
        "born_host": host_text(decoded["born_host"]),
        "store_host": host_text(decoded["store_host"]),
        "body": message.body if same_body(message.body, decoded["body"]) else decoded["body"],
        "properties": decoded["properties"] or {},
        "offset_msg_id": decoded["offset_msg_id"] or message.offset_msg_id,
    }


def check(messages: list[MessageExt], decoded: list[Case]) -> None:
    assert [fields(message) for message in messages] == [
        expected(one, message) for one, message in zip(decoded, messages, strict=True)
    ]


def need_codecs(data: bytes) -> None:
    """Skip where a body's codec is not installed."""
    for message in decode_messages(data, decompress=False, strict=False):
        if message.sys_flag & MessageSysFlag.COMPRESSED:
            need_codec(CompressionType.of(message.sys_flag))


def need_codec(kind: CompressionType) -> None:
    try:
        require(kind)
    except ConfigError as error:
        pytest.skip(str(error))


def cut_everywhere(data: bytes, read: Callable[[bytes], object], may_pass: Callable[[int], bool] = lambda cut: False) -> None:
    """Every beginning of the data is refused, unless it is one that may pass."""
    for cut in range(len(data)):
        try:
            read(data[:cut])
        except RemoteProtocolError:
            continue
        assert may_pass(cut), f"cut to {cut} of {len(data)} bytes and still read"


@vector("messages", "frame_v1", "frame_v2", "frame_ipv6", "frame_compressed", "store_frame")
def test_frame(case: Case) -> None:
    frame = bytes.fromhex(case["frame_hex"])
    need_codecs(frame)
    check([decode_message(frame)], [case["decoded"]])
    check(decode_messages(frame), [case["decoded"]])


@vector("messages", "frame_v1", "frame_v2", "frame_ipv6", "frame_compressed", "store_frame")
def test_frame_as_it_is(case: Case) -> None:
    message = decode_message(bytes.fromhex(case["frame_hex"]), decompress=False)
    assert message.sys_flag == case["wire_sys_flag"]
    if "without_decompress" in case:
        assert message.sys_flag == case["without_decompress"]["sys_flag"]
        assert same_body(message.body, case["without_decompress"]["body"])
    assert message.topic == case["without_body"]["topic"]
    assert message.sys_flag == case["without_body"]["sys_flag"]
    assert (not message.body or body_crc(message.body) == message.body_crc) == case["crc_check_ok"]


@vector("messages", "frame_v1", "frame_v2", "frame_ipv6", "frame_compressed", "store_frame")
def test_frame_written(case: Case) -> None:
    frame = bytes.fromhex(case["frame_hex"])
    message = decode_message(frame, decompress=False)
    written = encode_again(message)
    same_checksum = body_crc(message.body) == message.body_crc
    same_version = (case["magic"] == MAGIC_V2) == (len(message.topic.encode()) > 127)
    if same_checksum and same_version:
        assert written == frame
    else:  # Java wrote a frame that it would not write by itself
        again = fields(decode_message(written, decompress=False))
        own = {"body_crc": body_crc(message.body), "store_size": len(written)}
        assert again == {**fields(message), **own}


@vector("messages", "frame_v1", "frame_v2", "frame_ipv6", "frame_compressed", "store_frame")
def test_frame_cut(case: Case) -> None:
    frame = bytes.fromhex(case["frame_hex"])
    cut_everywhere(frame, decode_message)
    cut_everywhere(frame, decode_messages, lambda cut: cut == 0)
    assert all(decode_messages(frame[:cut], strict=False) == [] for cut in range(len(frame)))


@vector("messages", "sequence", "store_body")
def test_sequence(case: Case) -> None:
    data = bytes.fromhex(case["body_hex"])
    need_codecs(data)
    check(decode_messages(data), case["decoded"])


@vector("messages", "sequence", "store_body")
def test_sequence_cut(case: Case) -> None:
    data = bytes.fromhex(case["body_hex"])
    need_codecs(data)
    ends = [0]
    for message in decode_messages(data):
        ends.append(ends[-1] + message.store_size)
    for cut in range(len(data)):
        whole = sum(end <= cut for end in ends) - 1
        check(decode_messages(data[:cut], strict=False), case["decoded"][:whole])
    cut_everywhere(data, decode_messages, lambda cut: cut in ends)


@vector("messages", "sequence_broken")
def test_broken_sequence(case: Case) -> None:
    data = bytes.fromhex(case["body_hex"])
    check(decode_messages(data, strict=False), case["decoded"])
    try:
        messages = decode_messages(data)
    except RemoteProtocolError:
        return
    check(messages, case["decoded"])


@vector("messages", "inner_batch")
def test_inner_batch(case: Case) -> None:
    frame = bytes.fromhex(case["frame_hex"])
    need_codecs(frame)
    check([decode_message(frame)], [case["outer"]])
    check(decode_messages(frame), case["inner"])
    cut_everywhere(frame, decode_messages, lambda cut: cut == 0)


@vector("messages", "compressor")
def test_compressor(case: Case) -> None:
    kind = CompressionType[case["type"]]
    assert (kind, kind.sys_flag) == (case["type_value"], case["sys_flag_bits"])
    need_codec(kind)
    packed = bytes.fromhex(case["compressed_hex"])
    plain = decompress(kind, packed)
    assert same_body(plain, case["plain"])
    assert decompress(kind, compress(kind, plain)) == plain
    assert decompress(kind, packed, limit=len(plain)) == plain
    if plain:
        with pytest.raises(RemoteProtocolError):
            decompress(kind, packed, limit=len(plain) - 1)
    cut_everywhere(packed, lambda data: decompress(kind, data))


@vector("messages", "compression_type")
def test_compression_type(case: Case) -> None:
    if case["type"] is None:
        with pytest.raises(RemoteProtocolError):
            CompressionType.of(case["sys_flag"])
    else:
        assert CompressionType.of(case["sys_flag"]).name == case["type"]


@vector("messages", "props_encode")
def test_properties_written(case: Case) -> None:
    text = encode_properties(dict(case["pairs"]))
    assert text == case["string"]
    assert decode_properties(text) == case["decoded_back"]


@vector("messages", "props_decode")
def test_properties_read(case: Case) -> None:
    assert decode_properties(case["string"] or "") == (case["decoded"] or {})


@vector("messages", "offset_msg_id")
def test_offset_message_id(case: Case) -> None:
    host = bytes.fromhex(case["ip_hex"])
    assert encode_offset_msg_id(host, case["port"], case["offset"]) == case["msg_id"]
    decoded = decode_offset_msg_id(case["msg_id"])
    assert (decoded.host.hex(), decoded.port) == tuple(case["decoded"]["host"].values())
    assert decoded.commit_log_offset == case["decoded"]["offset"]
    cut_everywhere(case["msg_id"], decode_offset_msg_id, lambda cut: cut == 32)


@vector("messages", "offset_msg_id_odd")
def test_odd_offset_message_id(case: Case) -> None:
    if case["decoded"] is None:
        with pytest.raises(RemoteProtocolError):
            decode_offset_msg_id(case["msg_id"])
        return
    try:
        decoded = decode_offset_msg_id(case["msg_id"])
    except RemoteProtocolError:  # Java reads an id of a wrong length as far as it goes; here it is refused
        assert len(case["msg_id"]) not in (32, 56)
    else:
        assert (decoded.host.hex(), decoded.port) == tuple(case["decoded"]["host"].values())
        assert decoded.commit_log_offset == case["decoded"]["offset"]


@vector("messages", "uniq_id")
def test_unique_id(case: Case) -> None:
    decoded = decode_unique_id(case["uniq_id"])
    assert decoded.ip.hex() == case["ip_hex"]
    assert decoded[1:] == (case["pid"], case["loader_hash"], case["millis_in_month"], case["counter"])
    cut_everywhere(case["uniq_id"], decode_unique_id, lambda cut: cut == 32)


@vector("messages", "uniq_id")
def test_unique_id_made(case: Case) -> None:
    start, length = UTC_MONTH
    generator = UniqueIdGenerator(bytes.fromhex(case["ip_hex"]), case["pid"], case["loader_hash"], timezone.utc)
    if case["millis_in_month"] >= length:
        pytest.skip("no month is so long")
    made = [generator.make(start + case["millis_in_month"]) for _ in range(case["counter"] + 1)]
    assert made[-1] == case["uniq_id"]


@vector("messages", "batch")
def test_batch(case: Case) -> None:
    messages = []
    for one in case["messages"]:
        message = Message("topic", body_of(one["body"]) or b"", flag=one["flag"])
        message.properties.clear()
        message.properties.update(one["properties_wire_order"])
        messages.append(message)
        assert encode_batch([message]).hex() == one["encoded_hex"]
    data = encode_batch(messages)
    assert data.hex() == case["body_hex"]
    decoded = decode_batch(data)
    assert len(decoded) == case["count"]
    for batched, one in zip(decoded, case["decoded"], strict=True):
        assert (batched.flag, batched.body) == (one["flag"], body_of(one["body"]) or b"")
        assert decode_properties(batched.properties.decode()) == (one["properties"] or {})
    ends = [sum(len(one["encoded_hex"]) // 2 for one in case["messages"][:count]) for count in range(len(messages))]
    cut_everywhere(data, decode_batch, lambda cut: cut in ends)


@vector("messages", "batch_rule")
def test_batch_rule(case: Case) -> None:
    messages = []
    for one in case["messages"]:
        message = Message(one["topic"], b"body")
        message.properties.clear()
        message.properties.update(one["properties"])
        assert (message.delay_level, message.wait_store_ok) == (one["delay_level"], one["wait_store_msg_ok"]), json.dumps(one)
        messages.append(message)
    if case["error"]:
        with pytest.raises(MessageError):
            check_batch(messages)
    else:
        check_batch(messages)
        assert (messages[0].topic, messages[0].wait_store_ok) == tuple(case["result"].values())
