"""Every body against what Java writes and reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grocketmq.errors import RemoteProtocolError, TopicNotExistError, broker_error
from grocketmq.wire import bodies
from grocketmq.wire.bodies import Body
from grocketmq.wire.bodies.pop import BATCH_ACK
from grocketmq.wire.headers import HeartbeatResponseHeader, QueryConsumerOffsetResponseHeader
from grocketmq.wire.json_codec import Pairs, loads_tolerant
from tests.vectors.loader import load, vector

BODIES: dict[str, Body[Any]] = {body.name: body for body in vars(bodies).values() if isinstance(body, Body)}
ENCODED = sorted({case["kind"] for case in load("json_bodies")["cases"] if "java_class" in case and case["kind"] != "accept"})
#: Short names of a batch acknowledgement and what the vectors call them.
BATCH_ACK_NAMES = {
    "b": "bitSet",
    "c": "consumerGroup",
    "it": "invisibleTime",
    "pt": "popTime",
    "q": "queueId",
    "r": "retry",
    "rq": "reviveQueueId",
    "so": "startOffset",
    "t": "topic",
}


def plain(value: Any) -> Any:
    """A form in which values that mean the same are equal: no order, no missing or empty fields, text keys."""
    if isinstance(value, dict) and "__bits__" in value:
        return {"__bits__": sorted(value["__bits__"])}
    if isinstance(value, dict) and "__pairs__" in value:
        value = Pairs(value["__pairs__"])
    if isinstance(value, (dict, Pairs)):
        items = value.items if isinstance(value, Pairs) else value.items()
        return {
            key if isinstance(key, str) else json.dumps(plain(key), sort_keys=True): plain(inner)
            for key, inner in items
            if inner not in (None, "")
        }
    if isinstance(value, list):
        return sorted(map(plain, value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value


def comparable(body: Body[Any], value: Any, expected: Any) -> Any:
    """What our value says in the vectors' own terms."""
    tree = body.schema.write(value)
    if body is BATCH_ACK:
        for written, ack in zip(tree["acks"], value.acks, strict=True):
            written["b"] = {"__bits__": [bit for bit in range(ack.bit_set.bit_length()) if ack.bit_set >> bit & 1]}
        tree["acks"] = [{BATCH_ACK_NAMES[name]: inner for name, inner in ack.items()} for ack in tree["acks"]]
    policy = tree.get("groupRetryPolicy", {}).get("customizedRetryPolicy")
    if policy and expected["groupRetryPolicy"]["customizedRetryPolicy"] == {"next": {}}:
        policy["next"] = {}  # the vectors do not show a long[]
    return tree


@vector("json_bodies", *ENCODED)
def test_body(case: dict[str, Any]) -> None:
    body, data = BODIES[case["java_class"]], bytes.fromhex(case["bytes_hex"])
    assert data.decode("utf-8") == case["text"]
    value = body.decode(data)
    assert plain(comparable(body, value, case["value"])) == plain(case["value"])
    json.loads(body.encode(value))
    for object_keys in (False, True):
        again = body.encode(value, object_keys=object_keys)
        assert plain(body.schema.write(body.decode(again))) == plain(body.schema.write(value))
    assert plain(loads_tolerant(body.encode(value, object_keys=True))) == plain(loads_tolerant(data))
    if case.get("origin") == "java encode" and "$ref" not in case["text"]:
        assert body.encode(value, object_keys=True) == data


@vector("json_bodies", "accept")
def test_accept(case: dict[str, Any]) -> None:
    body = BODIES[case["java_class"]]
    if not case["accepted"]:
        with pytest.raises(RemoteProtocolError, match=case["java_class"]):
            body.decode(case["text"].encode("utf-8"))
        return
    value = body.decode(case["text"].encode("utf-8"))
    assert plain(comparable(body, value, case["value"])) == plain(case["value"])
    assert body.decode(body.encode(value)) == value


@vector("json_bodies", "heartbeat_response")
def test_heartbeat_response(case: dict[str, Any]) -> None:
    header = HeartbeatResponseHeader.from_ext(case["ext"])
    assert header.support_heart_beat_v2 is (case["ext"].get("IS_SUPPORT_HEART_BEAT_V2") == "true")
    assert header.sub_change is (case["ext"].get("IS_SUB_CHANGE") == "true")


@vector("json_bodies", "error_response", "route_not_found")
def test_error_response(case: dict[str, Any]) -> None:
    if case["code"] == 0:
        assert QueryConsumerOffsetResponseHeader.parse(case["ext"]).to_ext() == case["ext"]
        return
    error = broker_error(case["code"], case["remark"], "127.0.0.1:10911")
    assert (error.code, error.remark) == (case["code"], case["remark"])
    assert isinstance(error, TopicNotExistError) is (case["code"] == 17)
    if case["kind"] == "route_not_found":
        with pytest.raises(RemoteProtocolError, match="no body"):
            bodies.TOPIC_ROUTE.decode(case["bytes_hex"] and bytes.fromhex(case["bytes_hex"]))
