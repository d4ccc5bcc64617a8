"""Small rules of the Java classes, one call a case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grocketmq.codes import LanguageCode
from grocketmq.errors import ConfigError, MessageError, RemoteProtocolError
from grocketmq.model.addresses import client_id, vip_address
from grocketmq.model.message import Message
from grocketmq.model.namespace import (
    dlq_topic,
    group_of_retry_topic,
    normal_topic,
    pop_retry_topic_v1,
    pop_retry_topic_v2,
    reply_topic,
    retry_topic,
)
from grocketmq.model.properties import RESERVED_NAMES
from grocketmq.model.recall_handle import RecallHandle, decode_recall_handle, encode_recall_handle
from grocketmq.model.route import BrokerData, Permission, QueueData, TopicRouteData, publish_info, subscribe_queues
from grocketmq.model.validators import NO_SEND_TOPICS, check_group, check_message, check_not_system_topic, check_topic
from grocketmq.model.version import version_name, version_number
from grocketmq.producer.faults import LATENCY_STEPS, PENALTIES, penalty
from grocketmq.wire.flags import PullSysFlag, pull_sys_flag
from grocketmq.wire.pop_info import (
    PopCheckPoint,
    decode_msg_offset_info,
    decode_order_count_info,
    decode_pop_ck,
    decode_start_offset_info,
    real_topic,
    retry_flag,
)
from tests.vectors.loader import vector

Case = dict[str, Any]


def passes(check: Callable[[Any], object], value: Any, error: type[Exception] = ConfigError) -> bool:
    try:
        check(value)
    except error:
        return False
    return True


def cut_everywhere(text: str, read: Callable[[str], object]) -> None:
    """Every beginning of the text is read or refused."""
    for cut in range(len(text)):
        passes(read, text[:cut], RemoteProtocolError)


@vector("misc", "pop_ck")
def test_pop_ck(case: Case) -> None:
    names = ("ck_queue_offset", "pop_time", "invisible_time", "revive_qid")
    point = PopCheckPoint(
        *(case[name] for name in names),
        retry=retry_flag(case["topic"]),
        broker_name=case["broker"],
        queue_id=case["queue_id"],
    )
    assert str(point) == case["string_without_offset"]
    assert decode_pop_ck(case["string_without_offset"]) == point
    decoded, parsed = decode_pop_ck(case["string"]), case["parsed"]
    assert str(decoded) == case["string"]
    assert [getattr(decoded, name) for name in names] == [parsed[name] for name in names]
    assert (decoded.retry, decoded.broker_name, decoded.queue_id) == (parsed["retry"], parsed["broker"], parsed["queue_id"])
    assert (decoded.queue_offset, decoded.is_order) == (parsed["queue_offset"], parsed["is_order"])
    cut_everywhere(case["string"], decode_pop_ck)


@vector("misc", "pop_ck")
def test_pop_real_topic(case: Case) -> None:
    real = case["real_topic_for_group_G"]
    assert real_topic(case["parsed"]["retry"], normal_topic(real, "G"), "G") == real


@vector("misc", "pop_start_offset_info", "pop_msg_offset_info", "pop_order_count_info")
def test_pop_tables(case: Case) -> None:
    read: Callable[[Any], object] = {
        "pop_start_offset_info": decode_start_offset_info,
        "pop_msg_offset_info": decode_msg_offset_info,
        "pop_order_count_info": decode_order_count_info,
    }[case["kind"]]
    if case["error"]:
        with pytest.raises(RemoteProtocolError):
            read(case["string"])
    else:
        assert read(case["string"]) == (case["parsed"] or {})
    cut_everywhere(case["string"] or "", read)


@vector("misc", "retry_topics")
def test_retry_topics(case: Case) -> None:
    topic, group = case["topic"], case["group"]
    v1, v2 = pop_retry_topic_v1(topic, group), pop_retry_topic_v2(topic, group)
    assert (retry_topic(group), dlq_topic(group), v1, v2) == (case["retry"], case["dlq"], case["pop_v1"], case["pop_v2"])
    assert (normal_topic(v1, group), normal_topic(v2, group)) == (case["normal_from_v1"], case["normal_from_v2"])
    assert group_of_retry_topic(retry_topic(group)) == group_of_retry_topic(v2) == case["group_of_retry"]
    assert reply_topic(group) == case["reply_topic_of_cluster"]


@vector("misc", "recall_handle")
def test_recall_handle(case: Case) -> None:
    handle = RecallHandle(case["topic"], case["broker"], case["timestamp"], case["message_id"])
    assert encode_recall_handle(handle) == case["handle"]
    assert decode_recall_handle(case["handle"]) == tuple(
        case["decoded"][name] for name in ("topic", "broker", "timestamp", "message_id")
    )


@vector("misc", "recall_handle_odd")
def test_odd_recall_handle(case: Case) -> None:
    text = case["handle"] or ""
    if case["error"]:
        with pytest.raises(MessageError):
            decode_recall_handle(text)
    else:
        assert decode_recall_handle(text) == tuple(
            case["decoded"][name] for name in ("topic", "broker", "timestamp", "message_id")
        )


@vector("misc", "route_to_queues")
def test_route_to_queues(case: Case) -> None:
    route = TopicRouteData(
        tuple(QueueData(*data) for data in case["queue_datas"]),
        tuple(
            BrokerData(data["name"], {int(number): address for number, address in data["addrs"].items()})
            for data in case["broker_datas"]
        ),
        case["order_conf"],
    )
    publish = publish_info("VEC_t", route)
    assert [[one.topic, one.broker_name, one.queue_id] for one in publish.queues] == case["publish"]
    assert publish.order_topic == case["publish_order_topic"]
    subscribe = subscribe_queues("VEC_t", route)
    assert [[one.topic, one.broker_name, one.queue_id] for one in subscribe] == case["subscribe_sorted"]


@vector("misc", "validate_topic", "validate_group", "validate_not_allowed_send", "validate_system_topic")
def test_names(case: Case) -> None:
    check: Callable[[Any], object] = {
        "validate_topic": check_topic,
        "validate_group": check_group,
        "validate_system_topic": check_not_system_topic,
    }.get(case["kind"], lambda topic: None)
    ok = passes(check, case["input"])
    if case["kind"] == "validate_not_allowed_send":
        ok = case["input"] not in NO_SEND_TOPICS
    assert ok == case["ok"]


@vector("misc", "validate_message")
def test_message(case: Case) -> None:
    if "topic" not in case:
        message = None
    else:
        message = Message("T", b"")
        message.topic = case["topic"]
        if case["body_len"] is not None and case["body_len"] >= 0:
            message.body = bytes(case["body_len"])
    assert passes(check_message, message, MessageError) == case["ok"]


@vector("misc", "validate_not_allowed_send")
def test_message_to_a_topic_of_the_brokers(case: Case) -> None:
    legal = passes(check_topic, case["input"])
    message = Message("T", b"body")
    message.topic = case["input"]
    assert passes(check_message, message, MessageError) == (legal and case["ok"])


@vector("misc", "message_properties")
def test_message_properties(case: Case) -> None:
    properties = case["properties"]
    arguments: dict[str, Any] = {"flag": case["flag"], "wait_store_ok": properties.get("WAIT") == "true"}
    makers: dict[str, Callable[[str], dict[str, Any]]] = {
        "TAGS": lambda value: {"tags": value},
        "KEYS": lambda value: {"keys": value.split(" ")},
        "DELAY": lambda value: {"delay_level": int(value)},
        "TIMER_DELAY_MS": lambda value: {"delay": int(value) / 1000},
        "TIMER_DELIVER_MS": lambda value: {"deliver_at": int(value) / 1000},
        "__SHARDINGKEY": lambda value: {"sharding_key": value},
    }
    for name, make in makers.items():
        if name in properties:
            arguments.update(make(properties[name]))
    message = Message("T", b"body", **arguments)
    for name, value in properties.items():
        if name in RESERVED_NAMES - makers.keys() - {"WAIT"}:
            message.properties[name] = value  # clients of ours set it themselves where it has a meaning
        elif name not in makers and name != "WAIT":
            message.put_property(name, value)
    assert message.properties == properties
    assert (message.flag, message.tags, message.keys) == (case["flag"], case["tags"], case["keys"])
    assert (message.delay_level, message.wait_store_ok) == (case["delay_level"], case["wait_store_msg_ok"])


@vector("misc", "put_user_property")
def test_put_user_property(case: Case) -> None:
    message = Message("T", b"body")
    assert passes(lambda name: message.put_property(name, "value"), case["name"], MessageError) == case["ok"]
    if case["ok"]:
        assert message.properties[case["name"]] == "value"


@vector("misc", "pull_sys_flag")
def test_pull_sys_flag(case: Case) -> None:
    flag = pull_sys_flag(
        commit_offset=case["commit_offset"],
        suspend=case["suspend"],
        subscription=case["subscription"],
        class_filter=case["class_filter"],
        lite_pull=case["lite_pull"],
    )
    assert flag == case["value"]
    assert flag & ~PullSysFlag.COMMIT_OFFSET == case["without_commit"]
    assert flag & ~PullSysFlag.SUSPEND == case["without_suspend"]


@vector("misc", "perm")
def test_perm(case: Case) -> None:
    perm = case["perm"]
    queues = QueueData("broker", 1, 1, perm)
    assert (Permission.text(perm), Permission.is_valid(perm)) == (case["text"], case["valid"])
    assert (queues.readable, queues.writable) == (case["readable"], case["writeable"])
    assert bool(perm & Permission.INHERIT) == case["inherited"]


@vector("misc", "client_id")
def test_client_id(case: Case) -> None:
    assert client_id(case["ip"], case["instance"], case["unit"], stream=case["stream"]) == case["client_id"]


@vector("misc", "vip_channel")
def test_vip_channel(case: Case) -> None:
    assert vip_address(case["addr"]) == case["vip"]
    assert case["off"] == case["addr"]


@vector("misc", "fault_duration")
def test_fault_duration(case: Case) -> None:
    assert penalty(case["latency_ms"] / 1000) == case["not_available_ms"] / 1000


@vector("misc", "fault_tables")
def test_fault_tables(case: Case) -> None:
    assert [step * 1000 for step in LATENCY_STEPS] == pytest.approx(case["latency_max"])
    assert [seconds * 1000 for seconds in PENALTIES] == pytest.approx(case["not_available"])


@vector("misc", "version")
def test_version(case: Case) -> None:
    assert version_number(case["name"]) == case["number"]
    assert version_name(case["number"]) == case["name"]


@vector("misc", "language")
def test_language(case: Case) -> None:
    assert LanguageCode[case["name"]] == case["code"]
