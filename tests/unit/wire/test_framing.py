"""Frames come out the same however they are cut, and no bytes bring anything but ``RemoteProtocolError``."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grocketmq.codes import LanguageCode, SerializeType
from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.wire import framing, header_codec
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.framing import MAX_FRAME_BYTES, MAX_HEADER_BYTES, FrameDecoder, encode_command
from tests.vectors.loader import load

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT16 = st.integers(-(1 << 15), (1 << 15) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
COMMANDS = st.builds(
    RemotingCommand,
    code=INT16,
    opaque=INT32,
    flag=INT32,
    remark=st.none() | TEXT,
    ext_fields=st.none() | st.dictionaries(TEXT, TEXT, max_size=5),
    body=st.none() | st.binary(min_size=1, max_size=200),
    language=st.sampled_from(LanguageCode),
    version=INT16,
)
TYPES = st.sampled_from(SerializeType)
Seen = tuple[Any, ...]


def seen(command: RemotingCommand) -> Seen:
    return tuple(getattr(command, name) for name in RemotingCommand.__slots__)


def frame_of(header: bytes, body: bytes = b"", serialize_type: int = 0) -> bytes:
    return struct.pack(">II", 4 + len(header) + len(body), serialize_type << 24 | len(header)) + header + body


def read_in(chunks: Iterator[bytes], decoder: FrameDecoder | None = None) -> tuple[list[Seen], bool]:
    """What came out of a stream: the commands, and whether it ended with an error."""
    decoder = decoder or FrameDecoder()
    found: list[Seen] = []
    try:
        for chunk in chunks:
            found += map(seen, decoder.feed(chunk))
        decoder.feed(b"")
    except RemoteProtocolError:
        return found, True
    return found, False


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """The pieces between the places, some of them empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[first:last] for first, last in itertools.pairwise(edges))


GOOD = RemotingCommand(14, 7, 0, "备注", {"topic": "t", "键": "值"}, b"body")
FRAME = encode_command(GOOD)


@pytest.mark.parametrize("serialize_type", SerializeType)
def test_whole(serialize_type: SerializeType) -> None:
    [command] = FrameDecoder().feed(encode_command(GOOD, serialize_type))
    assert seen(command) == seen(GOOD)


@pytest.mark.parametrize("serialize_type", SerializeType)
def test_byte_by_byte_and_with_a_tail(serialize_type: SerializeType) -> None:
    frame = encode_command(GOOD, serialize_type)
    decoder = FrameDecoder()
    for _ in range(3):
        assert [command for piece in bytewise(frame[:-1]) for command in decoder.feed(piece)] == []
        [command] = decoder.feed(frame[-1:] + frame[:9])
        assert seen(command) == seen(GOOD)
        [command] = decoder.feed(frame[9:])
        assert seen(command) == seen(GOOD)


def test_the_body_is_a_copy() -> None:
    decoder = FrameDecoder()
    [first] = decoder.feed(FRAME)
    decoder.feed(encode_command(RemotingCommand(14, body=b"else")))
    assert type(first.body) is bytes
    assert first.body == b"body"


@pytest.mark.parametrize("size", [framing.READ_BYTES - 1, framing.READ_BYTES, framing.READ_BYTES + 1, 3_900_000])
def test_big_frames_between_small_ones(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    stream = (FRAME + encode_command(RemotingCommand(10, body=body))) * 2 + FRAME
    for step in (1000, 65_536, len(stream)):
        decoder = FrameDecoder()
        found = [command for at in range(0, len(stream), step) for command in decoder.feed(stream[at : at + step])]
        assert [command.body for command in found] == [b"body", body, b"body", body, b"body"]
        assert len(decoder.space()) <= framing.KEEP_BYTES, "the memory of a big frame is given back"


def test_the_buffer_of_a_big_frame_goes_when_a_small_one_follows() -> None:
    decoder = FrameDecoder()
    big = encode_command(RemotingCommand(10, body=bytes(3_000_000)))
    assert len(decoder.feed(big + FRAME[:20])) == 1
    assert len(decoder.space()) <= framing.KEEP_BYTES
    assert [seen(command) for command in decoder.feed(FRAME[20:])] == [seen(GOOD)]


@pytest.mark.parametrize("serialize_type", SerializeType)
def test_a_header_as_long_as_can_be(serialize_type: SerializeType) -> None:
    empty = encode_command(RemotingCommand(10, ext_fields={"a": ""}), serialize_type)
    room = MAX_HEADER_BYTES - (len(empty) - 8)
    frame = encode_command(RemotingCommand(10, ext_fields={"a": "x" * room}), serialize_type)
    assert frame[5:8] == b"\xff\xff\xff"
    [command] = FrameDecoder(1 << 25).feed(frame)
    assert command.ext_fields == {"a": "x" * room}
    with pytest.raises(LocalProtocolError, match="header of request 10"):
        encode_command(RemotingCommand(10, ext_fields={"a": "x" * (room + 1)}), serialize_type)


def test_limit_of_a_frame() -> None:
    limit = len(FRAME)
    assert len(FrameDecoder(limit).feed(FRAME)) == 1
    with pytest.raises(RemoteProtocolError, match=r"frame length .* limit"):
        FrameDecoder(limit - 1).feed(FRAME)
    with pytest.raises(RemoteProtocolError, match="limit of 16777216 bytes"):
        FrameDecoder().feed(struct.pack(">II", MAX_FRAME_BYTES - 3, 0))
    assert FrameDecoder().feed(struct.pack(">II", MAX_FRAME_BYTES - 4, 0)) == []


@pytest.mark.parametrize("length", [0, 1, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_bad_frame_lengths(length: int) -> None:
    decoder = FrameDecoder()
    with pytest.raises(RemoteProtocolError, match="frame length"):
        decoder.feed(struct.pack(">II", length, 0))
    with pytest.raises(RemoteProtocolError, match="frame length"):
        decoder.feed(FRAME)


@pytest.mark.parametrize("header_length", [11, 0x7FFFFF, 0xFFFFFF])
def test_bad_header_lengths(header_length: int) -> None:
    with pytest.raises(RemoteProtocolError, match="header length"):
        FrameDecoder().feed(struct.pack(">II", 14, header_length) + b'{"code":0}')


def rocketmq(remark: int = 0, ext: bytes = b"", ext_length: int | None = None) -> bytes:
    return struct.pack(">hbhiiii", 0, 0, 0, 0, 1, remark, len(ext) if ext_length is None else ext_length) + ext


BAD_HEADERS = {
    "empty JSON": (b"", 0),
    "no JSON": (b"hello", 0),
    "a JSON list": (b"[]", 0),
    "a JSON text": (b'"x"', 0),
    "cut off JSON": (b'{"code":1', 0),
    "more after JSON": (b'{"code":1}{', 0),
    "JSON in UTF-16": ('{"code":1}'.encode("utf-16"), 0),
    "invalid UTF-8 in a known field": (b'{"code":1,"remark":"\xff"}', 0),
    "invalid UTF-8 in an unknown field": (b'{"code":1,"other":"\xff"}', 0),
    "invalid UTF-8 in an unknown name": (b'{"code":1,"\xff":1}', 0),
    "a surrogate in UTF-8": (b'{"code":1,"remark":"\xed\xa0\x80"}', 0),
    "a code that is a word": (b'{"code":"many"}', 0),
    "a code that is a list": (b'{"code":[]}', 0),
    "a code of 33 bits": (b'{"code":4294967296}', 0),
    "an endless code": (b'{"code":1e999}', 0),
    "a code of 5000 digits": (b'{"code":' + b"9" * 5000 + b"}", 0),
    "an opaque of 33 bits": (b'{"opaque":-2147483649}', 0),
    "a remark that is an object": (b'{"remark":{}}', 0),
    "a language that is a list": (b'{"language":[]}', 0),
    "ext fields that are a list": (b'{"extFields":[]}', 0),
    "an ext field that is an object": (b'{"extFields":{"a":{}}}', 0),
    "deep JSON": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0),
    "deep JSON in ext fields": (b'{"extFields":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 0),
    "unknown encoding 2": (b"{}", 2),
    "unknown encoding 255": (b"{}", 255),
    "an empty ROCKETMQ header": (b"", 1),
    "a short ROCKETMQ header": (rocketmq()[:-1], 1),
    "a long remark": (rocketmq(remark=5), 1),
    "a negative remark": (rocketmq(remark=-1), 1),
    "ext fields too long": (rocketmq(ext_length=1), 1),
    "ext fields of negative length": (rocketmq(ext_length=-1), 1),
    "an ext name cut off": (rocketmq(ext=b"\0"), 1),
    "an ext name too long": (rocketmq(ext=b"\0\5a"), 1),
    "an ext name of negative length": (rocketmq(ext=b"\xff\xffa\0\0\0\0"), 1),
    "an ext value cut off": (rocketmq(ext=b"\0\1a\0\0\0"), 1),
    "an ext value too long": (rocketmq(ext=b"\0\1a\0\0\0\2b"), 1),
    "an ext value of negative length": (rocketmq(ext=b"\0\1a\xff\xff\xff\xff"), 1),
    "an ext name not in UTF-8": (rocketmq(ext=b"\0\1\xff\0\0\0\0"), 1),
    "an ext value not in UTF-8": (rocketmq(ext=b"\0\1a\0\0\0\1\xff"), 1),
}


@pytest.fixture(params=["fast", "plain"])
def _json(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both JSON readers: with msgspec, and without."""
    if request.param == "plain":
        monkeypatch.setattr(header_codec, "_decode_json", header_codec._decode_json_plain)
    elif not header_codec._HAVE_MSGSPEC:
        pytest.skip("msgspec is not installed")


@pytest.mark.usefixtures("_json")
@pytest.mark.parametrize("name", BAD_HEADERS)
def test_bad_headers(name: str) -> None:
    header, serialize_type = BAD_HEADERS[name]
    decoder = FrameDecoder()
    commands = decoder.feed(FRAME + frame_of(header, b"body", serialize_type) + FRAME)
    assert [seen(command) for command in commands] == [seen(GOOD)], "what came before the fault counts"
    assert isinstance(decoder.error, RemoteProtocolError)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match=r"frame") as caught:
            decoder.feed(FRAME)
        assert caught.value is decoder.error
        assert len(str(caught.value)) < 400, "a peer does not fill our logs"


LENIENT_HEADERS = {
    '{"code":14,"future":{"a":[1,{}]}}': (14, None),
    ' { "code" : 14 , "extFields" : null , "remark" : null } ': (14, None),
    '{"code":14,"extFields":{"a":1,"b":true,"c":null,"d":1.5}}': (14, {"a": "1", "b": "true", "c": None, "d": "1.5"}),
    '{"code":"14"}': (14, None),
    '{"code":14,"code":15}': (15, None),
    '{"code":null}': (0, None),
    "{}": (0, None),
}


@pytest.mark.usefixtures("_json")
@pytest.mark.parametrize("text", LENIENT_HEADERS)
def test_odd_headers_that_can_be_read(text: str) -> None:
    [command] = FrameDecoder().feed(frame_of(text.encode()))
    assert (command.code, command.ext_fields) == LENIENT_HEADERS[text]
    assert (command.opaque, command.flag, command.remark, command.body) == (0, 0, None, None)
    assert command.language is LanguageCode.JAVA, "who does not say is Java"


@given(st.lists(st.tuples(COMMANDS, TYPES), max_size=6), st.lists(st.integers(0, 5000), max_size=12))
def test_round_trip_in_any_chunking(commands: list[tuple[RemotingCommand, SerializeType]], places: list[int]) -> None:
    data = b"".join(encode_command(command, serialize_type) for command, serialize_type in commands)
    found, failed = read_in(cut(data, places))
    assert not failed
    assert found == [readable(command, serialize_type) for command, serialize_type in commands]


def readable(command: RemotingCommand, serialize_type: SerializeType) -> Seen:
    """What can be read of a command: ROCKETMQ does not tell an empty text from none and has no room for an empty name."""
    if serialize_type is SerializeType.ROCKETMQ:
        command.remark = command.remark or None
        ext = {name: value or None for name, value in (command.ext_fields or {}).items() if name}
        # a nameless field still says that there are fields
        command.ext_fields = ext if ext or command.ext_fields else None
    return seen(command)


def damaged(frame: bytes, damage: list[tuple[int, int]]) -> bytes:
    out = bytearray(frame)
    for place, byte in damage:
        out[place % len(out)] = byte
    return bytes(out)


DAMAGE = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4)
STREAMS = st.lists(
    st.builds(encode_command, COMMANDS, TYPES)
    | st.builds(damaged, st.builds(encode_command, COMMANDS, TYPES), DAMAGE)
    | st.builds(frame_of, st.binary(max_size=60), st.binary(max_size=10), st.integers(0, 3))
    | st.binary(max_size=40),
    max_size=5,
).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 5000), max_size=12))
@example(FRAME + b"\0\0\0\3" + FRAME, [len(FRAME) + 3, len(FRAME) + 9])
def test_any_bytes_in_any_chunking(data: bytes, places: list[int]) -> None:
    """The same commands, and an error at the same place."""
    whole = read_in(iter([data]))
    assert read_in(cut(data, places)) == whole
    assert read_in(bytewise(data)) == whole


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELD_NAMES = st.sampled_from(
    ["code", "opaque", "flag", "version", "language", "remark", "extFields", "serializeTypeCurrentRPC", "Code", ""]
)
JSON_HEADERS = st.lists(st.tuples(FIELD_NAMES, JSON_VALUES), max_size=8).map(
    lambda items: "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in items) + "}"
)
RAW_HEADERS = (
    JSON_HEADERS.map(str.encode)
    | JSON_HEADERS.map(lambda text: text.encode().decode("unicode_escape").encode("utf-8", "surrogatepass"))
    | st.builds(damaged, JSON_HEADERS.map(str.encode), DAMAGE)
    | st.builds(encode_command, COMMANDS).map(lambda frame: frame[8 : 8 + int.from_bytes(frame[5:8], "big")])
    | st.binary(max_size=40)
)
Decode = Callable[[memoryview, bytes | None], RemotingCommand]


def outcome(decode: Decode, header: bytes) -> Seen | str:
    """What a reader makes of a header; floats in ext fields are texts by then."""
    try:
        return seen(decode(memoryview(header), b"body"))
    except RemoteProtocolError:
        return "error"


@pytest.mark.skipif(not header_codec._HAVE_MSGSPEC, reason="msgspec is not installed")
class TestWithAndWithoutMsgspec:
    """The reader made of msgspec and the one made of the standard library read alike."""

    @given(RAW_HEADERS)
    @example(b'{"code":1,"x":"\xff"}')
    @example(b'{"\xff":1}')
    @example(b'{"code":1.0}')
    @example(b'{"code":1,"code":"2"}')
    @example(b'{"remark":"\\ud800"}')
    @example(b'\xef\xbb\xbf{"code":1}')
    @example(b'{"code":1,"remark":"\x01"}')
    @example(b'{"language":null,"serializeTypeCurrentRPC":null}')
    def test_any_header(self, header: bytes) -> None:
        fast = header_codec._fast_json_decoder()
        assert outcome(fast, header) == outcome(header_codec._decode_json_plain, header)

    def test_vectors(self) -> None:
        fast = header_codec._fast_json_decoder()
        for case in load("remoting_commands")["cases"]:
            frame = bytes.fromhex(case.get("frame_hex") or case["frame_head_hex"])
            header = frame[8 : 8 + int.from_bytes(frame[5:8], "big")]
            assert outcome(fast, header) == outcome(header_codec._decode_json_plain, header), case["id"]


@pytest.mark.parametrize("serialize_type", SerializeType)
@pytest.mark.parametrize(
    "command",
    [
        RemotingCommand(10, remark="\ud800"),
        RemotingCommand(10, ext_fields={"a": "\udfff"}),
        RemotingCommand(10, ext_fields={"\ud800": "a"}),
    ],
)
def test_text_that_is_not_unicode_is_our_own_error(command: RemotingCommand, serialize_type: SerializeType) -> None:
    with pytest.raises(LocalProtocolError, match="header of request 10"):
        encode_command(command, serialize_type)


@pytest.mark.parametrize("number", [1 << 31, -(1 << 31) - 1])
def test_number_out_of_range_is_our_own_error(number: int) -> None:
    with pytest.raises(LocalProtocolError, match="out of range"):
        encode_command(RemotingCommand(10, opaque=number), SerializeType.ROCKETMQ)


def test_ext_name_too_long_for_rocketmq_is_our_own_error() -> None:
    with pytest.raises(LocalProtocolError, match="ext field name"):
        encode_command(RemotingCommand(10, ext_fields={"a" * (1 << 15): "x"}), SerializeType.ROCKETMQ)


@pytest.mark.parametrize("serialize_type", SerializeType)
def test_a_field_without_value_does_not_travel(serialize_type: SerializeType) -> None:
    [command] = FrameDecoder().feed(encode_command(RemotingCommand(10, ext_fields={"a": None, "b": "x"}), serialize_type))
    assert command.ext_fields == {"b": "x"}


@pytest.mark.parametrize("code", [1 << 15, -(1 << 15) - 1, 200_051])
def test_code_too_big_for_rocketmq_travels_in_json(code: int) -> None:
    frame = encode_command(RemotingCommand(code), SerializeType.ROCKETMQ)
    assert frame[4] == SerializeType.JSON
    [command] = FrameDecoder().feed(frame)
    assert command.code == code


def test_answer_to_a_request() -> None:
    request = RemotingCommand(10, opaque=77, flag=2)
    answer = RemotingCommand.response_to(request, 0, "ok", {"a": "b"}, b"x")
    assert (answer.opaque, answer.is_response, answer.is_oneway) == (77, True, False)
    assert request.is_oneway
    assert "opaque=77" in repr(request)
