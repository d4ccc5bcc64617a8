"""A send's frame out of the template says what the general encoder would say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grocketmq.codes import LanguageCode, RequestCode, SerializeType
from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.model.results import SendResult, SendStatus
from grocketmq.model.route import MessageQueue
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import RpcFlag
from grocketmq.wire.framing import FrameDecoder, encode_command
from grocketmq.wire.request_template import PreparedCommand
from grocketmq.wire.send_command import SendTemplate, read_send_answer

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
CODES = st.sampled_from([RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE, RequestCode.SEND_REPLY_MESSAGE_V2])
#: Marks of all kinds of templates, what JSON escapes, and the separators of properties.
NASTY = st.sampled_from(
    ["%d", "%", "%%s", "@e@", "{0}", '"', "\\", '\\"', "\x00\x01\x02\x1f\x7f", "\u2028", "主题", "🚀", "\n"]
)
TEXT = st.lists(NASTY | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=5).map("".join)
FIELDS = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "k", "l", "m", "n", "%d"]), st.none() | TEXT)
VARYING = st.tuples(INT32, INT32, INT64, INT32, TEXT, INT32)


def made(code: RequestCode, fields: dict[str, str | None], varying: tuple[Any, ...], body: bytes = b"body") -> PreparedCommand:
    return SendTemplate(code, fields).command(*varying, body)


def general(code: RequestCode, fields: dict[str, str | None], varying: tuple[Any, ...]) -> RemotingCommand:
    values = dict(zip(["e", "f", "g", "h", "i", "j"], map(str, varying), strict=True))
    return RemotingCommand(code, ext_fields={**fields, **values}, body=b"body")


def header_of(frame: bytes) -> Any:
    return json.loads(frame[8 : 8 + int.from_bytes(frame[5:8], "big")].decode("utf-8"))


@given(CODES, FIELDS, VARYING, INT32, INT32)
@example(RequestCode.SEND_MESSAGE_V2, {}, (0, 0, 0, 0, "", 0), 0, 0)
def test_same_header(
    code: RequestCode, fields: dict[str, str | None], varying: tuple[Any, ...], opaque: int, flag: int
) -> None:
    command, expected = made(code, fields, varying), general(code, fields, varying)
    for one in (command, expected):
        one.opaque, one.flag = opaque, flag
    frame = encode_command(command)
    assert command.prepared_json_header() is not None, "it was the template that wrote the frame"
    assert header_of(frame) == header_of(encode_command(expected))
    assert frame.endswith(b"body")
    [read] = FrameDecoder().feed(frame)
    assert read.ext_fields == {name: value for name, value in (expected.ext_fields or {}).items() if value is not None}
    assert (read.language, read.body, read.opaque, read.flag) == (LanguageCode.PYTHON, b"body", opaque, flag)


@given(CODES, FIELDS, VARYING)
def test_same_rocketmq_header(code: RequestCode, fields: dict[str, str | None], varying: tuple[Any, ...]) -> None:
    command, expected = made(code, fields, varying), general(code, fields, varying)
    read = [FrameDecoder().feed(encode_command(one, SerializeType.ROCKETMQ))[0] for one in (command, expected)]
    assert read[0].ext_fields == read[1].ext_fields
    assert read[0].code == read[1].code == code


VALUES = (3, 0, 1_726_736_740_123, 0, "KEYS\x01k\x02", 1)
TEMPLATE_FIELDS: dict[str, str | None] = {"a": "group", "b": "topic", "n": "broker-a", "l": None}


def test_one_template_serves_many() -> None:
    template = SendTemplate(RequestCode.SEND_MESSAGE_V2, TEMPLATE_FIELDS)
    commands = [template.command(number, 0, 0, 0, f"p{number}", 0, b"%d" % number) for number in range(3)]
    for number, command in enumerate(commands):
        command.opaque = number
    for number, command in enumerate(commands):
        [read] = FrameDecoder().feed(encode_command(command))
        assert read.ext_fields is not None
        assert (read.opaque, read.ext_fields["e"], read.ext_fields["i"]) == (number, str(number), f"p{number}")
        assert read.body == b"%d" % number


def test_fields_that_were_looked_at_are_what_travels() -> None:
    command = made(RequestCode.SEND_MESSAGE_V2, TEMPLATE_FIELDS, VALUES)
    command.ext_fields["hook"] = "x"
    command.ext_fields["b"] = "other"
    [read] = FrameDecoder().feed(encode_command(command))
    assert read.ext_fields == {
        "a": "group", "b": "other", "n": "broker-a", "hook": "x",
        "e": "3", "f": "0", "g": "1726736740123", "h": "0", "i": "KEYS\x01k\x02", "j": "1",
    }  # fmt: skip
    command.ext_fields = {"only": "this"}
    [read] = FrameDecoder().feed(encode_command(command))
    assert read.ext_fields == {"only": "this"}


def test_flag_and_opaque_are_taken_when_it_is_encoded() -> None:
    command = made(RequestCode.SEND_MESSAGE_V2, TEMPLATE_FIELDS, VALUES)
    encode_command(command)
    command.flag |= RpcFlag.ONEWAY
    command.opaque = 42
    [read] = FrameDecoder().feed(encode_command(command))
    assert (read.opaque, read.is_oneway) == (42, True)


@pytest.mark.parametrize("serialize_type", SerializeType)
def test_properties_that_are_not_unicode_are_our_own_error(serialize_type: SerializeType) -> None:
    command = made(RequestCode.SEND_MESSAGE_V2, TEMPLATE_FIELDS, (0, 0, 0, 0, "k\x01\ud800", 0))
    with pytest.raises(LocalProtocolError):
        encode_command(command, serialize_type)


ANSWER: dict[str, str | None] = {"msgId": "7F01", "queueId": "3", "queueOffset": "42"}


QUEUE = MessageQueue("t", "b", 0)


def read(ext: dict[str, str | None] | None, queue: MessageQueue = QUEUE) -> SendResult:
    return read_send_answer(RemotingCommand(0, ext_fields=ext), "here:1", queue, "ID")


def test_answer() -> None:
    full = {**ANSWER, "transactionId": "T", "recallHandle": "R", "MSG_REGION": "here"}
    sent_to, stored_in = MessageQueue("t", "b", -1), MessageQueue("t", "b", 3)
    assert read(full, sent_to) == SendResult(SendStatus.SEND_OK, "ID", "7F01", stored_in, 42, "T", "here", "R")
    assert read(ANSWER, stored_in) == SendResult(SendStatus.SEND_OK, "ID", "7F01", stored_in, 42, None, "DefaultRegion", None)


@pytest.mark.parametrize(
    "wrong",
    [{"queueId": None}, {"queueId": ""}, {"queueId": "x"}, {"queueOffset": "1.5"}, {"queueOffset": None}],
)
def test_answer_with_a_wrong_field(wrong: dict[str, str | None]) -> None:
    with pytest.raises(RemoteProtocolError):
        read({**ANSWER, **wrong})


@pytest.mark.parametrize("missing", ANSWER)
def test_answer_without_a_field(missing: str) -> None:
    ext = {name: value for name, value in ANSWER.items() if name != missing}
    with pytest.raises(RemoteProtocolError, match=missing):
        read(ext)


def test_answer_without_fields() -> None:
    with pytest.raises(RemoteProtocolError):
        read(None)
