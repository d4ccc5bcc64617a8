"""Checks of what users give, and texts that come from peers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import ConfigError, MessageError, RemoteProtocolError
from grocketmq.model.message import Message
from grocketmq.model.namespace import strip_namespace, without_namespace, wrap_namespace
from grocketmq.model.recall_handle import RecallHandle, decode_recall_handle, encode_recall_handle
from grocketmq.model.validators import check_batch, check_client_group, check_group, check_message, check_topic
from grocketmq.model.version import version_name, version_number
from grocketmq.producer.faults import penalty
from grocketmq.wire.pop_info import (
    PopCheckPoint,
    decode_msg_offset_info,
    decode_order_count_info,
    decode_pop_ck,
    decode_start_offset_info,
    message_key,
    queue_key,
    real_topic,
    retry_flag,
)

NAME = st.text("abcXYZ019_-", min_size=1)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize("name", [None, 5, b"topic", ["topic"], "", " ", "a b", "a\n", "主题", "x" * 256])
@pytest.mark.parametrize("check", [check_topic, check_group])
def test_names_that_are_refused(check: Any, name: Any) -> None:
    with pytest.raises(ConfigError):
        check(name)


def test_a_good_name_passes_again_and_again() -> None:
    for _ in range(3):
        check_topic("%RETRY%a-b_c|9")
        check_group("a-b_c|9")


@pytest.mark.parametrize("group", ["DEFAULT_PRODUCER", "DEFAULT_CONSUMER", "a b"])
def test_groups_that_no_client_may_have(group: str) -> None:
    with pytest.raises(ConfigError):
        check_client_group(group)


@pytest.mark.parametrize("message", [None, "text", ["list"]])
def test_no_message(message: Any) -> None:
    with pytest.raises(MessageError):
        check_message(message)


def test_limit_of_the_body() -> None:
    check_message(Message("T", b"1234"), max_bytes=4)
    with pytest.raises(MessageError, match="5 bytes is larger than 4"):
        check_message(Message("T", b"12345"), max_bytes=4)


def test_batches() -> None:
    check_batch([Message("T", b"1"), Message("T", b"2", tags="t")])
    for refused in ([], [Message("T", b"1"), Message("U", b"2")], [Message("T", b"1"), Message("T", b"2", delay_level=1)]):
        with pytest.raises(MessageError):
            check_batch(refused)


@given(NAME, NAME, st.sampled_from(["", "%RETRY%", "%DLQ%"]))
def test_namespaces_come_off_again(namespace: str, name: str, prefix: str) -> None:
    wrapped = wrap_namespace(namespace, prefix + name)
    assert wrap_namespace(namespace, wrapped) == wrapped
    assert without_namespace(wrapped, namespace) == prefix + name
    assert strip_namespace(wrapped) == prefix + name
    assert without_namespace(wrapped, namespace + "x") == wrapped


def test_penalties_grow() -> None:
    assert [penalty(seconds) for seconds in (0, 0.05, 0.6, 2, 4, 10, 1000)] == [0, 0, 2, 5, 6, 10, 30]


def test_versions() -> None:
    assert version_name(479) == "V5_3_3"
    assert version_name(10_000) == version_name(-1) == "HIGHER_VERSION"
    with pytest.raises(ValueError, match="not in tuple"):
        version_number("V9_9_9")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" "), min_size=1), min_size=4, max_size=4))
def test_recall_handles_come_back(fields: list[str]) -> None:
    handle = RecallHandle(*fields)
    assert decode_recall_handle(encode_recall_handle(handle)) == handle


def test_no_recall_handle_at_all() -> None:
    """What a send without a delay returns."""
    with pytest.raises(MessageError, match="only messages sent with delay or deliver_at have one"):
        decode_recall_handle(None)  # type: ignore[arg-type]


@given(st.text() | st.text("ABab01-_=") | st.binary().map(lambda raw: raw.hex()))
def test_any_text_as_recall_handle(text: str) -> None:
    try:
        decode_recall_handle(text)
    except MessageError:
        pass


@given(st.builds(PopCheckPoint, INT64, INT64, INT64, INT32, st.sampled_from("012"), NAME, INT32, INT64 | st.none()))
def test_check_points_come_back(point: PopCheckPoint) -> None:
    assert decode_pop_ck(str(point)) == point


@given(st.text() | st.text("012 ,;@-+9"))
def test_any_text_from_a_broker(text: str) -> None:
    for read in (decode_pop_ck, decode_start_offset_info, decode_msg_offset_info, decode_order_count_info):
        try:
            read(text)
        except RemoteProtocolError:
            pass


def test_pop_tables_are_read_by_their_keys() -> None:
    assert decode_start_offset_info("1 3 77;")[queue_key("1", 3)] == 77
    assert decode_order_count_info("0 qo3%7 2")[message_key("0", 3, 7)] == 2


def test_real_topics() -> None:
    for topic in ("T", "%RETRY%G_T", "%RETRY%G+T"):
        assert real_topic(retry_flag(topic), "T", "G") == topic
    with pytest.raises(RemoteProtocolError):
        real_topic("3", "T", "G")
