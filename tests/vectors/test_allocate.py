"""Every strategy gives each member what Java's gives it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from grocketmq.consumer.allocate import (
    AllocateAveragely,
    AllocateAveragelyByCircle,
    AllocateByConfig,
    AllocateByMachineRoom,
    AllocateConsistentHash,
    AllocateMachineRoomNearby,
    AllocateStrategy,
    sort_client_ids,
)
from grocketmq.errors import ConfigError
from grocketmq.hashing import java_string_hash, to_int32
from grocketmq.model.route import MessageQueue
from tests.vectors.loader import load, vector

PLAIN: dict[str, Callable[[], AllocateStrategy]] = {
    "AVG": AllocateAveragely,
    "AVG_BY_CIRCLE": AllocateAveragelyByCircle,
    "CONSISTENT_HASH": AllocateConsistentHash,
}


@vector("allocate", "AVG", "AVG_BY_CIRCLE", "CONSISTENT_HASH")
def test_shares(case: dict[str, Any]) -> None:
    tables = load("allocate")
    queues = [MessageQueue(*queue) for queue in tables["queue_sets"][case["queues"]]]
    client_ids = tables["consumer_sets"][case["consumers"]]
    strategy = PLAIN[case["kind"]]()
    for client_id, indexes in case["expect"].items():
        assert strategy.allocate(client_id, queues, client_ids) == [queues[index] for index in indexes]


@vector("allocate", "CONSISTENT_HASH_vnodes", "CONFIG", "MACHINE_ROOM", "MACHINE_ROOM_NEARBY", "edge")
def test_shares_with_parameters(case: dict[str, Any]) -> None:
    queues = [MessageQueue(*queue) for queue in case["queue_list"]]
    for client_id, expected in case["expect_queues"].items():
        if isinstance(expected, dict):
            with pytest.raises(ConfigError):
                strategy_of(case).allocate(client_id, queues, case["consumer_list"])
        else:
            strategy = strategy_of(case)
            share = strategy.allocate(client_id, queues, case["consumer_list"])
            assert share == [MessageQueue(*queue) for queue in expected]
            assert strategy.name == case["strategy_name"]


def strategy_of(case: dict[str, Any]) -> AllocateStrategy:
    name, params = case["strategy_name"], case["params"] or {}
    if name == "CONFIG":
        return AllocateByConfig(MessageQueue(*queue) for queue in params.get("configured", []))
    if name == "MACHINE_ROOM":
        return AllocateByMachineRoom(params.get("consumer_idcs", []))
    if name == "CONSISTENT_HASH":
        return AllocateConsistentHash(params.get("virtual_nodes", 10))
    if "inner" in params:
        of_broker, of_consumer = room_rule(params["room_of_broker"]), room_rule(params["room_of_consumer"])
        return AllocateMachineRoomNearby(PLAIN[params["inner"]](), lambda queue: of_broker(queue.broker_name), of_consumer)
    return PLAIN[name]()


def room_rule(words: str) -> Callable[[str], str]:
    """``text before first '-'`` as a function."""
    found = re.fullmatch(r"text before first '(.+)'", words)
    assert found, words
    return lambda text: text.partition(found[1])[0]


@vector("allocate", "sort_cids")
def test_order_of_members(case: dict[str, Any]) -> None:
    assert sort_client_ids(case["input"]) == case["sorted"]


@vector("allocate", "sort_queues")
def test_order_of_queues(case: dict[str, Any]) -> None:
    queues = sorted(MessageQueue(*queue) for queue in case["input"])
    assert queues == [MessageQueue(*queue) for queue in case["sorted"]]
    assert [java_hash(queue) for queue in queues] == case["hash_codes"]


def java_hash(queue: MessageQueue) -> int:
    """``MessageQueue.hashCode``: built on the hash of strings that also decides tags and fingerprints."""
    value = 31 + java_string_hash(queue.broker_name)
    value = 31 * value + queue.queue_id
    return to_int32(31 * value + java_string_hash(queue.topic))
