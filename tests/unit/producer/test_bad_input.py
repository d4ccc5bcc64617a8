"""What no broker would take, or would take as something else, is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grocketmq.errors import ConfigError, MessageError
from grocketmq.model.message import Message
from grocketmq.model.message_id import UniqueIdGenerator
from grocketmq.model.properties import RESERVED_NAMES, Property, decode_properties
from grocketmq.producer import Backpressure, ProducerConfig
from grocketmq.producer.outgoing import OutgoingMaker
from grocketmq.producer.requests import create_reply
from grocketmq.producer.split import split_batch

INJECTED = "x\x02TAGS\x01stolen"
LONE = "\ud800"


def maker(**options: Any) -> OutgoingMaker:
    return OutgoingMaker("group", ProducerConfig(**options), UniqueIdGenerator(b"\x7f\0\0\1", 1, 1), False)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tags": INJECTED}, "the tag holds the control character"),
        ({"tags": "a\x01b"}, "control character"),
        ({"tags": "a\nb"}, "control character"),
        ({"tags": LONE}, "not encodable"),
        ({"tags": 5}, "not a str"),
        ({"keys": INJECTED}, "a key holds the control character"),
        ({"keys": ["good", "b\x00d"]}, "control character"),
        ({"keys": ["a b"]}, "without spaces"),
        ({"keys": ["a", ""]}, "without spaces"),
        ({"keys": [b"a"]}, "not a str"),
        ({"keys": 5}, "must be a str or an iterable"),
        ({"keys": LONE}, "not encodable"),
        ({"sharding_key": INJECTED}, "the sharding key holds the control character"),
        ({"properties": {"own": INJECTED}}, "property 'own' holds the control character"),
        ({"properties": {"own": "a\x01b"}}, "control character"),
        ({"properties": {"own\x01": "a"}}, "the name of a property holds the control character"),
        ({"properties": {"own\n": "a"}}, "control character"),
        ({"properties": {"own": ""}}, "empty or blank"),
        ({"properties": {" ": "a"}}, "empty or blank"),
        ({"properties": {"own": 5}}, "not a str"),
        ({"properties": {5: "a"}}, "not a str"),
        ({"properties": {"own": LONE}}, "not encodable"),
        ({"properties": [("own", "a")]}, "must be a mapping"),
        ({"flag": 1 << 31}, "32 bits"),
        ({"flag": "1"}, "32 bits"),
    ],
)
def test_what_a_message_is_not_made_of(options: dict[str, Any], why: str) -> None:
    with pytest.raises(MessageError, match=why):
        Message("T", b"body", **options)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_names_of_the_protocol_are_reserved(name: str) -> None:
    with pytest.raises(MessageError, match="belongs to the protocol"):
        Message("T", b"body", properties={name: "value"})


@pytest.mark.parametrize("body", [None, 5, "lone \ud800", ["bytes"]])
def test_bodies_that_are_no_bytes(body: Any) -> None:
    with pytest.raises(MessageError, match="body"):
        Message("T", body)


def test_a_value_may_hold_lines_and_every_other_character() -> None:
    value = "one\ttwo\r\nthree \u0085 \u2028 主题 \U0001f600"
    message = Message("T", b"body", properties={"own": value}, tags="主题", keys=["\U0001f600", "é"])
    properties = decode_properties(maker().message(message).properties)
    assert (properties["own"], properties["TAGS"], properties["KEYS"]) == (value, "主题", "\U0001f600 é")


def written(name: str, value: str) -> Message:
    message = Message("T", b"body")
    message.properties[name] = value
    return message


@pytest.mark.parametrize(
    "message",
    [
        written("own", INJECTED),
        written("own\x01", "a"),
        written("own\x02", "a"),
        written(Property.TAGS, INJECTED),
        written("own", LONE),
    ],
)
def test_properties_written_past_the_checks_add_none(message: Message) -> None:
    for prepare in (maker().message, lambda one: maker().batch([Message("T", b"first"), one])):
        with pytest.raises(MessageError, match="T"):
            prepare(message)


def test_a_value_that_came_with_a_separator_goes_on_as_it_is() -> None:
    """0x01 within a value is legal on the wire, and a message that was consumed may be sent on."""
    text = maker().message(written("own", "a\x01b")).properties
    assert decode_properties(text)["own"] == "a\x01b"


@pytest.mark.parametrize(("size", "fits"), [(0, False), (1, True), (100, True), (101, False)])
def test_the_limit_of_the_body(size: int, fits: bool) -> None:
    message = Message("T", bytes(size))
    if fits:
        assert maker(max_message_size=100).message(message).body == bytes(size)
    else:
        with pytest.raises(MessageError, match="empty" if not size else "101 bytes is larger than 100"):
            maker(max_message_size=100).message(message)


def later(message: Message, **attributes: Any) -> Message:
    for name, value in attributes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"body": "text"}, "not bytes"),
        ({"body": None}, "not bytes"),
        ({"flag": "1"}, "32 bits"),
        ({"topic": "a b"}, "other characters"),
        ({"topic": "x" * 128}, "longer than 127"),
        ({"topic": "SCHEDULE_TOPIC_XXXX"}, "brokers only"),
    ],
)
def test_what_was_changed_later_is_looked_at_when_it_is_sent(attributes: dict[str, Any], why: str) -> None:
    with pytest.raises(MessageError, match=why):
        maker().message(later(Message("T", b"body"), **attributes))


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (list, "at least one"),
        (lambda: [Message("T", b"1"), Message("U", b"2")], "one topic, not to T and U"),
        (lambda: [Message("T", b"1"), Message("T", b"2", delay_level=1)], "delayed"),
        (lambda: [Message("T", b"1", delay=5), Message("T", b"2", delay=6)], "delayed"),
        (lambda: [Message("T", b"1", deliver_at=2e9)], "delayed"),
        (lambda: [Message("T", b"1"), Message("T", b"2", wait_store_ok=False)], "wait_store_ok"),
        (lambda: [Message("T", b"1"), Message("T", b"")], "empty body"),
        (lambda: [Message("T", b"1"), Message("T b", b"2")], "other characters"),
        (lambda: [Message("%RETRY%g", b"1")], "retry topic"),
        (lambda: [Message("T", bytes(60)), Message("T", bytes(60))], "split_batch"),
        (lambda: [Message("T", b"1"), "text"], "Message is needed"),
    ],
)
def test_lists_that_are_no_batch(messages: Callable[[], list[Any]], why: str) -> None:
    with pytest.raises(MessageError, match=why):
        maker(max_message_size=100).batch(messages())


def test_what_no_reply_is_made_from() -> None:
    with pytest.raises(MessageError, match="not from 'the request'"):
        create_reply("the request", b"answer")  # type: ignore[arg-type]


def test_what_is_not_split_into_batches() -> None:
    with pytest.raises(MessageError, match="split_batch takes messages, not 'a'"):
        list(split_batch("abc"))  # type: ignore[arg-type]


def test_a_timeout_in_milliseconds_is_noticed() -> None:
    with pytest.raises(ConfigError, match="send_timeout is 3000"):
        ProducerConfig(send_timeout=3000)


@pytest.mark.parametrize("options", [{"retries": 1.5}, {"retries": None}, {"send_timeout": None}])
def test_numbers_that_would_fail_a_send(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is "):
        ProducerConfig(**options)


@pytest.mark.parametrize("options", [{"max_messages": None}, {"max_messages": 1.5}, {"max_bytes": 0}])
def test_bounds_that_bound_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is "):
        Backpressure(**options)
