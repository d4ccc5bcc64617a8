"""Brokers that are slow, fail, or come back."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest

from grocketmq import Message, Producer, SendStatus
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import Intercepted, answer, delay, drop
from grocketmq.producer import producer as producer_module
from tests.helpers import wait_for

SEND = RequestCode.SEND_MESSAGE_V2


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        cluster.create_topic("T", queues=2)
        yield cluster


def sent_to(producer: Producer, count: int = 12) -> Counter[str]:
    return Counter(producer.send(Message("T", b"x")).message_queue.broker_name for _ in range(count))


def test_a_slow_broker_is_left_alone_for_a_while(cluster: EmbeddedCluster) -> None:
    cluster.control(SEND, delay(0.6), at="broker-a", times=None)
    with Producer("senders", namesrv=cluster.namesrv, latency_fault_tolerance=True) as producer:
        assert sent_to(producer)["broker-a"] == 1


def test_the_detector_brings_a_broker_back(cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a broker that is silent and whose penalty is over, when it answers a probe, then it is chosen again."""
    monkeypatch.setattr(producer_module, "DETECT_ROUND", 0.05)
    monkeypatch.setattr("grocketmq.producer.faults.DETECT_INTERVAL", 0.05)
    monkeypatch.setattr("grocketmq.producer.faults.ISOLATION_LATENCY", 0.01)  # no penalty but being unreachable
    faults = [cluster.control(code, drop, at="broker-a", times=None) for code in (SEND, RequestCode.GET_MAX_OFFSET)]
    options = {"latency_fault_tolerance": True, "fault_detector": True, "try_timeout": 0.3}
    with Producer("senders", namesrv=cluster.namesrv, **options) as producer:
        sent_to(producer)
        table = producer._picker.faults
        assert table is not None
        assert not table.is_reachable("broker-a")
        for fault in faults:
            cluster.release(fault)
        wait_for(lambda: table.is_reachable("broker-a"))
        assert sent_to(producer).keys() == {"broker-a", "broker-b"}


def test_a_code_of_ones_own_is_tried_at_the_other_broker(cluster: EmbeddedCluster) -> None:
    cluster.control(SEND, answer(ResponseCode.INVALID_PARAMETER, "no"), at="broker-a", times=None)
    with Producer("senders", namesrv=cluster.namesrv, retry_response_codes=[ResponseCode.INVALID_PARAMETER]) as producer:
        assert sent_to(producer, 4) == {"broker-b": 4}


def test_a_store_that_was_not_flushed_is_repeated_elsewhere_when_asked_for(cluster: EmbeddedCluster) -> None:
    fields = {"msgId": "0" * 32, "queueId": "0", "queueOffset": "0"}
    cluster.control(SEND, answer(ResponseCode.FLUSH_DISK_TIMEOUT, None, fields), at="broker-a", times=None)
    with Producer("plain", namesrv=cluster.namesrv) as producer:
        statuses = {producer.send(Message("T", b"x")).status for _ in range(4)}
    assert statuses == {SendStatus.SEND_OK, SendStatus.FLUSH_DISK_TIMEOUT}
    with Producer("careful", namesrv=cluster.namesrv, retry_another_broker_when_not_ok=True) as producer:
        assert {producer.send(Message("T", b"x")).status for _ in range(4)} == {SendStatus.SEND_OK}


def test_who_failed_last_is_avoided_in_the_next_try(cluster: EmbeddedCluster) -> None:
    asked: list[str] = []

    def busy(name: str) -> object:
        def act(taken: Intercepted) -> None:
            asked.append(name)
            answer(ResponseCode.SYSTEM_BUSY, "busy")(taken)

        return act

    for name in cluster.broker_names:
        cluster.control(SEND, busy(name), at=name, times=None)  # type: ignore[arg-type]
    with Producer("senders", namesrv=cluster.namesrv, retries=3) as producer, pytest.raises(Exception, match="busy"):
        producer.send(Message("T", b"x"))
    assert len(asked) == 4
    assert all(one != other for one, other in itertools.pairwise(asked))
