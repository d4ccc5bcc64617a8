"""Reading and writing header fields beyond what the vectors show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import RemoteProtocolError
from grocketmq.wire import headers
from grocketmq.wire.headers import (
    CommandHeader,
    PullMessageRequestHeader,
    QueryConsumerOffsetResponseHeader,
    ResetOffsetRequestHeader,
    UnregisterClientRequestHeader,
)

CLASSES = [
    cls for cls in vars(headers).values() if isinstance(cls, type) and issubclass(cls, CommandHeader) and hasattr(cls, "CODE")
]


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "1_0", "1.0", "0x1", "９", "--1", "1L", "9223372036854775808", "1" * 50, "true"]
)
def test_number_that_is_none(text: str) -> None:
    assert QueryConsumerOffsetResponseHeader.from_ext({"offset": text}).offset is None
    with pytest.raises(RemoteProtocolError, match="QueryConsumerOffsetResponseHeader: field offset cannot be read from"):
        QueryConsumerOffsetResponseHeader.parse({"offset": text})


@pytest.mark.parametrize(("text", "number"), [("-9223372036854775808", -(1 << 63)), ("+5", 5), ("007", 7)])
def test_number(text: str, number: int) -> None:
    assert QueryConsumerOffsetResponseHeader.parse({"offset": text}).offset == number


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("TRUE", True), ("false", False), ("1", False), ("", False)])
def test_flag(text: str, flag: bool) -> None:
    assert ResetOffsetRequestHeader.from_ext({"isForce": text}).is_force is flag


def test_absent_and_null_are_alike() -> None:
    for ext in (None, {}, {"offset": None, "other": "1"}):
        with pytest.raises(RemoteProtocolError, match="QueryConsumerOffsetResponseHeader: field offset is missing"):
            QueryConsumerOffsetResponseHeader.parse(ext)
    assert ResetOffsetRequestHeader.from_ext({}).queue_id == -1


def test_irregular_names() -> None:
    assert UnregisterClientRequestHeader(client_id="c").to_ext() == {"clientID": "c"}
    assert PullMessageRequestHeader.wire_names()["proxy_forward_client_id"] == "proxyFrowardClientId"


@given(st.sampled_from(CLASSES), st.data())
def test_any_ext(cls: type[CommandHeader], data: st.DataObject) -> None:
    names = sorted(cls.wire_names().values()) or ["x"]
    ext = data.draw(st.dictionaries(st.sampled_from(names), st.none() | st.text(max_size=30)))
    refusal = ""
    try:
        header = cls.parse(ext)
        assert cls.parse(header.to_ext()) == header
    except RemoteProtocolError as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith(f"{cls.__name__}: ")
