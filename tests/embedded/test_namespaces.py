"""Clients of one namespace among themselves, and what brokers see of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grocketmq import (
    ConfigError,
    ConsumeFromWhere,
    ConsumeStatus,
    LitePullConsumer,
    LocalTransactionState,
    Message,
    MessageExt,
    MessageModel,
    Producer,
    PullConsumer,
    PushConsumer,
    TransactionProducer,
    create_reply,
)
from grocketmq.client.config import ClientConfig
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.broker import DELAY_LEVELS
from tests.helpers import wait_for

TOPIC, GROUP = "orders", "billing"


def producing(cluster: EmbeddedCluster, namespace: str | None, **options: Any) -> Producer:
    return Producer("shop", namesrv=cluster.namesrv, namespace=namespace, **options)


class Seen:
    """Fails each message the first time."""

    def __init__(self, fail: bool = True) -> None:
        self.fail = fail
        self.messages: list[MessageExt] = []

    def __call__(self, msgs: list[MessageExt]) -> ConsumeStatus:
        self.messages += msgs
        return ConsumeStatus.RECONSUME_LATER if self.fail and msgs[0].reconsume_times == 0 else ConsumeStatus.SUCCESS

    def keep(self, msgs: list[MessageExt]) -> None:
        self.messages += msgs

    def topics(self) -> set[str]:
        return {message.topic for message in self.messages}


@pytest.fixture
def cluster() -> Any:
    with EmbeddedCluster(delay_levels=[0.05] * len(DELAY_LEVELS)) as cluster:
        yield cluster


@pytest.mark.parametrize("pop", [False, True])
def test_send_consume_and_retry(cluster: EmbeddedCluster, pop: bool) -> None:
    seen, other = Seen(), Seen(fail=False)
    consumers = []
    for namespace, listener in (("eu", seen), ("us", other)):
        options = {"pop": True} if pop else {}
        consumer = PushConsumer(
            GROUP, namesrv=cluster.namesrv, namespace=namespace, consume_from=ConsumeFromWhere.FIRST_OFFSET, **options
        )
        consumer.subscribe(TOPIC, "a || b")
        consumer.register_listener(listener)
        consumers.append(consumer)
    with producing(cluster, "eu") as producer, producing(cluster, "us") as elsewhere:
        result = producer.send(Message(TOPIC, b"hello", tags="a"))
        assert result.message_queue.topic == TOPIC
        producer.send_batch([Message(TOPIC, b"1", tags="b"), Message(TOPIC, b"2", tags="b")])
        elsewhere.send(Message(TOPIC, b"overseas", tags="a"))
        for consumer in consumers:
            consumer.start()
        wait_for(lambda: len({one.body for one in seen.messages}) == 3, 10)

        def came_again() -> bool:
            if pop:  # after 10 s at the earliest
                cluster.clock.advance(1)
            return len({one.body for one in seen.messages if one.reconsume_times == 1}) == 3

        wait_for(came_again, 20)
        wait_for(lambda: other.messages)
        assert {one.body for one in seen.messages} == {b"hello", b"1", b"2"}
        assert {one.body for one in other.messages} == {b"overseas"}
        assert seen.topics() == other.topics() == {TOPIC}
        first = seen.messages[0]
        assert first.message_queue.topic == TOPIC
        configs = cluster.brokers["broker-a"].topic_configs
        assert {"eu%orders", "us%orders"} <= configs.keys()
        assert TOPIC not in configs
        assert all("%RETRY%eu%billing" in name for name in configs if "RETRY" in name and "eu" in name)
        for consumer in consumers:
            consumer.shutdown()


def test_in_order_and_broadcasting(cluster: EmbeddedCluster, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with producing(cluster, "eu") as producer:
        producer.create_topic(TOPIC, queues=1)
        for number in range(5):
            producer.send_orderly(Message(TOPIC, f"{number}"), "key")
        for model, orderly in ((MessageModel.CLUSTERING, True), (MessageModel.BROADCASTING, False)):
            seen = Seen(fail=False)
            consumer = PushConsumer(
                f"{GROUP}-{model.name}",
                namesrv=cluster.namesrv,
                namespace="eu",
                model=model,
                consume_from=ConsumeFromWhere.FIRST_OFFSET,
            )
            consumer.subscribe(TOPIC)
            consumer.register_listener(seen.keep, orderly=orderly)
            with consumer:
                wait_for(lambda seen=seen: len(seen.messages) == 5, 10)
            assert seen.topics() == {TOPIC}


def test_polling_and_queries(cluster: EmbeddedCluster) -> None:
    options = {"namesrv": cluster.namesrv, "namespace": "eu"}
    with producing(cluster, "eu") as producer, PullConsumer(GROUP, **options) as puller:
        result = producer.send(Message(TOPIC, b"hello", keys="k"))
        queue = result.message_queue
        assert {one.topic for one in puller.fetch_subscribe_queues(TOPIC)} == {TOPIC}
        pulled = puller.pull(queue, "*", 0)
        assert [(one.topic, one.body) for one in pulled.messages] == [(TOPIC, b"hello")]
        assert pulled.messages[0].properties["INSTANCE_ID"] == "eu"
        puller.update_offset(queue, 1)
        assert producer.max_offset(queue) == 1
        assert producer.view_message(result.offset_msg_id).topic == TOPIC
        assert TOPIC in producer.topic_list()
        with LitePullConsumer("polling", consume_from=ConsumeFromWhere.FIRST_OFFSET, **options) as lite:
            lite.subscribe(TOPIC)
            found: list[MessageExt] = []
            wait_for(lambda: found.extend(lite.poll(0.2)) or found, 10)
            assert found[0].topic == TOPIC


@pytest.mark.parametrize("option", ["namespace", "namespace_v2"])
def test_transactions(cluster: EmbeddedCluster, option: str) -> None:
    """The broker asks the group of the namespace only, which sees the names that it gave."""
    asked: list[MessageExt] = []

    def member(namespace: str, check: Callable[[MessageExt], LocalTransactionState]) -> TransactionProducer:
        whose = {option: namespace}
        return TransactionProducer(
            "booking" if option == "namespace" else f"booking-{namespace}",
            namesrv=cluster.namesrv,
            execute=lambda msg, arg: LocalTransactionState[str(arg)],
            check=check,
            **whose,
        )

    def check(msg: MessageExt) -> LocalTransactionState:
        asked.append(msg)
        return LocalTransactionState.COMMIT

    def wrong(msg: MessageExt) -> LocalTransactionState:
        raise AssertionError(f"{msg} is of another namespace")

    broker = cluster.brokers["broker-a"]
    with member("eu", check) as producer, member("us", wrong):
        wait_for(lambda: len(broker.clients.producers) == 2, 10)
        producer.create_topic(TOPIC, queues=1)
        for state in ("COMMIT", "ROLLBACK", "UNKNOWN"):
            producer.send_in_transaction(Message(TOPIC, state), state)
        cluster.clock.advance(31.0)
        wait_for(lambda: asked, 10)
        seen = Seen(fail=False)
        consumer = PushConsumer(GROUP, namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET, **{option: "eu"})
        consumer.subscribe(TOPIC)
        consumer.register_listener(seen)
        with consumer:
            wait_for(lambda: len(seen.messages) == 2, 10)
    assert [(one.topic, one.body) for one in asked] == [(TOPIC, b"UNKNOWN")]
    assert asked[0].properties["PGROUP"] == producer.group
    assert [(one.topic, one.body) for one in seen.messages] == [(TOPIC, b"COMMIT"), (TOPIC, b"UNKNOWN")]


@pytest.mark.parametrize("option", ["namespace", "namespace_v2"])
def test_request_and_reply(cluster: EmbeddedCluster, option: str) -> None:
    options: dict[str, Any] = {"namesrv": cluster.namesrv, option: "eu"}
    asked: list[MessageExt] = []
    with Producer("repliers", **options) as replier, Producer("askers", instance_name="asker", **options) as asker:

        def listener(msgs: list[MessageExt]) -> None:
            asked.extend(msgs)
            for msg in msgs:
                replier.send(create_reply(msg, msg.body * 2))

        replier.create_topic(TOPIC, queues=1)
        consumer = PushConsumer(GROUP, consume_from=ConsumeFromWhere.FIRST_OFFSET, **options)
        consumer.subscribe(TOPIC)
        consumer.register_listener(listener)
        with consumer:
            replies = [asker.request(Message(TOPIC, body), 10.0) for body in (b"ab", b"cd")]
    assert [reply.body for reply in replies] == [b"abab", b"cdcd"]
    assert {reply.topic for reply in replies} == {"DefaultCluster_REPLY_TOPIC"}
    assert {msg.topic for msg in asked} == {TOPIC}


def test_hooks_see_names_without_it(cluster: EmbeddedCluster) -> None:
    topics: set[str] = set()

    class Hook:
        def before_request(self, address: str, request: Any) -> None:
            topics.add((request.ext_fields or {}).get("b", ""))

        def after_response(self, address: str, request: Any, response: Any) -> None:
            pass

    with producing(cluster, "eu", hooks=[Hook()]) as producer:
        producer.send(Message(TOPIC, b"hello"))
    assert TOPIC in topics
    assert not any("%" in topic for topic in topics)


def test_in_fields(cluster: EmbeddedCluster) -> None:
    """Names stay as they are; every request says whose it is."""
    seen = []
    original = cluster.brokers["broker-a"].server.serve

    def serve(request: Any, channel: Any) -> None:
        seen.append(((request.ext_fields or {}).get("ns"), (request.ext_fields or {}).get("nsd")))
        original(request, channel)

    cluster.brokers["broker-a"].server.serve = serve  # type: ignore[method-assign]
    with Producer("shop", namesrv=cluster.namesrv, namespace_v2="eu") as producer:
        producer.send(Message(TOPIC, b"hello"))
        wait_for(lambda: len(seen) >= 2)
    assert set(seen) == {("eu", "true")}
    assert TOPIC in cluster.brokers["broker-a"].topic_configs


def test_instances_are_apart(cluster: EmbeddedCluster) -> None:
    with producing(cluster, "eu") as one, producing(cluster, "eu") as same, producing(cluster, "us") as other:
        assert one.client_id == same.client_id != other.client_id


def test_from_the_name_servers_address() -> None:
    config = ClientConfig(namesrv="http://MQ_INST_12_ab.eu.example:8080")
    assert config.namespace == "MQ_INST_12_ab"
    assert config.namesrv_addresses == ("MQ_INST_12_ab.eu.example:8080",)
    assert ClientConfig(namesrv="MQ_INST_12_ab.eu.example:8080", namespace="own").namespace == "own"


@pytest.mark.parametrize("option", ["namespace", "namespace_v2"])
@pytest.mark.parametrize("value", ["a%b", "a b", 'a"b', "ä"])
def test_what_is_no_namespace(option: str, value: str) -> None:
    with pytest.raises(ConfigError, match=option):
        ClientConfig(namesrv="a:1", **{option: value})
