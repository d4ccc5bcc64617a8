"""What a real broker and name server were asked is asked again of the embedded ones.

They answer alike, ids, times and offsets aside.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.wire.command import RemotingCommand
from tests.embedded.raw import RawClient
from tests.vectors.loader import body_of, load

Case = dict[str, Any]

#: Requests whose answers rest on something that was done before and is not in the record: messages sent, times, clients there.
RESTS_ON_MORE = {
    *(
        "pull/found_from_3",
        "pull/tag_filter_some",
        "pull/sql_filter",
        "pull/at_max_offset",
        "pull/never_written_topic_offset_5",
    ),
    *("pull/other_queue_written_offset_0", "pull/registered_uses_heartbeat_subscription", "pull/retry_topic_after_send_back"),
    *("pull/dlq_topic", "pull/delayed_messages", "query/by_key", "query/by_uniq_key", "via_broker/running_info"),
    *("via_broker/running_info_with_jstack", "transaction/end_commit", "transaction/end_rollback", "view/ok"),
    *("send_back/max_reconsume_0_goes_to_dlq", "send_back/unknown_group_auto_created", "pop/any_queue", "pop/queue_1"),
    *("pop/rocketmq_serialize_truncates_code", "reply/v1_code"),
}
CASES = [case for case in load("exchanges")["cases"] if case["kind"] != "broker_request"]


@pytest.fixture(scope="module")
def answers() -> dict[str, RemotingCommand]:
    """All requests in the order of the record."""
    found = {}
    with EmbeddedCluster() as cluster:
        raw = RawClient(cluster.broker_address("broker-a"))
        for case in CASES:
            at = cluster.broker_address("broker-a") if case["to"] == "broker" else cluster.namesrv
            found[case["id"]] = raw.remoting.invoke(at, as_request(case["request"]), 30.0)
        raw.close()
    return found


def as_request(recorded: Case) -> RemotingCommand:
    fields = dict(recorded["ext"] or {})
    if recorded["code"] == RequestCode.POP_MESSAGE:
        fields["bornTime"] = str(time.time_ns() // 1_000_000)
    body = recorded["body"]
    data = bytes(body["len"]) if body and "len" in body else body_of(body)
    return RemotingCommand(recorded["code"], ext_fields=fields, body=data, version=recorded["version"])


@pytest.mark.parametrize("case", [case for case in CASES if case["id"] not in RESTS_ON_MORE], ids=lambda case: case["id"])
def test_answers_are_alike(case: Case, answers: dict[str, RemotingCommand]) -> None:
    ours, real = answers[case["id"]], case["response"]
    assert ResponseCode(ours.code).name == ResponseCode(real["code"]).name
    assert set(ours.ext_fields or {}) == set(real["ext"] or {})
    assert bool(ours.body) == bool(real["body"])


def test_what_rests_on_more_is_in_the_record() -> None:
    assert {case["id"] for case in CASES} >= RESTS_ON_MORE
