"""Traces at real brokers, looked up with their own tool; and hooks there."""

from __future__ import annotations

from grocketmq import (
    ConsumeMessageContext,
    LocalTransactionState,
    Message,
    MessageExt,
    PullConsumer,
    SendMessageContext,
    TransactionProducer,
)
from grocketmq.wire.trace_codec import TraceType, decode_trace
from tests.helpers import wait_for

from .clients import ARRIVAL, consuming, producing
from .cluster import RealCluster
from .conftest import Pair


def test_mqadmin_finds_sends_and_consumption_by_id(pair: Pair, topic_name: str, group_name: str) -> None:
    cluster = pair.cluster
    cluster.create_topic(topic_name)
    tries: dict[str, int] = {}

    def listener(msgs: list[MessageExt]) -> None:
        for msg in msgs:
            tries[msg.msg_id] = tries.get(msg.msg_id, 0) + 1
            if msg.tags == "again" and tries[msg.msg_id] == 1:
                raise ValueError("the first time")

    with producing(cluster, f"{group_name}_p", trace=True) as producer:
        one = producer.send(Message(topic_name, b"1", tags="again", keys="k1"))
        batch = producer.send_batch([Message(topic_name, b"2"), Message(topic_name, b"3")]).msg_id.split(",")
    with consuming(
        cluster, group_name, topic_name, listener, trace=True, delay_level_when_next_consume=1, consume_batch_size=8
    ):
        wait_for(lambda: tries.get(one.msg_id) == 2 and len(tries) == 3, ARRIVAL, "all consumed, one twice")

    def told(msg_id: str) -> str:
        try:
            return cluster.mqadmin("queryMsgTraceById", "-i", msg_id)
        except Exception as error:  # before the index holds it
            return str(error)

    wait_for(lambda: told(one.msg_id).count("Sub ") == 2 and "Pub " in told(one.msg_id), ARRIVAL, "the trace is indexed")
    text = told(one.msg_id)
    assert f"{group_name}_p" in text
    assert ("success" in text, "failed" in text) == (True, True), text
    for msg_id in batch:
        text = told(msg_id)
        assert ("Pub " in text, text.count("Sub ")) == (True, 1), text


def test_hooks_see_what_goes_through_a_real_broker(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name, queues=1)
    seen: list[tuple[str, bool]] = []

    class Hook:
        def before_send(self, context: SendMessageContext) -> None:
            context.message.properties["traceparent"] = "00-7"

        def after_send(self, context: SendMessageContext) -> None:
            seen.append(("sent", context.result is not None))

        def after_consume(self, context: ConsumeMessageContext) -> None:
            seen.append((context.messages[0].properties["traceparent"], context.success))

    with producing(pair.cluster, hooks=[Hook()]) as producer:
        producer.send(Message(topic_name, b"x"))
    with consuming(pair.cluster, group_name, topic_name, lambda msgs: None, hooks=[Hook()]):
        wait_for(lambda: len(seen) == 2, ARRIVAL, "sent and consumed")
    assert seen == [("sent", True), ("00-7", True)]


def test_transactions_are_told_to_a_real_broker(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    real_cluster.create_topic(topic_name)
    own = f"{topic_name}_trace"
    real_cluster.create_topic(own, queues=1)
    with TransactionProducer(
        group_name,
        execute=lambda msg, arg: LocalTransactionState.COMMIT,
        check=lambda msg: LocalTransactionState.COMMIT,
        namesrv=real_cluster.namesrv,
        trace=True,
        trace_topic=own,
    ) as producer:
        stored = producer.send_in_transaction(Message(topic_name, b"x", keys="k"))

    def told() -> str:
        try:
            return real_cluster.mqadmin("queryMsgTraceById", "-i", stored.msg_id, "-t", own)
        except Exception as error:  # before the index holds it
            return str(error)

    wait_for(lambda: f"Pub        {group_name}" in told(), ARRIVAL, "the half message is told")
    records = []
    with PullConsumer(f"{group_name}_r", namesrv=real_cluster.namesrv) as consumer:
        for queue in consumer.fetch_subscribe_queues(own):
            for message in consumer.pull(queue, "*", 0).messages:
                records += decode_trace(message.body.decode())
    assert [(one.trace_type, one.beans[0].msg_id) for one in records] == [
        (TraceType.PUB, stored.msg_id),
        (TraceType.END_TRANSACTION, stored.msg_id),
    ]
