"""What the trace tells, and that nothing ever waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from grocketmq import (
    ConsumeFromWhere,
    LitePullConsumer,
    LocalTransactionState,
    Message,
    MessageExt,
    Producer,
    PullConsumer,
    PushConsumer,
    SimpleConsumer,
    TransactionProducer,
    trace,
)
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import drop, fail
from grocketmq.wire.trace_codec import TraceContext, TraceMessageType, TraceType, decode_trace
from tests.helpers import wait_for

FIRST = ConsumeFromWhere.FIRST_OFFSET
TRACES = "RMQ_SYS_TRACE_TOPIC"


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(delay_levels=(0.05,) * 18) as cluster:
        cluster.create_topic("T", queues=1)
        cluster.create_topic(TRACES, queues=1)
        yield cluster


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "LINGER", 0.01)


def trace_messages(cluster: EmbeddedCluster, topic: str = TRACES) -> list[MessageExt]:
    with PullConsumer("tracers", namesrv=cluster.namesrv) as consumer:
        messages: list[MessageExt] = []
        for queue in consumer.fetch_subscribe_queues(topic):
            offset = 0
            while found := (result := consumer.pull(queue, "*", offset)).messages:
                messages += found
                offset = result.next_begin_offset
        return messages


def traces(cluster: EmbeddedCluster, topic: str = TRACES) -> list[TraceContext]:
    return [one for message in trace_messages(cluster, topic) for one in decode_trace(message.body.decode())]


def test_each_send_that_was_stored_is_traced(cluster: EmbeddedCluster) -> None:
    with Producer("senders", namesrv=cluster.namesrv, trace=True) as producer:
        one = producer.send(Message("T", b"12345", tags="a", keys=["k", "l"]))
        batch = producer.send_batch([Message("T", b"1", keys="m"), Message("T", b"2")])
        later = producer.send(Message("T", b"x", delay_level=1))
        asynchronous = producer.send_async(Message("T", b"x")).get(timeout=5)
        producer.send_oneway(Message("T", b"x"))
    found = traces(cluster)
    assert [context.trace_type for context in found] == [TraceType.PUB] * 5
    assert {(context.group, context.region_id, context.success) for context in found} == {("senders", "DefaultRegion", True)}
    beans = [context.beans[0] for context in found]
    assert [bean.msg_id for bean in beans] == [one.msg_id, *batch.msg_id.split(","), later.msg_id, asynchronous.msg_id]
    first = beans[0]
    assert (first.topic, first.tags, first.keys, first.body_length) == ("T", "a", "k l", 5)
    assert (first.offset_msg_id, first.store_host) == (one.offset_msg_id, cluster.broker_address("broker-a"))
    assert [bean.offset_msg_id for bean in beans[1:3]] == batch.offset_msg_id.split(",")
    assert [bean.msg_type for bean in beans[2:4]] == [TraceMessageType.NORMAL, TraceMessageType.DELAY]
    [message] = trace_messages(cluster)
    assert {one.msg_id, "k", "l", "m"} <= set((message.keys or "").split())


@pytest.mark.parametrize("orderly", [False, True])
def test_each_call_of_a_listener_is_traced(cluster: EmbeddedCluster, orderly: bool) -> None:
    tries: list[bytes] = []

    def listener(msgs: list[MessageExt]) -> None:
        tries.append(msgs[0].body)
        if len(tries) == 1:
            raise ValueError("once")

    consumer = PushConsumer(
        "readers", namesrv=cluster.namesrv, consume_from=FIRST, trace=True, suspend_queue_time=0.05, trace_topic="Own"
    )
    cluster.create_topic("Own", queues=1)
    consumer.subscribe("T")
    consumer.register_listener(listener, orderly=orderly)
    with Producer("senders", namesrv=cluster.namesrv) as producer:
        stored = producer.send(Message("T", b"x", keys="k"))
    with consumer:
        wait_for(lambda: len(tries) == 2)
        wait_for(lambda: consumer.stats().topics["T" if orderly else "%RETRY%readers"].consumed == 1)
    found = traces(cluster, "Own")
    assert [context.trace_type for context in found] == [TraceType.SUB_BEFORE, TraceType.SUB_AFTER] * 2
    assert [(context.success, context.context_code) for context in found if context.trace_type is TraceType.SUB_AFTER] == [
        (False, 2),
        (True, 0),
    ]
    assert {context.beans[0].msg_id for context in found} == {stored.msg_id}
    assert {context.group for context in found} == {"readers"}
    assert found[0].request_id == found[1].request_id != found[2].request_id == found[3].request_id
    assert [one.beans[0].retry_times for one in found if one.trace_type is TraceType.SUB_BEFORE] == [0, 1]


@pytest.mark.parametrize("kind", [LitePullConsumer, SimpleConsumer])
def test_polled_messages_are_traced(cluster: EmbeddedCluster, kind: type[LitePullConsumer | SimpleConsumer]) -> None:
    with Producer("senders", namesrv=cluster.namesrv) as producer:
        stored = producer.send(Message("T", b"x"))
    consumer = kind("pollers", namesrv=cluster.namesrv, consume_from=FIRST, trace=True)
    consumer.subscribe("T")
    with consumer:
        assert consumer.poll(20) if isinstance(consumer, LitePullConsumer) else consumer.receive(wait=20.0)
    found = traces(cluster)
    assert [context.trace_type for context in found] == [TraceType.SUB_BEFORE, TraceType.SUB_AFTER]
    assert {context.beans[0].msg_id for context in found} == {stored.msg_id}


def test_transactions_are_traced_by_whoever_ends_them(cluster: EmbeddedCluster) -> None:
    states = [LocalTransactionState.COMMIT, LocalTransactionState.UNKNOWN]
    asked: list[str] = []

    def check(msg: MessageExt) -> LocalTransactionState:
        asked.append(msg.msg_id)
        return LocalTransactionState.ROLLBACK

    with TransactionProducer(
        "tx", execute=lambda msg, arg: states.pop(0), check=check, namesrv=cluster.namesrv, trace=True, client_id="c"
    ) as producer:
        wait_for(lambda: any("tx" in broker.clients.producers for broker in cluster.brokers.values()))
        first = producer.send_in_transaction(Message("T", b"1", tags="a", keys="k"))
        second = producer.send_in_transaction(Message("T", b"2"))
        cluster.clock.advance(31)
        wait_for(lambda: asked == [second.msg_id])
    found = traces(cluster)
    kinds = [(one.trace_type, one.beans[0].msg_id, one.beans[0].msg_type) for one in found]
    half, end = TraceMessageType.TRANSACTION_HALF, TraceMessageType.TRANSACTION_COMMIT
    assert kinds == [
        (TraceType.PUB, first.msg_id, half),
        (TraceType.END_TRANSACTION, first.msg_id, end),
        (TraceType.PUB, second.msg_id, half),
        (TraceType.END_TRANSACTION, second.msg_id, end),
        (TraceType.END_TRANSACTION, second.msg_id, end),
    ]
    ends = [one.beans[0] for one in found if one.trace_type is TraceType.END_TRANSACTION]
    assert [(one.transaction_state, one.from_transaction_check) for one in ends] == [
        (LocalTransactionState.COMMIT, False),
        (LocalTransactionState.UNKNOWN, False),
        (LocalTransactionState.ROLLBACK, True),
    ]
    assert (ends[0].tags, ends[0].keys, ends[0].transaction_id) == ("a", "k", first.transaction_id)


def test_the_trace_is_not_traced(cluster: EmbeddedCluster) -> None:
    seen: list[bytes] = []
    consumer = PushConsumer("readers", namesrv=cluster.namesrv, consume_from=FIRST, trace=True)
    consumer.subscribe(TRACES)
    consumer.register_listener(lambda msgs: seen.extend(msg.body for msg in msgs))
    with Producer("senders", namesrv=cluster.namesrv, trace=True) as producer, consumer:
        producer.send(Message(TRACES, b"not a record"))
        wait_for(lambda: seen == [b"not a record"])
    assert traces(cluster) == []


def test_many_records_travel_in_few_messages(cluster: EmbeddedCluster) -> None:
    with Producer("senders", namesrv=cluster.namesrv, trace=True) as producer:
        for _ in range(50):
            producer.send_batch([Message("T", b"x", keys="k" * 100) for _ in range(20)])
    messages = trace_messages(cluster)
    assert sum(len(decode_trace(message.body.decode())) for message in messages) == 1000
    assert len(messages) <= 1000 / 20
    assert max(message.body.count(b"\x02") for message in messages) == 100


def test_keys_that_do_not_fit_are_left_out(cluster: EmbeddedCluster) -> None:
    with Producer("senders", namesrv=cluster.namesrv, trace=True) as producer:
        for number in range(3):
            producer.send(Message("T", b"x", keys=str(number) * 25_000))
    assert len(traces(cluster)) == 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", [fail(), drop])
def test_no_send_waits_for_the_trace_and_what_is_lost_is_counted(
    cluster: EmbeddedCluster, fault: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trace, "MAX_WAITING", 50)
    monkeypatch.setattr(trace, "SEND_TIMEOUT", 0.5)
    cluster.control(
        RequestCode.SEND_MESSAGE_V2, fault, times=None, matches=lambda one: (one.ext_fields or {}).get("b") == TRACES
    )
    with Producer("senders", namesrv=cluster.namesrv, trace=True) as producer:
        began = monotonic()
        for _ in range(200):
            producer.send(Message("T", b"x"))
        assert monotonic() - began < 5
        dropped = producer.trace_dropped
    assert producer.trace_dropped == 200 >= dropped
    assert "200 trace records of group senders were dropped" in caplog.text


@pytest.mark.usefixtures("quick")
def test_a_trace_goes_on_when_its_broker_is_back(cluster: EmbeddedCluster) -> None:
    fault = cluster.control(
        RequestCode.SEND_MESSAGE_V2, fail(), times=None, matches=lambda one: (one.ext_fields or {}).get("b") == TRACES
    )
    with Producer("senders", namesrv=cluster.namesrv, trace=True) as producer:
        producer.send(Message("T", b"lost"))
        wait_for(lambda: producer.trace_dropped == 1)
        cluster.release(fault)
        stored = producer.send(Message("T", b"told"))
        wait_for(lambda: stored.msg_id in [one.beans[0].msg_id for one in traces(cluster)])


def test_without_the_option_there_is_no_trace(cluster: EmbeddedCluster) -> None:
    with Producer("senders", namesrv=cluster.namesrv) as producer:
        producer.send(Message("T", b"x"))
        assert producer.trace_dropped == 0
    assert trace_messages(cluster) == []
