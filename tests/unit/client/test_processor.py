"""What brokers ask of a client, by bytes that are not right."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from grocketmq.client.processor import BrokerRequests
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.wire.command import RemotingCommand
from tests.unit.client.fakes import FakeMember


def test_a_message_to_consume_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """The operator who asked is told what is wrong with it; it is no fault of this client."""
    serve: dict[int, Any] = {}
    members = SimpleNamespace(consumer=FakeMember)
    BrokerRequests(SimpleNamespace(register_processor=serve.__setitem__), members)  # type: ignore[arg-type]
    request = RemotingCommand(RequestCode.CONSUME_MESSAGE_DIRECTLY, ext_fields={"consumerGroup": "g"}, body=b"no message")
    answer = serve[RequestCode.CONSUME_MESSAGE_DIRECTLY](request, "b:10911")
    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert answer.remark.startswith("request cannot be read: stored message at 0")
    assert not caplog.records
