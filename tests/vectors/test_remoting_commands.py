"""Commands are written and read as the Java classes do."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from grocketmq.codes import LanguageCode, SerializeType
from grocketmq.errors import RemoteProtocolError
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.framing import FrameDecoder, encode_command
from tests.vectors.loader import body_of, same_body, vector

INT16 = range(-(1 << 15), 1 << 15)
LENGTHS_BYTES = 8


def command_of(case: dict[str, Any]) -> RemotingCommand:
    return RemotingCommand(
        case["code"],
        case["opaque"],
        case["flag"],
        case["remark"],
        None if case["ext"] is None else dict(case["ext"]),
        body_of(case["body"]),
        LanguageCode[case["language"]],
        case["version"],
    )


def read_one(frame: bytes) -> RemotingCommand:
    [command] = FrameDecoder().feed(frame)
    return command


def serialize_type(frame: bytes) -> SerializeType:
    return SerializeType(frame[4])


def assert_is(command: RemotingCommand, expected: dict[str, Any]) -> None:
    language = None if command.language is None else command.language.name
    assert (command.code, command.opaque, command.flag) == (expected["code"], expected["opaque"], expected["flag"])
    assert (language, command.version, command.remark) == (expected["language"], expected["version"], expected["remark"])
    assert command.ext_fields == expected["ext"]
    assert same_body(command.body or b"", expected["body"])
    assert (command.is_response, command.is_oneway) == (expected["is_response"], expected["is_oneway"])


def header_of(frame: bytes) -> bytes:
    return frame[LENGTHS_BYTES : LENGTHS_BYTES + int.from_bytes(frame[5:8], "big")]


@vector("remoting_commands", "encode")
def test_encode(case: dict[str, Any]) -> None:
    command = command_of(case)
    wanted = SerializeType[case["serialize"]]
    frame = encode_command(command, wanted)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    if wanted is SerializeType.ROCKETMQ and (command.code not in INT16 or command.version not in INT16):
        # Java cuts the number off at 16 bits; here it travels whole, in JSON.
        assert serialize_type(frame) is SerializeType.JSON
        own = {name: case[name] for name in ("code", "language", "version", "opaque", "flag", "remark", "body")}
        ext = None if case["ext"] is None else dict(case["ext"])
        assert_is(read_one(frame), {**case["decoded"], **own, "ext": ext})
        return
    assert serialize_type(frame) is wanted
    assert frame[4] == case["serialize_byte"]
    if wanted is SerializeType.JSON:
        assert json.loads(header_of(frame)) == json.loads(case["header_text"])
    else:
        assert_same_bytes(frame, case)
    assert_is(read_one(frame), case["decoded"])


def assert_same_bytes(frame: bytes, case: dict[str, Any]) -> None:
    assert len(frame) == case["frame_len"]
    if "frame_hex" in case:
        assert frame.hex() == case["frame_hex"]
    else:
        assert frame.hex().startswith(case["frame_head_hex"])
        assert hashlib.sha256(frame).hexdigest() == case["frame_sha256"]


@vector("remoting_commands", "encode")
def test_read_what_java_wrote(case: dict[str, Any]) -> None:
    if "frame_hex" in case:
        frame = bytes.fromhex(case["frame_hex"])
    else:
        frame = bytes.fromhex(case["frame_head_hex"]) + (body_of(case["body"]) or b"")
        assert hashlib.sha256(frame).hexdigest() == case["frame_sha256"]
    assert_is(read_one(frame), case["decoded"])


@vector("remoting_commands", "encode_fast")
def test_encode_fast(case: dict[str, Any]) -> None:
    """What Java's network path writes, where a key may come twice, is read; what we write for the same is read alike."""
    frame = bytes.fromhex(case["frame_hex"])
    assert (len(frame), frame[4], len(header_of(frame))) == (case["frame_len"], case["serialize_byte"], case["header_len"])
    command = read_one(frame)
    assert_is(command, case["decoded"])
    assert_is(read_one(encode_command(command, SerializeType[case["serialize"]])), case["decoded"])


@vector("remoting_commands", "decode")
def test_decode(case: dict[str, Any]) -> None:
    """Leniencies of Java's JSON parser may be refused, but only as what they are."""
    frame = bytes.fromhex(case["frame_hex"])
    if case["lenient"]:
        try:
            command = read_one(frame)
        except RemoteProtocolError:
            return
        assert (command.code, command.opaque, command.flag) == tuple(
            case["decoded"][name] for name in ("code", "opaque", "flag")
        )
        return
    assert_is(read_one(frame), case["decoded"])


@vector("remoting_commands", "decode_error")
def test_decode_error(case: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        read_one(bytes.fromhex(case["frame_hex"]))
