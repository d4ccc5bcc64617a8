"""Clients at a cluster that treats them badly, by the control interface: what was sent is consumed all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer, SendError, SimpleConsumer
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import Action, close, corrupt, drop, fail, half_close, reset
from grocketmq.errors import ConfigError, ConnectionLostError, RemotingError, RequestTimeout
from tests.embedded.raw import RawClient, names
from tests.helpers import wait_for

FIRST = ConsumeFromWhere.FIRST_OFFSET
pytestmark = pytest.mark.usefixtures("soon")
BAD_ACTIONS = {"close": close, "reset": reset, "half close": half_close, "corrupt": corrupt(), "drop": drop, "fail": fail()}


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    cluster.create_topic("T")
    with Producer("p", namesrv=cluster.namesrv, send_timeout=10.0, request_timeout=1.0) as producer:
        producer.send(Message("T", b"first"))
        yield producer


def consuming(cluster: EmbeddedCluster, seen: list[bytes], **options: Any) -> PushConsumer:
    consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=FIRST, instance_name="consumer", **options)
    consumer.subscribe("T")
    consumer.register_listener(lambda msgs: seen.extend(one.body for one in msgs))
    return consumer


@pytest.mark.parametrize("action", [pytest.param(action, id=name) for name, action in BAD_ACTIONS.items() if name != "drop"])
def test_a_send_is_tried_again(action: Action, cluster: EmbeddedCluster, producer: Producer) -> None:
    fault = cluster.control(RequestCode.SEND_MESSAGE_V2, action)
    assert producer.send(Message("T", b"x")).message_queue.broker_name == "broker-a"
    assert fault.taken == 1


@pytest.mark.parametrize("action", [pytest.param(action, id=name) for name, action in BAD_ACTIONS.items() if name != "drop"])
def test_a_send_that_fails_each_time_is_an_error_that_says_so(
    action: Action, cluster: EmbeddedCluster, producer: Producer
) -> None:
    cluster.control(RequestCode.SEND_MESSAGE_V2, action, times=None)
    with pytest.raises(SendError) as caught:
        producer.send(Message("T", b"x"))
    assert len(caught.value.attempts) == 3
    cluster.release()
    producer.send(Message("T", b"y"))


@pytest.mark.parametrize("code", [RequestCode.PULL_MESSAGE, RequestCode.GET_CONSUMER_LIST_BY_GROUP, RequestCode.HEART_BEAT])
@pytest.mark.parametrize("action", [pytest.param(action, id=name) for name, action in BAD_ACTIONS.items() if name != "drop"])
def test_a_consumer_goes_on(code: RequestCode, action: Action, cluster: EmbeddedCluster, producer: Producer) -> None:
    seen: list[bytes] = []
    fault = cluster.control(code, action, times=2)
    with consuming(cluster, seen):
        sent = [b"%d" % number for number in range(20)]
        for body in sent:
            producer.send(Message("T", body))
        wait_for(lambda: {*sent, b"first"} <= set(seen), timeout=30)
    assert fault.taken


def test_connections_that_are_cut(cluster: EmbeddedCluster, producer: Producer) -> None:
    """Again and again, in the midst of sends and pulls."""
    seen: list[bytes] = []
    sent: list[bytes] = []

    def send_all() -> None:
        for number in range(200):
            producer.send(Message("T", b"%d" % number))
            sent.append(b"%d" % number)

    with consuming(cluster, seen):
        sending = gevent.spawn(send_all)
        for _ in range(5):
            gevent.sleep(0.05)
            cluster.cut()
        sending.get(timeout=30)
        wait_for(lambda: set(sent) <= set(seen), timeout=30)


def test_a_broker_that_hangs(cluster: EmbeddedCluster, producer: Producer) -> None:
    cluster.stall("broker-a")
    began = time.monotonic()
    with pytest.raises(SendError):
        producer.send(Message("T", b"x"), timeout=0.5)
    assert time.monotonic() - began < 3
    waiting = gevent.spawn(producer.send, Message("T", b"y"))
    gevent.sleep(0.1)
    assert not waiting.ready()
    cluster.resume("broker-a")
    assert waiting.get(timeout=10).message_queue.topic == "T"


def test_everything_in_single_bytes(cluster: EmbeddedCluster, producer: Producer) -> None:
    seen: list[bytes] = []
    cluster.split(1)
    with consuming(cluster, seen):
        for number in range(5):
            producer.send(Message("T", b"%d" % number))
        wait_for(lambda: len(seen) == 6, timeout=20)
    cluster.split(None)
    with SimpleConsumer("s", namesrv=cluster.namesrv, consume_from=FIRST) as consumer:
        consumer.subscribe("T")
        assert consumer.receive(wait=5.0)


def outcome_of_send(raw: RawClient) -> object:
    """What a send returns or raises."""
    try:
        return raw.send()
    except RemotingError as error:
        return error


def test_an_answer_cut_short(raw: RawClient, cluster: EmbeddedCluster) -> None:
    """Half a frame, then the end: the caller is told, and the next call works."""
    cluster.control(RequestCode.SEND_MESSAGE_V2, corrupt(lambda data: data[: len(data) // 2]))
    first = gevent.spawn(outcome_of_send, raw)
    gevent.sleep(0.05)
    assert not first.ready()
    cluster.cut("broker-a")
    assert isinstance(first.get(timeout=5), ConnectionLostError)
    cluster.release()
    assert names(raw.send(b"y")) == "SUCCESS"


def test_a_spoilt_answer_ends_the_connection_only(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.control(RequestCode.SEND_MESSAGE_V2, corrupt())
    with pytest.raises(RemotingError):
        raw.send(b"x")
    assert names(other.send(b"y")) == "SUCCESS"
    assert len(raw.messages()) == 2, "it was served"


def test_only_the_server_that_is_named(cluster: EmbeddedCluster, producer: Producer) -> None:
    cluster.stall("namesrv")
    producer.send(Message("T", b"x"))
    with pytest.raises((RequestTimeout, RemotingError)):
        producer.fetch_publish_queues("unknown")
    cluster.resume()
    with pytest.raises(ConfigError, match="there is no server 'broker-z'; there are: namesrv, broker-a"):
        cluster.cut("broker-z")
    with pytest.raises(ConfigError, match="piece_bytes is 0"):
        cluster.split(0)


def test_a_cluster_that_is_stalled_can_be_stopped() -> None:
    def stop_all(change: Callable[[EmbeddedCluster], object]) -> float:
        with EmbeddedCluster() as cluster:
            raw = RawClient(cluster.broker_address("broker-a"))
            raw.send()
            change(cluster)
            asked = gevent.spawn(outcome_of_send, raw)
            gevent.sleep(0.05)
            began = time.monotonic()
        asked.join(timeout=5)
        asked.kill()
        raw.close()
        return time.monotonic() - began

    assert stop_all(lambda cluster: cluster.stall()) < 3
    assert stop_all(lambda cluster: cluster.split(1, 10.0)) < 3
