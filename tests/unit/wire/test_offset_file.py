"""Offset files: names that stay inside, texts that were damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import ConfigError, RemoteProtocolError
from grocketmq.model.route import MessageQueue
from grocketmq.wire.offset_file import decode_offsets, encode_offsets, merge_offsets, offsets_path, read_offsets

QUEUE = MessageQueue("T", "broker-a", 1)
GOOD = encode_offsets({QUEUE: 42})

names = st.text(st.characters(codec="utf-8"), max_size=20)
tables = st.dictionaries(
    st.builds(MessageQueue, names, names, st.integers(-(2**31), 2**31 - 1)),
    st.integers(-(2**63), 2**63 - 1),
    max_size=10,
)


@given(tables)
def test_what_is_written_is_read(offsets: dict[MessageQueue, int]) -> None:
    assert decode_offsets(encode_offsets(offsets)) == offsets


@given(st.binary(max_size=200) | st.text(st.sampled_from('{}[]":,0T') | st.characters(codec="utf-8")).map(str.encode))
def test_any_text_is_read_or_refused(text: bytes) -> None:
    try:
        decode_offsets(text)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_a_cut_file_is_refused(cut: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_offsets(GOOD[:cut])


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"offsetTable":[]}',
        '{"offsetTable":{"T":1}}',
        '{"offsetTable":{1:1}}',
        '{"offsetTable":{{"topic":"T","brokerName":"b","queueId":true}:1}}',
        '{"offsetTable":{{"topic":"T","brokerName":"b","queueId":0}:"x"}}',
        '{"offsetTable":{{"topic":"T","brokerName":"b","queueId":0}:1.5}}',
        '{"offsetTable":{{"topic":"T","brokerName":"b","queueId":0}:9223372036854775808}}',
    ],
)
def test_wrong_content_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="OffsetSerializeWrapper"):
        decode_offsets(text.encode())


def test_the_backup_stands_in_for_a_damaged_file() -> None:
    read = read_offsets(GOOD[:-3], GOOD)
    assert read.offsets == {QUEUE: 42}
    assert isinstance(read.damage, RemoteProtocolError)


@pytest.mark.parametrize("text", [None, b""])
def test_the_backup_stands_in_for_a_missing_file(text: bytes | None) -> None:
    assert read_offsets(text, GOOD) == ({QUEUE: 42}, None)


def test_a_good_file_needs_no_backup() -> None:
    assert read_offsets(GOOD, b"nonsense") == ({QUEUE: 42}, None)


@pytest.mark.parametrize("text", [None, b"", b"{"])
def test_a_damaged_backup_that_is_needed_is_an_error(text: bytes | None) -> None:
    with pytest.raises(RemoteProtocolError):
        read_offsets(text, b"nonsense")


def test_without_any_file_there_is_no_offset() -> None:
    assert read_offsets(None, None) == ({}, None)


def test_queues_that_are_not_assigned_keep_what_was_stored() -> None:
    other, new = MessageQueue("T", "broker-a", 2), MessageQueue("T", "broker-a", 3)
    merged = merge_offsets({QUEUE: 1, other: 2}, {QUEUE: 10, other: 20, new: 30}, [QUEUE, MessageQueue("T", "b", 9)])
    assert merged == {QUEUE: 10, other: 2}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/etc", "a\\b", "a\0b"])
def test_names_stay_inside_the_directory(name: str) -> None:
    with pytest.raises(ConfigError):
        offsets_path("10.0.0.1@DEFAULT", name)
    with pytest.raises(ConfigError):
        offsets_path(name, "GID")
