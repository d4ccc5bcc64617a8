"""Giving a message back to the brokers."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from grocketmq.codes import RequestCode
from grocketmq.consumer.send_back import SendBack
from grocketmq.errors import BrokerSystemError, ConnectError
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import decode_properties
from grocketmq.wire.flags import CompressionType, MessageSysFlag
from tests.unit.client.fakes import FakeAPI, FakeInstance, route

ROUTES = {"T": route("a"), "%RETRY%g": route("b", queues=1)}


def message(**options: Any) -> MessageExt:
    properties = {
        "UNIQ_KEY": "ID",
        "TAGS": "t",
        "own": "value",
        "TRAN_MSG": "true",
        "MIN_OFFSET": "1",
        "MAX_OFFSET": "9",
        **options.pop("properties", {}),
    }
    values = {"broker_name": "a", "flag": 6, "reconsume_times": 2, "store_host": (b"\x0a\0\0\1", 10911), **options}
    return MessageExt(
        "T", options.pop("body", b"body"), properties=properties, **{k: v for k, v in values.items() if k != "body"}
    )


def send_back(api: FakeAPI, one: MessageExt, delay_level: int = 0, **routes: Any) -> bool:
    return SendBack("g", FakeInstance(api, **(routes or ROUTES)), 16).try_send(one, delay_level)  # type: ignore[arg-type]


def sent_anew(api: FakeAPI) -> tuple[str, Any]:
    ((address, command, queue, _, deadline),) = api.named("send")
    assert 0 < deadline.remaining() <= 5
    assert (queue.topic, queue.broker_name) == ("%RETRY%g", "b")
    return address, command


def test_the_broker_that_holds_it_takes_it_back() -> None:
    api, one = FakeAPI(), message()
    assert send_back(api, one, 4)
    assert api.calls == [("send_back", "a:10911", one, "g", 4, 16)]


def test_without_a_master_its_own_host_is_asked() -> None:
    api = FakeAPI()
    assert send_back(api, message(broker_name="gone"))
    assert api.calls[0][1] == "10.0.0.1:10911"


@pytest.mark.parametrize("error", [ConnectError("refused"), BrokerSystemError(1, "look message by offset failed", "a")])
def test_otherwise_it_goes_to_the_retry_topic_as_a_new_message(error: Exception) -> None:
    """Given that the broker cannot take it back, then any broker gets it with all that the next delivery needs."""
    api = FakeAPI(send_back=error)
    assert send_back(api, message())
    address, command = sent_anew(api)
    fields = command.ext_fields
    assert address == "b:10911"
    assert command.code == RequestCode.SEND_MESSAGE_V2
    assert {name: fields[name] for name in "abcdefhjklmn"} == {
        "a": "g",
        "b": "%RETRY%g",
        "c": "TBW102",
        "d": "1",
        "e": "0",
        "f": "0",
        "h": "6",
        "j": "3",
        "k": "false",
        "l": "16",
        "m": "false",
        "n": "b",
    }
    assert command.body == b"body"
    assert decode_properties(fields["i"]) == {
        "UNIQ_KEY": "ID",
        "TAGS": "t",
        "own": "value",
        "RETRY_TOPIC": "T",
        "ORIGIN_MESSAGE_ID": "ID",
        "DELAY": "5",
    }


def test_the_first_id_of_a_message_is_kept() -> None:
    api = FakeAPI(send_back=ConnectError("refused"))
    assert send_back(api, message(properties={"ORIGIN_MESSAGE_ID": "FIRST"}))
    assert decode_properties(sent_anew(api)[1].ext_fields["i"])["ORIGIN_MESSAGE_ID"] == "FIRST"


def test_the_message_itself_stays_as_it_was() -> None:
    api, one = FakeAPI(send_back=ConnectError("refused")), message()
    before = dict(one.properties)
    send_back(api, one)
    assert (one.properties, one.reconsume_times, one.topic) == (before, 2, "T")


def test_a_large_body_is_packed() -> None:
    api = FakeAPI(send_back=ConnectError("refused"))
    assert send_back(api, message(body=bytes(10_000)))
    _, command = sent_anew(api)
    assert zlib.decompress(command.body) == bytes(10_000)
    assert command.ext_fields["f"] == str(MessageSysFlag.COMPRESSED | CompressionType.ZLIB.sys_flag)


@pytest.mark.parametrize("routes", [ROUTES, {"T": route("a")}])
def test_when_nobody_takes_it_that_is_told(routes: Any) -> None:
    api = FakeAPI(send_back=ConnectError("refused"), send=ConnectError("refused"))
    assert not send_back(api, message(), **routes)
