"""Traces are written and read as Java writes and reads them."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from typing import Any

import pytest

from grocketmq.errors import RemoteProtocolError
from grocketmq.model.results import LocalTransactionState
from grocketmq.wire.trace_codec import (
    TraceBean,
    TraceContext,
    TraceMessageType,
    TraceType,
    decode_trace,
    encode_trace,
    trace_keys,
)
from tests.vectors.loader import vector


@vector("trace", "Pub", "Recall", "SubBefore", "SubAfter", "EndTransaction")
def test_written(case: dict[str, Any]) -> None:
    context = context_of(case["context"])
    assert encode_trace(context) == case["encoded"]
    assert trace_keys([context]) == set(case["trans_keys"])


@vector("trace", "Pub", "Recall", "SubBefore", "SubAfter", "EndTransaction", "decode")
def test_read(case: dict[str, Any]) -> None:
    if case["decode_error"]:
        with pytest.raises(RemoteProtocolError):
            decode_trace(case["encoded"])
        return
    decoded = decode_trace(case["encoded"])
    assert len(decoded) == len(case["decoded"])
    for context, expected in zip(decoded, case["decoded"], strict=True):
        assert_shows(context, expected)
        for bean, expected_bean in zip(context.beans, expected["beans"], strict=True):
            assert_shows(bean, expected_bean)


def context_of(values: dict[str, Any]) -> TraceContext:
    given = dict(values)
    trace_type = TraceType(given.pop("type"))
    beans = [bean_of(bean) for bean in given.pop("beans")]
    return TraceContext(trace_type, **given, beans=beans)


def bean_of(values: dict[str, Any]) -> TraceBean:
    given = dict(values)
    if given.get("msg_type") is not None:
        given["msg_type"] = TraceMessageType(given["msg_type"])
    if given.get("transaction_state") is not None:
        given["transaction_state"] = LocalTransactionState(given["transaction_state"])
    return TraceBean(**given)


def assert_shows(thing: TraceContext | TraceBean, expected: dict[str, Any]) -> None:
    """What the vectors leave out is the clock or the host of the machine that made them."""
    shown = {one.name: getattr(thing, one.name) for one in fields(thing) if one.name != "beans"}
    if "trace_type" in shown:
        shown["type"] = shown.pop("trace_type")
    shown = {name: value.value if isinstance(value, Enum) else value for name, value in shown.items()}
    wanted = {name: value for name, value in expected.items() if name != "beans"}
    assert {name: shown[name] for name in wanted} == wanted
