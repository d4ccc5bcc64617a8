"""Traces: what comes back, and texts that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.wire.trace_codec import (
    TraceBean,
    TraceContext,
    TraceMessageType,
    TraceType,
    decode_trace,
    encode_trace,
    trace_keys,
)

PUB = TraceContext(
    TraceType.PUB,
    1726736740123,
    "R",
    "PID",
    5,
    beans=[TraceBean("T", "ID", "OID", "tag", "k1 k2", "1.2.3.4:10911", msg_type=TraceMessageType.DELAY)],
)


def test_records_of_one_body_come_in_order() -> None:
    after = TraceContext(TraceType.SUB_AFTER, request_id="REQ", beans=[TraceBean(msg_id="A"), TraceBean(msg_id="B")])
    decoded = decode_trace(encode_trace(PUB) + encode_trace(after))
    assert [(one.trace_type, one.beans[0].msg_id) for one in decoded] == [
        (TraceType.PUB, "ID"),
        (TraceType.SUB_AFTER, "A"),
        (TraceType.SUB_AFTER, "B"),
    ]
    assert decoded[0].beans[0].msg_type is TraceMessageType.DELAY


def test_keys_are_ids_and_keys() -> None:
    assert trace_keys([PUB, TraceContext(TraceType.RECALL, beans=[TraceBean(msg_id="B", keys=None)])]) == {
        "ID",
        "k1",
        "k2",
        "B",
    }


def test_unknown_records_are_left_out() -> None:
    assert len(decode_trace("Later\x011\x02" + encode_trace(PUB) + "\x02")) == 1


@pytest.mark.parametrize(
    "record",
    [
        "Pub",
        "Pub\x01soon\x01R\x01G",
        "Pub\x011\x01R\x01G\x01T\x01ID\x01tag\x01key\x01host\x0111\x015\x019\x01OID\x01true",
        "SubBefore\x011\x01R\x01G\x01REQ\x01ID\x01many\x01key",
        "SubAfter\x01REQ\x01ID\x01 1\x01true\x01key",
        "EndTransaction\x011\x01R\x01G\x01T\x01ID\x01tag\x01key\x01host\x014\x01TX\x01MAYBE\x01true",
        "Recall\x011\x01R\x01G\x01T\x01ID",
    ],
)
def test_broken_records_are_refused(record: str) -> None:
    with pytest.raises(RemoteProtocolError, match="trace record"):
        decode_trace(record + "\x02")


@given(st.text(st.sampled_from("\x01\x02019-trueNull") | st.characters(), max_size=60), st.sampled_from(TraceType))
def test_any_text_is_read_or_refused(text: str, trace_type: TraceType) -> None:
    try:
        decode_trace(f"{trace_type.value}\x01{text}")
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    "context",
    [
        TraceContext(TraceType.SUB_BEFORE),
        TraceContext(TraceType.PUB, beans=[TraceBean()]),
        TraceContext(TraceType.END_TRANSACTION, beans=[TraceBean(msg_type=TraceMessageType.NORMAL)]),
    ],
)
def test_what_cannot_be_written_is_refused(context: TraceContext) -> None:
    with pytest.raises(LocalProtocolError):
        encode_trace(context)
